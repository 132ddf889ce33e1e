// SPDX-License-Identifier: BSD-3-Clause
//
// The board of a client: memory that the daemon writes and the client reads, with a slot (protocol.h, BoardSlot) for each file that the client
// reads and writes by itself. docs/direct.md, "Reads and writes without the kernel", has what a client makes of it.
//
// Invariants
// - Only the daemon's own mapping is writable: the file is sealed, and was mapped before.
// - `sequence` is odd from before a change that narrows what the client may do can be seen, until it is over. What else changes
//   is stored word by word.
// - A slot that is closed stays closed until it is given back, and is then another's.
//
// Thread safety: everything. Locks: a slot's, a leaf.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/mutex.h"
#include "direct/packets.h"
#include "direct/protocol.h"
#include "fs/types.h"
#include "inode/inode.h"
#include "mapping/state_watch.h"

namespace udax::direct {

class Board {
 public:
  /// kNoMemory, or what the system says.
  [[nodiscard]] static Result<std::shared_ptr<Board>> make();
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  /// For the client.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// kTooManyFiles.
  [[nodiscard]] Result<uint32_t> take();
  void give_back(uint32_t index);
  [[nodiscard]] BoardSlot& slot(uint32_t index) { return slots_[index]; }

 private:
  Board(OwnedFd fd, BoardSlot* slots) : fd_(std::move(fd)), slots_(slots) {}

  const OwnedFd fd_;
  BoardSlot* const slots_;
  Mutex mutex_;
  std::array<bool, kBoardSlots> taken_ UDAX_GUARDED_BY(mutex_){};
};

/// What of a mount decides what clients may do by themselves.
struct BoardPolicy {
  fs::DaxMode dax = fs::DaxMode::kInode;
  fs::DataMode data = fs::DataMode::kInPlace;
  fs::AtimeMode atime = fs::AtimeMode::kRelative;
  bool is_read_only = false;
};

/// A file on a board.
class BoardEntry final : public mapping::StateWatcher {
 public:
  /// kNoMemory, kTooManyFiles. `inode` must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<BoardEntry>> put(const std::shared_ptr<Board>& board,
                                                               const BoardPolicy& policy, inode::Inode& inode);
  ~BoardEntry() override;

  [[nodiscard]] uint32_t index() const { return index_; }
  /// For good: the client goes through the kernel from now on, and may open the file anew.
  void close();

  void change_begins() override;
  void changed(const mapping::FileState& state) override;

 private:
  BoardEntry(std::shared_ptr<Board> board, const BoardPolicy& policy, inode::Inode& inode, uint32_t index)
      : board_(std::move(board)), policy_(policy), inode_(inode), index_(index) {}
  [[nodiscard]] uint64_t rights_of(const mapping::FileState& state) const;
  [[nodiscard]] static std::atomic_ref<uint64_t> word(uint64_t& place) { return std::atomic_ref<uint64_t>(place); }
  [[nodiscard]] BoardSlot& slot() const { return board_->slot(index_); }

  const std::shared_ptr<Board> board_;
  const BoardPolicy policy_;
  inode::Inode& inode_;
  const uint32_t index_;
  Mutex mutex_;
  bool is_closed_ UDAX_GUARDED_BY(mutex_) = false;
  bool is_watching_ = false;
};

}  // namespace udax::direct
