// SPDX-License-Identifier: BSD-3-Clause
//
// How a mapping becomes the kernel's when its file has ceased to be a DAX file (op KERNEL, direct/protocol.h): what the mapper
// thread needs for it without a lock, and what it leaves behind for the others.
//
// The file is opened anew (so that the kernel caches it as it does now, and no flock(2) of the program is held by the mapping),
// mapped, and closed again by a thread with a descriptor table of its own, made for that: the program's POSIX locks of a file are
// dropped when any descriptor of it is closed in *its* table.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace udax::client {

/// Where the vaults of open files (vault.h) are, by the daemon's handle. One writer at a time; find() beside it, lock-free.
class Shelf {
 public:
  /// Without room, the file is not found: what is handed over of it is SIGBUS. (The daemon opens no more than there is room for.)
  void put(uint32_t handle, int vault);
  void remove(uint32_t handle);
  void clear();
  /// The vault's descriptor; -1: none.
  [[nodiscard]] int find(uint32_t handle) const;

 private:
  static constexpr size_t kSize = 1024;
  std::array<std::atomic<uint64_t>, kSize> slots_{};  // handle, vault + 1; 0: free
};

/// Ranges of addresses that the mapper has handed over, oldest first. One thread adds, one at a time takes.
class HandedOver {
 public:
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  HandedOver() = default;
  ~HandedOver();
  HandedOver(const HandedOver&) = delete;
  HandedOver& operator=(const HandedOver&) = delete;
  /// Has room from now on. Again: nothing. An errno, or 0.
  [[nodiscard]] int start();
  /// False: no room. There is room for twice what a client can have mapped, and each request takes what is there.
  [[nodiscard]] bool add(Range range);
  /// The oldest one, which stays. False: none.
  [[nodiscard]] bool peek(Range* range) const;
  void pop() { taken_.store(taken_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

 private:
  static constexpr uint64_t kSize = 32768;
  Range* ranges_ = nullptr;  // memory of its own, which costs nothing until it is used
  std::atomic<uint64_t> added_{0};
  std::atomic<uint64_t> taken_{0};
};

/// What is to be mapped where.
struct KernelMapping {
  uint64_t address = 0;
  uint64_t length = 0;  // bytes
  int prot = 0;
  uint64_t file_offset = 0;  // bytes
  int vault = -1;            // of the file
};

/// A stack for it; a client's mapper has one.
using ErrandStack = std::array<std::byte, 32768>;

/// Replaces what is there by a mapping of the file. `spare`: two descriptors that are closed in the table that is made for it, so that
/// there is room for two even where the program has opened all that it may. An errno, or 0. Allocates nothing, takes no lock.
[[nodiscard]] int map_by_mount(const KernelMapping& mapping, std::span<const int, 2> spare, ErrandStack& stack);

/// Makes a hole in the file, on such a thread too. An errno (EAGAIN: there can be no thread), or 0. REQUIRES: no lock that the mapper, or
/// who waits for it, needs.
[[nodiscard]] int punch_by_mount(int vault, uint64_t offset, uint64_t length, ErrandStack& stack);

}  // namespace udax::client
