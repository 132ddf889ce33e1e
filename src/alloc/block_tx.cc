// SPDX-License-Identifier: BSD-3-Clause
//
// The allocator's side of a transaction.
//
// States of a run of it
//   taken   reserved: bit set in memory, clear on the medium, counted in its group's `held`
//   freed   in use until commit. prepare() holds its blocks in their group; from finish() on it is pending
//           (bit set in memory, clear on the medium), until reaped
//
// Invariant: between prepare() and finish() or abort(), the bitmaps of all groups edited are loaded and held, and
// their edit mutexes taken: nobody reads from the medium what is being applied, and images of one bitmap enter the
// journal in the order in which they build on each other.
#include <algorithm>
#include <cstring>
#include <new>

#include "alloc/block_allocator_impl.h"
#include "format/checksum.h"

namespace udax::alloc {
namespace {

using format::GroupDesc;
using format::kGroupBlocks;

uint64_t group_of(DeviceRun run) { return run.start.value / kGroupBlocks; }

Span span_of(DeviceRun run) {
  return {static_cast<uint32_t>(run.start.value % kGroupBlocks), static_cast<uint32_t>(run.count)};
}

// The part of `run` that lies in the group of its first block.
DeviceRun first_piece(DeviceRun run) {
  return {run.start, std::min(run.count, kGroupBlocks - run.start.value % kGroupBlocks)};
}

DeviceRun overlap(DeviceRun a, DeviceRun b) {
  const DeviceBlock start = std::max(a.start, b.start);
  const DeviceBlock end = std::min(a.end(), b.end());
  return {start, start < end ? end - start : 0};
}

bool by_start(const DeviceRun& a, const DeviceRun& b) { return a.start < b.start; }

// The runs of `runs` (sorted) that lie in `group`; `at` goes on behind them.
std::span<const DeviceRun> runs_in(const std::vector<DeviceRun>& runs, uint64_t group, size_t& at) {
  const size_t first = at;
  while (at < runs.size() && group_of(runs[at]) == group) ++at;
  return {runs.data() + first, at - first};
}

uint64_t blocks_in(std::span<const DeviceRun> runs) {
  uint64_t sum = 0;
  for (const DeviceRun& run : runs) sum += run.count;
  return sum;
}

// Room for `more` push_back()s that cannot fail.
Status make_room(std::vector<DeviceRun>& runs, size_t more) try {
  const size_t need = runs.size() + more;
  if (need > runs.capacity()) runs.reserve(std::max(need, 2 * runs.capacity()));
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace

BlockTx::BlockTx(BlockAllocator& allocator) : allocator_(allocator), part_(allocator), tx_(allocator.journal()) {}

BlockTx::~BlockTx() = default;

// Late, so that a transaction that neither takes nor frees anything has no part of the allocator in its commit.
void BlockTx::join() {
  if (part_.joined_) return;
  tx_.add_participant(part_, kRank);
  part_.joined_ = true;
}

Result<DeviceRun> BlockTx::allocate(const Request& request) {
  join();
  UDAX_CHECK(make_room(part_.taken_, 1));
  UDAX_TRY(const DeviceRun run, allocator_.impl_->allocate(request, part_.budget_));
  part_.taken_.push_back(run);
  part_.budget_.add(group_of(run));
  return run;
}

Result<DeviceBlock> BlockTx::allocate_block(alloc::Purpose purpose, DeviceBlock goal) {
  Request request;
  request.goal = goal;
  request.purpose = purpose;
  UDAX_TRY(const DeviceRun run, allocate(request));
  return run.start;
}

Status BlockTx::free(DeviceRun run) {
  if (!allocator_.geometry().is_data(run.start, run.count)) {
    return meta().corrupted("block run to be freed", run.start.value);
  }
  join();
  // First all that can fail. What was taken by this transaction lies in groups that it touches already.
  size_t groups = 0;
  size_t pieces = 0;
  for (DeviceRun rest = run; rest.count > 0; ++pieces) {
    const DeviceRun piece = first_piece(rest);
    if (!part_.budget_.has(group_of(piece)) && ++groups > part_.budget_.left()) return Error::kAgain;
    rest = {piece.end(), rest.count - piece.count};
  }
  // Each taken run that it overlaps may cut one piece in two, and be cut in two itself.
  const size_t cuts = part_.taken_.size();
  UDAX_CHECK(make_room(part_.freed_, pieces + cuts));
  UDAX_CHECK(make_room(part_.taken_, cuts));
  while (run.count > 0) {
    DeviceRun piece = first_piece(run);
    // Up to the first block of it that this transaction took; or, from there on, what it took.
    bool taken = false;
    for (const DeviceRun& own : part_.taken_) {
      const DeviceRun shared = overlap(piece, own);
      if (shared.count == 0) continue;
      taken = shared.start == piece.start;
      piece.count = taken ? shared.count : shared.start - piece.start;
    }
    run = {piece.end(), run.count - piece.count};
    if (part_.give_back(piece)) continue;
    if (!part_.freed_.empty() && part_.freed_.back().end() == piece.start &&
        group_of(part_.freed_.back()) == group_of(piece)) {
      part_.freed_.back().count += piece.count;
    } else {
      part_.freed_.push_back(piece);
      part_.budget_.add(group_of(piece));
    }
  }
  return {};
}

// Gives `run` back if it lies wholly in one that was taken, of which the ends then stay.
bool BlockTx::Part::give_back(DeviceRun run) {
  for (size_t i = 0; i < taken_.size(); ++i) {
    const DeviceRun own = taken_[i];
    if (overlap(own, run) != run) continue;
    taken_[i] = taken_.back();
    taken_.pop_back();
    for (const DeviceRun end :
         {DeviceRun{own.start, run.start - own.start}, DeviceRun{run.end(), own.end() - run.end()}}) {
      if (end.count == 0) continue;
      taken_.push_back(end);  // room was made by free()
      budget_.add(group_of(end));
    }
    budget_.remove(group_of(own));
    impl().table.release(run);
    return true;
  }
  return false;
}

Status BlockTx::free_metadata(DeviceBlock b) {
  UDAX_CHECK(free({b, 1}));
  tx_.discard_block(b);
  return {};
}

bool BlockTx::nearly_full() const {
  // A step frees or takes within a run's two groups, and takes blocks of its tree in others.
  constexpr size_t kGroupsPerStep = 4;
  return part_.budget_.left() < kGroupsPerStep || tx_.nearly_full();
}

Result<Lsn> BlockTx::commit() {
  Result<Lsn> lsn = tx_.commit();
  if (lsn) allocator_.impl_->tend_pending();
  return lsn;
}

void BlockTx::abort() noexcept { tx_.abort(); }

// A set of locks known at run time only, beyond the analysis: one mutex a stripe, ascending.
void BlockTx::Part::lock_groups() noexcept UDAX_NO_THREAD_SAFETY_ANALYSIS {
  GroupTable& table = impl().table;
  locked_count_ = 0;
  for (const GroupBudget::Entry& entry : budget_.groups())
    locked_[locked_count_++] = table.edit_stripe(entry.group);
  const auto begin = locked_.begin();
  const auto end = begin + static_cast<ptrdiff_t>(locked_count_);
  std::sort(begin, end);
  locked_count_ = static_cast<size_t>(std::unique(begin, end) - begin);
  for (size_t i = 0; i < locked_count_; ++i) table.edit_mutex(locked_[i]).lock();
}

void BlockTx::Part::unlock_groups() noexcept UDAX_NO_THREAD_SAFETY_ANALYSIS {
  while (locked_count_ > 0) impl().table.edit_mutex(locked_[--locked_count_]).unlock();
}

Status BlockTx::Part::prepare(journal::Tx& tx) {
  try {
    batch_.emplace_back();
    batch_.back().runs.reserve(freed_.size());
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
  std::sort(taken_.begin(), taken_.end(), by_start);
  std::sort(freed_.begin(), freed_.end(), by_start);
  lock_groups();
  return edit_groups(tx);
}

Status BlockTx::Part::edit_groups(journal::Tx& tx) {
  size_t taken_at = 0;
  size_t freed_at = 0;
  for (const GroupBudget::Entry& entry : budget_.groups()) {
    const auto taken = runs_in(taken_, entry.group, taken_at);
    auto freed = runs_in(freed_, entry.group, freed_at);
    if (!freed.empty()) {
      const Status held = impl().table.hold(entry.group, blocks_in(freed));
      if (held) {
        batch_.back().runs.insert(batch_.back().runs.end(), freed.begin(), freed.end());
      } else if (held.error() == Error::kCorrupted) {
        freed = {};  // left alone: its blocks stay in use until fsck
      } else {
        return held;
      }
    }
    if (taken.empty() && freed.empty()) continue;
    UDAX_CHECK(edit_group(tx, entry.group, taken, freed));
  }
  return {};
}

// Brings the shadows of one group's bitmap and descriptor to where this transaction leaves them.
Status BlockTx::Part::edit_group(journal::Tx& tx, uint64_t group, std::span<const DeviceRun> taken,
                                 std::span<const DeviceRun> freed) {
  const media::Geometry& geometry = impl().geometry;
  const Result<std::byte*> desc_image = tx.edit_unit(geometry.desc_offset(group), format::Unit::kGroupDesc);
  if (!desc_image) {
    if (desc_image.error() == Error::kCorrupted) impl().table.give_up(group, "group descriptor");
    return desc_image.error();
  }
  GroupDesc desc;
  std::memcpy(&desc, *desc_image, sizeof desc);
  const uint64_t bitmap = offset_of(geometry.bitmap_block(group));
  if (tx.meta().is_lost(bitmap, kBlockSize)) {
    impl().table.give_up(group, "group bitmap, lost to a media error");
    return Error::kIo;
  }
  const bool fresh = (desc.flags.get() & format::kGroupUninit) != 0;
  UDAX_TRY(std::byte* const image,
           fresh ? tx.reset_unit(bitmap, format::Unit::kRaw) : tx.edit_unit(bitmap, format::Unit::kRaw));
  for (const DeviceRun& run : taken) {
    if (flip_image(image, span_of(run), true)) continue;
    impl().table.give_up(group, "group bitmap");  // no longer what was loaded
    return Error::kCorrupted;
  }
  for (const DeviceRun& run : freed) {
    if (!flip_image(image, span_of(run), false))
      return tx.meta().corrupted("freed run, not in use", run.start.value);
  }
  const uint64_t free = desc.free_blocks.get() + blocks_in(freed);
  const uint64_t used = blocks_in(taken);
  if (desc.group.get() != group || free < used || free - used > kGroupBlocks) {
    impl().table.give_up(group, "group descriptor");
    return Error::kCorrupted;
  }
  desc.free_blocks = static_cast<uint32_t>(free - used);
  desc.flags = desc.flags.get() & ~format::kGroupUninit;
  desc.bitmap_checksum = format::bitmap_checksum(tx.meta().seed(), image);
  std::memcpy(*desc_image, &desc, sizeof desc);
  return {};
}

void BlockTx::Part::finish(Lsn lsn) noexcept {
  for (const DeviceRun& run : taken_) impl().table.keep(run);
  for (PendingFrees::Batch& batch : batch_) batch.lsn = lsn;
  impl().pending.push(batch_);
  unlock_groups();
  taken_.clear();
  freed_.clear();
  batch_.clear();
  budget_.reset();
}

void BlockTx::Part::abort() noexcept {
  for (const PendingFrees::Batch& batch : batch_) {
    for (const DeviceRun& run : batch.runs) impl().table.unhold(group_of(run), run.count);
  }
  unlock_groups();
  for (const DeviceRun& run : taken_) impl().table.release(run);
  taken_.clear();
  freed_.clear();
  batch_.clear();
  budget_.reset();
}

}  // namespace udax::alloc
