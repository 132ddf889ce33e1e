// SPDX-License-Identifier: BSD-3-Clause
//
// Replay as docs/format.md has it, written apart from src/journal so that the two check each other. What they share is
// which places an operation may name (journal/record.h).
#include "check/image.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "journal/record.h"

namespace udax::check {
namespace {

constexpr uint64_t kCounterMax = uint64_t{1} << 62;

bool is_valid(const format::JournalSlot& slot, uint32_t seed) {
  const uint32_t sum = format::checksum_without(seed, &slot, sizeof slot, offsetof(format::JournalSlot, checksum));
  if (sum != slot.checksum) return false;
  if (slot.state != format::kJournalClean && slot.state != format::kJournalLive) return false;
  return slot.tail % kCacheLine == 0 && slot.tail < kCounterMax && slot.epoch < kCounterMax &&
         slot.sequence < kCounterMax && slot.mount_count < kCounterMax;
}

}  // namespace

struct Image::Record {
  std::vector<std::byte> bytes;  // header and operations
  uint32_t op_count = 0;
  [[nodiscard]] std::span<const std::byte> ops() const {
    return std::span(bytes).subspan(sizeof(format::RecordHeader));
  }
};

/// The whole record at `position`; false if there is none. `bad`: there is one that cannot be.
bool Image::load_record(const JournalState& state, uint64_t position, Record* out, bool* bad) const {
  const uint64_t ring_bytes = geometry_.journal_blocks * kBlockSize;
  const uint64_t ring_start = offset_of(geometry_.journal_start);
  const uint64_t room = state.tail + ring_bytes - position;
  if (room < sizeof(format::RecordHeader)) return false;
  const uint64_t at = position % ring_bytes;
  format::RecordHeader header;
  if (state.expects_records && medium_.probe(ring_start + at, sizeof header)) {
    *bad = true;  // any number of records may have stood there
    return false;
  }
  std::memcpy(&header, medium_.at(ring_start + at), sizeof header);
  const uint64_t length = header.length;
  if (header.magic != format::kRecordMagic || header.lsn != position || header.epoch != state.epoch) return false;
  if (length < sizeof header || length % kCacheLine != 0 || length > journal::record::kLengthMax ||
      length > room) {
    return false;
  }
  out->bytes.resize(length);
  const uint64_t first = std::min(length, ring_bytes - at);
  if (medium_.probe(ring_start + at, first) || (first < length && medium_.probe(ring_start, length - first))) {
    *bad = true;
    return false;
  }
  std::memcpy(out->bytes.data(), medium_.at(ring_start + at), first);
  if (first < length) std::memcpy(out->bytes.data() + first, medium_.at(ring_start), length - first);
  const uint32_t sum = format::checksum_without(seed(), out->bytes.data(), static_cast<uint32_t>(length),
                                                offsetof(format::RecordHeader, checksum));
  if (sum != header.checksum) return false;
  out->op_count = header.op_count;
  *bad = !journal::record::check_ops(geometry_, out->ops(), out->op_count);
  return !*bad;
}

JournalState Image::read_journal() const {
  JournalState state;
  const auto* control =
      reinterpret_cast<const format::JournalControl*>(medium_.block(format::kJournalControlBlock));
  const format::JournalSlot* slot = nullptr;
  for (const format::JournalSlot* candidate : {&control->slot_a, &control->slot_b}) {
    if (!is_valid(*candidate, seed())) continue;
    state.epoch_last = std::max<uint64_t>(state.epoch_last, candidate->epoch);
    if (slot == nullptr || candidate->sequence > slot->sequence) slot = candidate;
  }
  if (slot == nullptr) return state;
  state.valid = true;
  state.tail = slot->tail;
  state.end = slot->tail;
  state.sequence = slot->sequence;
  state.epoch = slot->epoch;
  state.expects_records = slot->state == format::kJournalLive;
  Record record;
  while (load_record(state, state.end, &record, &state.bad_record)) {
    state.end += record.bytes.size();
    ++state.records;
  }
  // One bad record and none is replayed, as a mount has it.
  if (state.bad_record) state.records = 0;
  state.clean = slot->state == format::kJournalClean && state.records == 0 && !state.bad_record;
  return state;
}

void Image::replay(const JournalState& state) {
  if (!state.valid || state.records == 0) return;
  Record record;
  bool bad = false;
  for (uint64_t position = state.tail; position < state.end; position += record.bytes.size()) {
    if (!load_record(state, position, &record, &bad)) return;
    journal::record::for_each_op(
        record.ops(), record.op_count,
        [this](uint64_t offset, const std::byte* bytes, uint32_t size) { store(offset, bytes, size); });
  }
}

void Image::store(uint64_t offset, const std::byte* bytes, uint32_t size) {
  const uint64_t b = offset >> kBlockShift;
  std::unique_ptr<Page>& page = overlay_[b];
  if (page == nullptr) {
    page = std::make_unique<Page>();
    std::memcpy(page->bytes.data(), medium_.block(DeviceBlock(b)), kBlockSize);
  }
  std::memcpy(page->bytes.data() + (offset & (kBlockSize - 1)), bytes, size);
}

}  // namespace udax::check
