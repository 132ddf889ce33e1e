// SPDX-License-Identifier: BSD-3-Clause
//
// Files that a client reads and writes by itself. What it may assume of them is on its board; their mappings are like others, but
// that a touch of theirs must never be a signal: where others get SIGBUS, they get memory of the client's own, after the slot was
// closed. A client looks at the slot after each copy, and does it again by a system call then.
#include <algorithm>

#include "base/sync_point.h"
#include "direct/client.h"

namespace udax::direct {

Status MappedFile::show_on(const std::shared_ptr<Board>& board, const BoardPolicy& policy) {
  UDAX_TRY(shown_, BoardEntry::put(board, policy, inode()));
  return {};
}

Status Client::make_board(const Request& request) {
  if ((request.flags & kSetupBoard) == 0) return {};
  UDAX_TRY(board_, Board::make());
  return {};
}

Status Client::show(MappedFile& file, const Request& request, Reply& out) const {
  if ((request.flags & kOpenOnBoard) == 0) return {};
  if (board_ == nullptr) return Error::kInvalid;
  const fs::MountOptions& options = shared_.fs.options();
  UDAX_CHECK(file.show_on(board_, {options.dax, options.data, options.atime, shared_.fs.read_only()}));
  out.value[2] = file.shown()->index();
  return {};
}

// A mapping that is taken back for good is inaccessible; of these, some thread may be in the middle of a copy.
void Client::retire_board() noexcept try {
  if (board_ == nullptr || UDAX_KNOB("direct.board.no_retirement")) return;
  RegionTable::Handles files;
  uint64_t sequence = 0;
  {
    const LockGuard guard(mutex_);
    files.reserve(regions_.size());
    std::vector<Span> spans;
    for (const auto& [start, region] : regions_.in({0, size_})) {
      if (region.handle->shown() == nullptr) continue;
      region.handle->shown()->close();
      spans.push_back({region.start, region.end});
    }
    for (const Span span : spans) {
      (void)drop_views(span);
      (void)send(op_on(OpType::kBus, span));
      regions_.remove(span, files);
    }
    count_regions();
    if (spans.empty()) return;
    sequence = send_barrier();
  }
  if (await(sequence)) settle_dropped(sequence);
} catch (const std::bad_alloc&) {
  break_off("took the last memory");
}

// What is read or written once is likely to be so next to it, and a fault costs more than a system call would.
void Client::map_around(uint64_t at, const MappedFile& file, uint32_t prot) {
  constexpr uint64_t kAround = 128 << 10;
  if (file.shown() == nullptr || (!is_tracking_ && (prot & kProtWrite) != 0)) return;
  Span span{align_down(at, kAround), align_down(at, kAround) + kAround};
  {
    const LockGuard guard(mutex_);
    const Region* const region = regions_.find(at);
    if (region == nullptr) return;
    span = clipped(span, region->start, region->end);
  }
  (void)map_ahead(span);
}

void Client::close_board(Ino ino) {
  const LockGuard guard(mutex_);
  for (const auto& [start, region] : regions_.in({0, size_})) {
    if (region.ino == ino && region.handle->shown() != nullptr) region.handle->shown()->close();
  }
}

}  // namespace udax::direct
