// SPDX-License-Identifier: BSD-3-Clause
#include "direct/board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "base/sync_point.h"
#include "inode/watch.h"

namespace udax::direct {
namespace {

constexpr size_t kBytes = kBoardSlots * sizeof(BoardSlot);
constexpr int kSealFutureWrite = 0x0010;  // F_SEAL_FUTURE_WRITE; its name is missing in older headers
constexpr uint32_t kSuidOrSgid = 06000;

}  // namespace

Result<std::shared_ptr<Board>> Board::make() try {
  OwnedFd fd(::memfd_create("udax-board", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.is_open() || ::ftruncate(fd.get(), kBytes) != 0) return from_errno(errno);
  void* const memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return from_errno(errno);
  std::shared_ptr<Board> board(new Board(std::move(fd), static_cast<BoardSlot*>(memory)));
  if (::fcntl(board->fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | kSealFutureWrite | F_SEAL_SEAL) != 0) {
    return from_errno(errno);
  }
  return board;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Board::~Board() { ::munmap(slots_, kBytes); }

Result<uint32_t> Board::take() {
  const LockGuard guard(mutex_);
  auto* const free = std::find(taken_.begin(), taken_.end(), false);
  if (free == taken_.end()) return Error::kTooManyFiles;
  *free = true;
  return static_cast<uint32_t>(free - taken_.begin());
}

void Board::give_back(uint32_t index) {
  const LockGuard guard(mutex_);
  taken_[index] = false;
}

Result<std::unique_ptr<BoardEntry>> BoardEntry::put(const std::shared_ptr<Board>& board, const BoardPolicy& policy,
                                                    inode::Inode& inode) try {
  UDAX_TRY(const uint32_t index, board->take());
  std::unique_ptr<BoardEntry> entry(new (std::nothrow) BoardEntry(board, policy, inode, index));
  if (entry == nullptr) {
    board->give_back(index);
    return Error::kNoMemory;
  }
  UDAX_CHECK(inode::watch(inode, *entry));
  entry->is_watching_ = true;
  return entry;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

BoardEntry::~BoardEntry() {
  if (is_watching_) inode::unwatch(inode_, *this);
  close();
  board_->give_back(index_);
}

// Who has begun to read or write before this looks again, and finds another sequence.
void BoardEntry::close() {
  const LockGuard guard(mutex_);
  if (is_closed_) return;
  is_closed_ = true;
  word(slot().rights).store(kBoardClosed, std::memory_order_relaxed);
  const uint64_t sequence = word(slot().sequence).load(std::memory_order_relaxed);
  if (!UDAX_KNOB("direct.board.keep_sequence")) {
    word(slot().sequence).store((sequence | 1) + 1, std::memory_order_seq_cst);
  }
}

void BoardEntry::change_begins() {
  const LockGuard guard(mutex_);
  if (is_closed_ || UDAX_KNOB("direct.board.keep_sequence")) return;
  const uint64_t sequence = word(slot().sequence).load(std::memory_order_relaxed);
  word(slot().sequence).store(sequence | 1, std::memory_order_seq_cst);
}

uint64_t BoardEntry::rights_of(const mapping::FileState& state) const {
  const bool is_dax = policy_.dax == fs::DaxMode::kAlways ||
                      (policy_.dax == fs::DaxMode::kInode && (state.flags & format::kFlagDax) != 0);
  // Writes that are whole must be seen as such: they take the file's lock.
  if (!is_dax || policy_.data == fs::DataMode::kAtomic) return 0;
  uint64_t rights = kBoardRead;
  constexpr uint32_t kNoWrites = format::kFlagAppend | format::kFlagImmutable | format::kFlagSync;
  // A write takes setuid, setgid and capabilities away; whether an xattr is one is not looked at.
  const bool has_privileges = (state.mode & kSuidOrSgid) != 0 || state.has_xattrs;
  if ((state.flags & kNoWrites) == 0 && !has_privileges && !policy_.is_read_only) rights |= kBoardWrite;
  if (policy_.is_read_only || policy_.atime == fs::AtimeMode::kNever ||
      (state.flags & format::kFlagNoAtime) != 0) {
    rights |= kBoardNoAtime;
  } else if (policy_.atime == fs::AtimeMode::kStrict) {
    rights |= kBoardStrictAtime;
  }
  return rights;
}

void BoardEntry::changed(const mapping::FileState& state) {
  const LockGuard guard(mutex_);
  if (is_closed_) return;
  BoardSlot& s = slot();
  const auto put = [](uint64_t& place, uint64_t value) { word(place).store(value, std::memory_order_release); };
  put(s.size, state.size);
  put(s.blocks, state.blocks);
  put(s.atime_ns, state.atime_ns);
  put(s.ctime_ns, state.ctime_ns);
  put(s.mtime_ns, state.mtime_ns);
  put(s.rights, rights_of(state));
  const uint64_t sequence = word(s.sequence).load(std::memory_order_relaxed);
  if ((sequence & 1) != 0) put(s.sequence, sequence + 1);
}

}  // namespace udax::direct
