// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile journals: the input is laid into the ring of a small pool, as records whose headers are made right (magic,
// position, epoch, checksum) where the input says so, and the pool is mounted. Replay must refuse or obey, never crash,
// and never store outside the pool.
//
// Input: per record: flags (1), number of operations (1), then per operation 12 bytes: offset (6), length (2), fill (4).
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "format/checksum.h"
#include "fs/filesystem.h"
#include "tests/fuzz/seed_pool.h"
#include "tests/support/cow_medium.h"

namespace udax {
namespace {

using fuzz::kPoolSize;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  bool take(void* out, size_t size) {
    if (left_ < size) return false;
    std::memcpy(out, data_, size);
    data_ += size;
    left_ -= size;
    return true;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

std::vector<std::byte> make_record(Input& in, uint8_t flags, uint8_t ops, uint64_t lsn, uint64_t epoch,
                                   uint32_t seed) {
  std::vector<std::byte> record(sizeof(format::RecordHeader));
  uint32_t count = 0;
  for (; count < ops && record.size() < 32768; ++count) {
    uint64_t offset = 0;
    uint16_t length = 0;
    uint32_t fill = 0;
    if (!in.take(&offset, 6) || !in.take(&length, 2) || !in.take(&fill, 4)) break;
    format::RecordOp op{};
    op.offset = (flags & 2) != 0 ? offset : offset % kPoolSize;
    op.length = (flags & 4) != 0 ? length : length % 4096 + 1U;
    const size_t at = record.size();
    record.resize(at + sizeof op + align_up(std::min<uint32_t>(op.length, 8192), 8));
    std::memcpy(record.data() + at, &op, sizeof op);
    for (size_t i = at + sizeof op; i + 4 <= record.size(); i += 4) std::memcpy(record.data() + i, &fill, 4);
  }
  record.resize(align_up(record.size(), 64));
  format::RecordHeader header{};
  header.magic = format::kRecordMagic;
  header.lsn = (flags & 8) != 0 ? lsn + 64 : lsn;
  header.epoch = (flags & 16) != 0 ? epoch - 1 : epoch;
  header.length = (flags & 32) != 0 ? 0xFFFFFFC0U : static_cast<uint32_t>(record.size());
  header.op_count = (flags & 64) != 0 ? count + 1 : count;
  std::memcpy(record.data(), &header, sizeof header);
  if ((flags & 1) == 0) {
    header.checksum = format::checksum_without(seed, record.data(), static_cast<uint32_t>(record.size()),
                                               offsetof(format::RecordHeader, checksum));
    std::memcpy(record.data(), &header, sizeof header);
  }
  return record;
}

void lay_records(media::MemoryMedium& medium, Input in) {
  const auto& super = *medium.as<format::Superblock>(0);
  const auto& control = *medium.as<format::JournalControl>(offset_of(format::kJournalControlBlock));
  const format::JournalSlot& slot =
      control.slot_b.sequence > control.slot_a.sequence ? control.slot_b : control.slot_a;
  const uint32_t seed = format::checksum_seed(super.uuid);
  const uint64_t ring = super.journal_blocks * kBlockSize;
  std::byte* const start = medium.raw() + super.journal_start * kBlockSize;
  uint64_t lsn = slot.tail;
  uint8_t head[2];
  while (in.take(head, sizeof head) && lsn < slot.tail + ring) {
    const std::vector<std::byte> record = make_record(in, head[0], head[1], lsn, slot.epoch, seed);
    for (size_t i = 0; i < record.size(); ++i) start[(lsn + i) % ring] = record[i];
    lsn += record.size();
  }
}

}  // namespace
}  // namespace udax

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace udax;
  static fuzz::SeedPool seed;
  static auto medium = std::make_shared<test::CowMedium>(seed.medium);
  medium->restore();
  lay_records(*medium, Input(data, size));
  auto mounted = fs::Filesystem::mount(medium, {}, nullptr);
  if (!mounted) return 0;
  static_cast<void>((*mounted)->make(kRootIno, "d", 0040755, 0, 0, {}));
  static_cast<void>((*mounted)->lookup(kRootIno, "d"));
  static_cast<void>((*mounted)->unmount());
  return 0;
}
