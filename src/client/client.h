// SPDX-License-Identifier: BSD-3-Clause
//
// This process as a client of one pool's daemon: the connection, the span of addresses that it may map in, its mapper and its
// watchdog, and the table of what is mapped. A process has one for each pool that it maps files of.
//
// The span
//   The daemon knows the reservation as one range of addresses. Here that is a large part of the address space, of which only
//   the ranges that are mapped are the library's: each is reserved, registered with the fault descriptor and kept from
//   children when it is mapped, and given back to the kernel when it is unmapped. So a mapping can also replace
//   what a program has reserved by itself (MAP_FIXED), as libpmem2 does, and there is no address space to
//   manage. The staging area is a mirror of the whole span; nothing in it is ever touched.
//
// Death of the daemon
//   The watchdog sleeps on the life socket. At its end of file it maps an empty file over every view, wakes who waits in a fault, and
//   reads the fault descriptor in the daemon's place until nothing waits any more: SIGBUS instead of a hang.
//
// DAX files that are no more
//   The mapper replaces a mapping by the kernel's when the daemon says so (handover.h), and leaves a note. Whoever holds mutex_
//   looks for notes first, and after each answer of the daemon's.
//
// Locks: mutex_ over everything; it is held while the daemon is asked, one request at a time. The mapper takes no lock; the
// watchdog tries only, since the holder may be in a fault (of the program's own allocator, say) that it has to end.
//
// Errors are errno values, positive; 0: done. Objects live as long as the process: threads of theirs may.
#pragma once

#include <pthread.h>
#include <udax/ioctl.h>
#include <udax/udax.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "client/control.h"
#include "client/handover.h"
#include "client/mapper.h"
#include "client/ranges.h"
#include "client/views.h"

namespace udax::client {

/// How udax_map's arguments come here.
struct MapWish {
  uint64_t address = 0;  // a hint, or with `fixed` the place
  uint64_t length = 0;   // bytes
  int prot = 0;
  bool fixed = false;  // replace what is there
  bool sync = false;
  bool populate = false;
  int fd = -1;
  uint64_t file_offset = 0;
};

/// Instead of an errno: something of the range has become the kernel's in the meantime; ask again who has what of it.
inline constexpr int kHandedOver = -1;

/// A file that is read and written for the program: a view of it from its first byte on, and what the daemon says of it.
struct IoView {
  uint64_t address = 0;
  uint64_t length = 0;  // bytes
  bool is_writable = false;
  const direct::BoardSlot* slot = nullptr;
};

/// EBADF: not open, or O_PATH; EACCES: not for reading; ENOSYS: not a regular file.
[[nodiscard]] int identify(int fd, FileId* id);

class Client {
 public:
  /// Connects and sets up.
  [[nodiscard]] static int open(const udax_ioc_direct& leave, std::unique_ptr<Client>* out);
  /// The same, for take_on() alone.
  [[nodiscard]] static int open_for_io(const udax_ioc_direct& leave, std::unique_ptr<Client>* out);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] bool is_of(const udax_ioc_direct& leave) const {
    return pool_[0] == leave.pool[0] && pool_[1] == leave.pool[1];
  }
  [[nodiscard]] bool is_dead() const { return dead_.load(std::memory_order_acquire); }

  /// It has the file open in this mode already: no new leave is needed.
  [[nodiscard]] bool knows(const FileId& id) UDAX_EXCLUDES(mutex_);
  /// `leave`: for the file, if there is one (its cookie is used up), or null.
  int map(const MapWish& wish, const udax_ioc_direct* leave, uint64_t* address) UDAX_EXCLUDES(mutex_);
  /// What of the range is mapped here; then the addresses are free, or, with `keep`, kept, inaccessible and no longer ours.
  int unmap(uint64_t address, uint64_t length, bool keep) UDAX_EXCLUDES(mutex_);
  int remap(uint64_t address, uint64_t old_length, uint64_t new_length, bool may_move, uint64_t* moved)
      UDAX_EXCLUDES(mutex_);
  // The next five: kHandedOver, if not all of the range is mapped here (any more).
  int covered(uint64_t address, uint64_t length) UDAX_EXCLUDES(mutex_);
  int sync(uint64_t address, uint64_t length) UDAX_EXCLUDES(mutex_);
  int protect(uint64_t address, uint64_t length, int prot) UDAX_EXCLUDES(mutex_);
  int advise(uint64_t address, uint64_t length, int advice) UDAX_EXCLUDES(mutex_);
  /// madvise(MADV_REMOVE). EACCES: not mapped for stores.
  int punch(uint64_t address, uint64_t length) UDAX_EXCLUDES(mutex_);
  int query(uint64_t address, uint64_t length, udax_mapping* mapping) UDAX_EXCLUDES(mutex_);

  // Of what has become the kernel's (client_kernel.cc):
  /// True if `address` is of such a mapping; `*end`, at most what it was: where that ends.
  [[nodiscard]] bool is_kernels(uint64_t address, uint64_t* end) UDAX_EXCLUDES(mutex_);
  int unmap_kernels(uint64_t address, uint64_t length) UDAX_EXCLUDES(mutex_);
  int remap_kernels(uint64_t address, uint64_t old_length, uint64_t new_length, bool may_move, uint64_t* moved)
      UDAX_EXCLUDES(mutex_);

  // Of a client for I/O (client_board.cc):
  /// `leave`: for the file, open for writing if `writable`. `length`: of the view, which may go beyond the file's end.
  int take_on(const udax_ioc_direct& leave, bool writable, uint64_t length, IoView* out) UDAX_EXCLUDES(mutex_);
  /// REQUIRES: nobody reads or writes there any more.
  void let_go(const IoView& view) UDAX_EXCLUDES(mutex_);
  /// In a forked child, instead of the others below. REQUIRES: before_fork() before.
  void abandon_in_child() UDAX_NO_THREAD_SAFETY_ANALYSIS;

  /// Quick, and may err on the side of true.
  [[nodiscard]] bool may_overlap(uint64_t address, uint64_t end) const {
    return address < high_.load(std::memory_order_acquire) && end > low_.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool overlaps(uint64_t address, uint64_t end) UDAX_EXCLUDES(mutex_);
  /// True if `address` is ours; `*end`: where that ends, or where the next that is ours begins (UINT64_MAX: none).
  [[nodiscard]] bool piece(uint64_t address, uint64_t* end) UDAX_EXCLUDES(mutex_);

  // Around fork(2): the first two in the parent, the first and the last in the child, which gets a connection of its own. Where
  // that fails a view becomes the kernel's mapping of the file, which is coherent too.
  void before_fork() UDAX_NO_THREAD_SAFETY_ANALYSIS { mutex_.lock(); }
  void after_fork_parent() UDAX_NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }
  void after_fork_child() UDAX_NO_THREAD_SAFETY_ANALYSIS;

 private:
  Client() = default;

  // client_setup.cc
  int start(const udax_ioc_direct& leave) UDAX_REQUIRES(mutex_);
  int make_span(uint64_t size_max) UDAX_REQUIRES(mutex_);
  int make_fault_descriptors(const Descriptor& device) UDAX_REQUIRES(mutex_);
  int set_up(const direct::Reply& welcome) UDAX_REQUIRES(mutex_);
  int start_threads() UDAX_REQUIRES(mutex_);
  void close_all() UDAX_REQUIRES(mutex_);
  static Descriptor make_empty_file();
  static void* mapper_main(void* self);
  static void* watchdog_main(void* self);

  // client_board.cc
  int take_board(const Descriptor& board) UDAX_REQUIRES(mutex_);
  void forget_board() UDAX_REQUIRES(mutex_);

  // client_watch.cc
  void watch();
  bool bury() UDAX_EXCLUDES(mutex_);
  void serve_fault(bool buried, int timeout_ms);

  // client_fork.cc
  void revive() UDAX_REQUIRES(mutex_);
  int reconnect() UDAX_REQUIRES(mutex_);
  int map_by_kernel(uint64_t begin, const View& view) UDAX_REQUIRES(mutex_);
  int revive_view(uint64_t begin, const View& view) UDAX_REQUIRES(mutex_);

  // client.cc
  [[nodiscard]] std::shared_ptr<File> find_file(const FileId& id) const UDAX_REQUIRES(mutex_);
  int file_for(int fd, const udax_ioc_direct* leave, std::shared_ptr<File>* out) UDAX_REQUIRES(mutex_);
  int open_file(int fd, const udax_ioc_direct* leave, File* file) UDAX_REQUIRES(mutex_);
  /// The request alone; `flags`: kOpen....
  int open_by(const udax_ioc_direct& leave, uint32_t flags, File* file, direct::Reply* reply)
      UDAX_REQUIRES(mutex_);
  void close_unused_files() UDAX_REQUIRES(mutex_);
  int find_place(const MapWish& wish, uint64_t* address) UDAX_REQUIRES(mutex_);
  int adopt(uint64_t address, uint64_t length) UDAX_REQUIRES(mutex_);
  int map_view(const MapWish& wish, View* view, uint64_t* address) UDAX_REQUIRES(mutex_);
  int request_map(uint64_t begin, const View& view, bool populate) UDAX_REQUIRES(mutex_);
  int unmap_locked(uint64_t begin, uint64_t end, bool keep) UDAX_REQUIRES(mutex_);

  // client_remap.cc
  int grow(uint64_t begin, uint64_t old_end, uint64_t new_end) UDAX_REQUIRES(mutex_);
  int move(uint64_t begin, uint64_t old_end, uint64_t new_length, uint64_t* moved) UDAX_REQUIRES(mutex_);
  int request_remap(uint64_t begin, uint64_t old_end, uint64_t to, uint64_t to_end) UDAX_REQUIRES(mutex_);

  // client_kernel.cc
  /// Takes note of what the mapper has handed over.
  void settle() UDAX_REQUIRES(mutex_);
  int call(const direct::Request& request, direct::Reply* reply) UDAX_REQUIRES(mutex_);
  [[nodiscard]] int unless_moved(int error, uint64_t begin, uint64_t end) const UDAX_REQUIRES(mutex_);

  int ask(direct::RequestType type, uint64_t address, uint64_t length, direct::Reply* reply) UDAX_REQUIRES(mutex_);
  direct::Request range_request(direct::RequestType type, uint64_t address, uint64_t length) const;
  [[nodiscard]] bool in_span(uint64_t address, uint64_t length) const;
  void update_bounds() UDAX_REQUIRES(mutex_);

  Mutex mutex_;
  Control control_ UDAX_GUARDED_BY(mutex_);
  ViewTable views_ UDAX_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<File>> files_ UDAX_GUARDED_BY(mutex_);
  Ranges kernels_ UDAX_GUARDED_BY(mutex_);  // may tell of what the program has unmapped behind our back

  // Constant from set-up on (but for a forked child's second set-up, before it has threads).
  uint64_t pool_[2] = {};
  uint32_t granularity_ = 0;
  uint64_t mappings_max_ = 0;
  bool is_for_io_ = false;
  const direct::BoardSlot* board_ = nullptr;  // of a client for I/O
  Memory memory_;
  // The mapper's, beside those who hold mutex_.
  Shelf shelf_;
  HandedOver handed_over_;
  ErrandStack errand_stack_{};
  Descriptor fault_;
  Descriptor tracking_;
  Descriptor pool_file_;
  Descriptor empty_;
  Descriptor stream_;
  Descriptor life_;
  pthread_t mapper_{};
  pthread_t watchdog_{};

  std::atomic<bool> dead_{false};
  std::atomic<uint64_t> low_{UINT64_MAX};  // bounds of the views
  std::atomic<uint64_t> high_{0};
};

}  // namespace udax::client
