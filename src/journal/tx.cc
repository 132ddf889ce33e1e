// SPDX-License-Identifier: BSD-3-Clause
#include "journal/tx.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/sync_point.h"
#include "journal/image_arena.h"
#include "journal/record.h"

namespace udax::journal {

using format::Unit;

namespace {

/// Knobs of test builds: units whose changes are stored in place without being journaled.
struct Forgotten {
  std::string_view knob;
  Unit unit;
};
constexpr Forgotten kForgotten[] = {
    {"journal.forget_inodes", Unit::kInode}, {"journal.forget_chunks", Unit::kChunk},
    {"journal.forget_shards", Unit::kShard}, {"journal.forget_descriptors", Unit::kGroupDesc},
    {"journal.forget_bitmaps", Unit::kRaw},  {"journal.forget_blocks", Unit::kBlock},
};

}  // namespace

/// What a thread keeps from one transaction for the next.
struct Tx::Scratch {
  std::vector<Shadow> shadows;
  std::vector<std::byte> ops;
};

Tx::Scratch& Tx::scratch() {
  thread_local Scratch instance;
  return instance;
}

Tx::Tx(Journal& journal) : journal_(journal) { shadows_.swap(scratch().shadows); }

Tx::~Tx() {
  abort();
  if (shadows_.capacity() > scratch().shadows.capacity()) shadows_.swap(scratch().shadows);
}

// --- Looking up -------------------------------------------------------------------------------------------------

Tx::Found Tx::find(uint64_t offset, Unit unit, uint32_t size) const {
  const auto is_exact = [&](const Shadow& s) { return s.offset == offset && s.unit == unit && !s.dropped; };
  if (last_found_ < shadows_.size() && is_exact(shadows_[last_found_])) {
    return {Match::kExact, &shadows_[last_found_]};
  }
  const Shadow* inside = nullptr;
  bool conflict = false;
  bool dropped = false;
  for (const Shadow& s : shadows_) {
    if (s.offset >= offset + size || offset >= s.offset + s.size) continue;
    if (is_exact(s)) {
      last_found_ = static_cast<uint32_t>(&s - shadows_.data());
      return {Match::kExact, &s};
    }
    if (s.dropped) {
      dropped = true;
    } else if (s.fresh && s.unit == Unit::kRaw) {
      inside = &s;
    } else {
      conflict = true;
    }
  }
  if (conflict) return {Match::kConflict, nullptr};
  if (inside != nullptr) return {Match::kInside, inside};
  return {dropped ? Match::kDropped : Match::kNone, nullptr};
}

/// find(), and kCorrupted for a place where no unit may be, or that is something else in this transaction.
Result<Tx::Found> Tx::find_unit(uint64_t offset, Unit unit, uint32_t size) const {
  if (unit == Unit::kSuperblock || offset % size != 0 || !record::may_target(meta().geometry(), offset, size)) {
    return meta().corrupted("a metadata unit out of bounds", offset);
  }
  const Found found = find(offset, unit, size);
  if (found.match == Match::kConflict || found.match == Match::kDropped) {
    return meta().corrupted("a place that is two things at once", offset);
  }
  return found;
}

/// The unit on the medium, if sealed.
Result<const std::byte*> Tx::check_unit(uint64_t offset, Unit unit, uint32_t size) const {
  if (meta().is_lost(offset, size)) [[unlikely]]
    return meta().lost("a metadata unit", offset);
  const std::byte* image = meta().medium().at(offset);
  const bool is_sealed = format::is_sealed(meta().seed(), unit, image);
  if (meta().is_lost(offset, size)) [[unlikely]]
    return meta().lost("a metadata unit", offset);
  if (is_sealed || UDAX_KNOB("journal.skip_unit_checksum")) return image;
  // A slot that was never used: its chunk began as zeroes.
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  if (unit == Unit::kInode && std::all_of(image, image + size, is_zero)) return image;
  return meta().corrupted("a metadata unit with a wrong checksum", offset);
}

Status Tx::check_header(const std::byte* image, DeviceBlock b, format::BlockKind kind, uint64_t owner) const {
  const auto* header = reinterpret_cast<const format::BlockHeader*>(image);
  if (header->kind == kind && header->owner == owner) return {};
  return meta().corrupted("a metadata block of another kind or owner", b.value);
}

Result<const std::byte*> Tx::read_block(DeviceBlock b, format::BlockKind kind, uint64_t owner) const {
  if (shadows_.empty() || !meta().geometry().is_data(b, 1)) return meta().read(b, kind, owner);
  UDAX_TRY(const Found found, find_unit(offset_of(b), Unit::kBlock, kBlockSize));
  if (found.match == Match::kNone) return meta().read(b, kind, owner);
  if (found.match == Match::kInside) return meta().corrupted("a place that is two things at once", offset_of(b));
  UDAX_CHECK(check_header(found.shadow->image, b, kind, owner));
  return static_cast<const std::byte*>(found.shadow->image);
}

Result<const std::byte*> Tx::read_unit(uint64_t offset, Unit unit) const {
  const uint32_t size = format::unit_size(unit);
  UDAX_TRY(const Found found, find_unit(offset, unit, size));
  if (found.match == Match::kNone) return check_unit(offset, unit, size);
  return static_cast<const std::byte*>(found.shadow->image + (offset - found.shadow->offset));
}

// --- Editing ----------------------------------------------------------------------------------------------------

/// A new shadow, its image undefined.
Result<std::byte*> Tx::add(uint64_t offset, Unit unit, uint32_t size) {
  UDAX_ASSERT(state_ == State::kOpen);
  std::byte* image = ImageArena::local().take(size);
  if (image == nullptr) return Error::kNoMemory;
  try {
    shadows_.push_back(Shadow{.offset = offset, .image = image, .size = size, .unit = unit});
  } catch (const std::bad_alloc&) {
    ImageArena::local().give(image, size);
    return Error::kNoMemory;
  }
  last_found_ = static_cast<uint32_t>(shadows_.size() - 1);
  return image;
}

/// A shadow that is a part of `block`'s image.
Result<std::byte*> Tx::add_nested(const Shadow& block, uint64_t offset, Unit unit, uint32_t size) {
  UDAX_ASSERT(state_ == State::kOpen);
  std::byte* image = block.image + (offset - block.offset);
  try {  // `block` may move
    shadows_.push_back(
        Shadow{.offset = offset, .image = image, .size = size, .unit = unit, .fresh = true, .nested = true});
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
  return image;
}

Result<std::byte*> Tx::edit_block(DeviceBlock b, format::BlockKind kind, uint64_t owner) {
  UDAX_TRY(const std::byte* const present, read_block(b, kind, owner));
  const Found found = find(offset_of(b), Unit::kBlock, kBlockSize);
  if (found.match == Match::kExact) return found.shadow->image;
  if (found.match != Match::kNone) return meta().corrupted("a place that is two things at once", offset_of(b));
  UDAX_TRY(std::byte* const image, add(offset_of(b), Unit::kBlock, kBlockSize));
  std::memcpy(image, present, kBlockSize);
  return image;
}

Result<std::byte*> Tx::edit_unit(uint64_t offset, Unit unit) {
  const uint32_t size = format::unit_size(unit);
  UDAX_TRY(const Found found, find_unit(offset, unit, size));
  if (found.match == Match::kExact) return found.shadow->image;
  if (found.match == Match::kInside) return add_nested(*found.shadow, offset, unit, size);
  UDAX_TRY(const std::byte* const present, check_unit(offset, unit, size));
  UDAX_TRY(std::byte* const image, add(offset, unit, size));
  std::memcpy(image, present, size);
  return image;
}

Result<std::byte*> Tx::reset_unit(uint64_t offset, Unit unit) {
  const uint32_t size = format::unit_size(unit);
  UDAX_TRY(const Found found, find_unit(offset, unit, size));
  std::byte* image = nullptr;
  if (found.match == Match::kInside) {
    UDAX_TRY(image, add_nested(*found.shadow, offset, unit, size));
  } else if (found.match == Match::kExact) {
    image = found.shadow->image;
    shadows_[static_cast<size_t>(found.shadow - shadows_.data())].whole = true;
  } else {
    UDAX_TRY(image, add(offset, unit, size));
    shadows_.back().whole = true;
  }
  std::memset(image, 0, size);
  return image;
}

Result<std::byte*> Tx::add_fresh(DeviceBlock b, Unit unit) {
  if (!meta().geometry().is_data(b, 1)) return meta().corrupted("a block allocated out of bounds", b.value);
  const Match match = find(offset_of(b), unit, kBlockSize).match;
  if (match != Match::kNone && match != Match::kDropped) {
    return meta().corrupted("a block allocated that is in use", b.value);
  }
  UDAX_TRY(std::byte* const image, add(offset_of(b), unit, kBlockSize));
  shadows_.back().fresh = true;
  std::memset(image, 0, kBlockSize);
  return image;
}

Result<std::byte*> Tx::create_block(DeviceBlock b, format::BlockKind kind, uint64_t owner) {
  UDAX_TRY(std::byte* const image, add_fresh(b, Unit::kBlock));
  format::BlockHeader header{};
  header.magic = format::kBlockMagic;
  header.block = b.value;
  header.owner = owner;
  header.kind = static_cast<uint16_t>(kind);
  std::memcpy(image, &header, sizeof header);
  return image;
}

Result<std::byte*> Tx::create_raw_block(DeviceBlock b) { return add_fresh(b, Unit::kRaw); }

void Tx::discard_block(DeviceBlock b) {
  UDAX_ASSERT(state_ == State::kOpen);
  if (!meta().geometry().is_data(b, 1)) return;
  // The images stay until the end: callers may still look at what they got.
  for (Shadow& s : shadows_) {
    if (align_down(s.offset, kBlockSize) == offset_of(b)) s.dropped = true;
  }
  try {
    shadows_.push_back(Shadow{.offset = offset_of(b), .size = kBlockSize, .dropped = true});
  } catch (const std::bad_alloc&) {
    out_of_memory_ = true;
  }
}

void Tx::add_participant(Participant& p, int rank) {
  UDAX_ASSERT(state_ == State::kOpen && participant_count_ < kParticipantsMax);
  uint32_t at = participant_count_++;
  for (; at > 0 && participants_[at - 1].rank > rank; --at) participants_[at] = participants_[at - 1];
  participants_[at] = Entry{&p, rank};
}

bool Tx::nearly_full() const {
  // One more step: a path of a directory and one of an extent tree, each node with a sibling, and the inodes,
  // chunk header and shard on the way. Bitmaps and descriptors come at commit and have a share of their own in
  // kTxBytesMax; how many groups are in it the allocator counts.
  constexpr uint32_t kOp = sizeof(format::RecordOp);
  constexpr uint32_t kGroupShare = kGroupsPerTx * (kUnitBytesMax + sizeof(format::GroupDesc) + kOp);
  constexpr uint32_t kBudget = kTxBytesMax - sizeof(format::RecordHeader) - kGroupShare;
  constexpr uint32_t kStepUnits = 2 * format::kTreeLevelsMax;
  constexpr uint32_t kStepSmallUnits = 4;
  constexpr uint32_t kStep = kStepUnits * kUnitBytesMax + kStepSmallUnits * (format::kInodeSize + kOp);
  static_assert(2 * kStep < kBudget);

  uint32_t used = 0;
  for (const Shadow& s : shadows_) {
    if (!s.fresh && !s.dropped) used += s.size + kOp;
  }
  return used > kBudget - kStep;
}

// --- The end ----------------------------------------------------------------------------------------------------

Result<Lsn> Tx::commit() {
  UDAX_ASSERT(state_ == State::kOpen);
  if (shadows_.empty() && participant_count_ == 0 && !data_pending_) {
    state_ = State::kCommitted;
    return journal_.tail();
  }
  Status prepared;
  if (out_of_memory_) prepared = Error::kNoMemory;
  // Asked before anything is stored; append() asks again, for good.
  if (journal_.failed() || meta().medium().read_only()) prepared = Error::kReadOnly;
  for (uint32_t i = 0; i < participant_count_ && prepared; ++i) {
    prepared = participants_[i].participant->prepare(*this);
  }
  if (!prepared) {
    abort();
    return prepared.error();
  }
  const Result<Lsn> lsn = commit_prepared();
  if (!lsn) {
    abort();
    return lsn;
  }
  settle();
  for (uint32_t i = participant_count_; i > 0; --i) participants_[i - 1].participant->finish(*lsn);
  release();
  state_ = State::kCommitted;
  return lsn;
}

/// From the last edit to the record in place. An error: nothing was committed.
Result<Lsn> Tx::commit_prepared() {
  for (const Shadow& s : shadows_) {
    if (!s.dropped) format::seal(meta().seed(), s.unit, s.image);
  }
  std::vector<std::byte>& ops = scratch().ops;
  UDAX_TRY(const uint32_t op_count, encode(ops));
  const bool is_disordered = UDAX_KNOB("journal.fresh_after_record");
  if (!is_disordered) UDAX_CHECK(write_fresh());
  UDAX_SYNC_POINT("journal.commit.fresh_written");
  // Nothing to redo, and so nothing that points at a fresh block either.
  if (op_count == 0) return journal_.tail();
  if (UDAX_KNOB("journal.apply_before_record")) UDAX_CHECK(apply(ops, op_count));
  UDAX_TRY(const Lsn lsn, append(ops, op_count));
  if (is_disordered) UDAX_CHECK(write_fresh());
  if (apply(ops, op_count)) {
    UDAX_SYNC_POINT("journal.commit.applied");
    journal_.applied(lsn);
  } else {
    // The record is committed: replay will do what could not be made durable here, and every reader of the mapping
    // sees it already. So this transaction has happened. But it must not count as applied: the tail must never
    // pass it.
    journal_.fail(meta().medium().failed_by_loss() ? "metadata that was changed is lost to a media error"
                                                   : "a committed record could not be made durable in place");
  }
  return lsn;
}

/// Appends the record; in test builds, without what a knob says is forgotten.
Result<Lsn> Tx::append(const std::vector<std::byte>& ops, uint32_t op_count) const {
  if constexpr (sync_point::kCompiledIn) {
    for (const Forgotten& f : kForgotten) {
      if (!sync_point::knob(f.knob)) continue;
      std::vector<std::byte> fewer;
      UDAX_TRY(const uint32_t count, encode(fewer, f.unit));
      return journal_.append(fewer, count);
    }
  }
  return journal_.append(ops, op_count);
}

/// The redo operations of all that is not written around the journal. How many.
Result<uint32_t> Tx::encode(std::vector<std::byte>& ops, std::optional<Unit> but) const {
  uint32_t op_count = 0;
  ops.clear();
  try {
    for (const Shadow& s : shadows_) {
      if (s.fresh || s.dropped || s.unit == but) continue;
      if (s.whole && !UDAX_KNOB("journal.whole_by_difference")) {
        // In full: what the medium shows there may never have been made durable, so that a difference to it would
        // prove nothing.
        record::add_op(ops, s.offset, s.image, s.size);
        ++op_count;
      } else {
        op_count += record::add_difference(ops, s.offset, meta().medium().at(s.offset), s.image, s.size);
      }
    }
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
  return op_count;
}

/// Writes the fresh blocks, and makes them and the caller's data durable. It must happen before the record is so
/// much as stored: its lines may be evicted, and so be durable, at any moment after that.
Status Tx::write_fresh() {
  bool undrained = data_pending_ && !UDAX_KNOB("journal.ignore_data_pending");
  for (const Shadow& s : shadows_) {
    if (!s.fresh || s.dropped || s.nested) continue;
    if (UDAX_KNOB("journal.fresh_cached")) {
      meta().medium().store(s.offset, s.image, s.size);
    } else {
      meta().medium().store_nt(s.offset, s.image, s.size);
    }
    undrained = true;
  }
  if (!undrained || UDAX_KNOB("journal.skip_fresh_drain")) return {};
  if (meta().medium().drain()) return {};
  // Nothing points at what was stored to lost pages; the rest is durable.
  if (!meta().medium().failed_by_loss()) journal_.fail("new blocks or data could not be made durable");
  return Error::kIo;
}

Status Tx::apply(const std::vector<std::byte>& ops, uint32_t op_count) {
  media::Medium& medium = meta().medium();
  record::for_each_op(ops, op_count, [&medium](uint64_t offset, const std::byte* bytes, uint32_t length) {
    medium.store(offset, bytes, length);
    if (!UDAX_KNOB("journal.skip_apply_flush")) medium.flush(offset, length);
  });
  if (UDAX_KNOB("journal.skip_apply_drain")) return {};
  return medium.drain();
}

/// What this transaction wrote need not be checked when it is read back; what it freed must be when it is used
/// again.
void Tx::settle() const {
  for (const Shadow& s : shadows_) {
    if (s.dropped && s.size == kBlockSize) meta().forget(DeviceBlock(s.offset >> kBlockShift));
  }
  for (const Shadow& s : shadows_) {  // after: a dropped block may have been made anew
    if (!s.dropped && s.unit == Unit::kBlock) meta().trust(DeviceBlock(s.offset >> kBlockShift));
  }
}

void Tx::abort() noexcept {
  if (state_ != State::kOpen) return;
  state_ = State::kAborted;
  for (uint32_t i = participant_count_; i > 0; --i) participants_[i - 1].participant->abort();
  release();
}

void Tx::release() noexcept {
  for (const Shadow& s : shadows_) {
    if (s.image != nullptr && !s.nested) ImageArena::local().give(s.image, s.size);
  }
  shadows_.clear();
  participant_count_ = 0;
}

}  // namespace udax::journal
