// SPDX-License-Identifier: BSD-3-Clause
//
// What this process has mapped directly: ranges of addresses, and the files behind them. A table; it maps nothing.
//
// Invariants: views do not overlap, are whole pages, and are never empty.
// Not thread-safe. Only insert() and split_at() allocate (and may throw std::bad_alloc); they are called before the daemon is
// asked, so that what it has done can always be written down.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>

#include "client/descriptor.h"

namespace udax::client {

/// What a descriptor has open, and how.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool writable = false;
  bool operator==(const FileId&) const = default;
};

/// A file that has been opened with the daemon, in one mode.
struct File {
  FileId id;
  bool is_open = false;  // `handle` is the name by which the daemon knows it
  uint32_t handle = 0;
  // The end of a socket that holds the program's descriptor in flight: a forked child takes it out, to prove that it has the
  // file open. A descriptor kept beside it would not do: closing that would drop the process's POSIX locks of the file.
  Descriptor vault;
};

struct View {
  uint64_t end = 0;  // address behind its last byte
  int prot = 0;
  bool sync = false;  // MAP_SYNC was asked for
  std::shared_ptr<File> file;
  uint64_t file_offset = 0;  // of its first byte
};

class ViewTable {
 public:
  using Map = std::map<uint64_t, View>;  // by the address of the first byte

  /// REQUIRES: nothing there.
  void insert(uint64_t begin, const View& view) { views_.emplace(begin, view); }
  /// Makes `address` a border between views, if it lies within one.
  void split_at(uint64_t address);
  /// Forgets what lies in [begin, end). REQUIRES: both are borders.
  void erase(uint64_t begin, uint64_t end) { views_.erase(views_.lower_bound(begin), views_.lower_bound(end)); }
  /// REQUIRES: both are borders.
  void set_prot(uint64_t begin, uint64_t end, int prot);

  /// Makes the pieces of [begin, end) one view, up to `new_end`. REQUIRES: is_one(), borders, and nothing behind.
  void set_end(uint64_t begin, uint64_t end, uint64_t new_end);

  [[nodiscard]] bool overlaps(uint64_t begin, uint64_t end) const;
  /// Every byte is of some view.
  [[nodiscard]] bool covers(uint64_t begin, uint64_t end) const;
  /// The view that holds `address`, or null; `*begin`: its first byte.
  [[nodiscard]] const View* find(uint64_t address, uint64_t* begin) const;
  /// The range's views are one mapping throughout: same file, offsets that go on, same protection.
  [[nodiscard]] bool is_one(uint64_t begin, uint64_t end) const;
  /// Address of the first view's first byte in [from, ...), or UINT64_MAX.
  [[nodiscard]] uint64_t next(uint64_t from) const;

  [[nodiscard]] bool empty() const { return views_.empty(); }
  [[nodiscard]] const Map& all() const { return views_; }
  [[nodiscard]] uint64_t low() const { return views_.empty() ? UINT64_MAX : views_.begin()->first; }
  [[nodiscard]] uint64_t high() const { return views_.empty() ? 0 : views_.rbegin()->second.end; }

 private:
  Map views_;
};

}  // namespace udax::client
