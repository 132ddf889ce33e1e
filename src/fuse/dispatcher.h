// SPDX-License-Identifier: BSD-3-Clause
//
// The dispatcher: one raw FUSE request in, one reply out, by way of fs::Filesystem. It knows nothing of where
// requests come from; transports (/dev/fuse, a ring, a virtqueue) carry them and send the replies.
//
// Invariants
// - Every request that wants a reply gets exactly one, whatever its bytes are; a malformed one gets EINVAL, an
//   unknown one ENOSYS. FORGET, BATCH_FORGET, INTERRUPT and NOTIFY_REPLY get none, as the protocol has it.
// - Lookup counts are exact: the filesystem counts what it gives (MountOptions::count_lookups, which must be set), and
//   the count is taken back here if the reply did not arrive. The same goes for handles of OPEN and CREATE.
// - A write or a change of flags that makes pages of the kernel's cache stale is replied to when they are gone.
// - READ replies are sent straight from the pool while the filesystem holds the file's locks; nothing is copied.
//
// Not answered, with the reason: GETLK, SETLK, SETLKW (not negotiated: with one kernel as the only client, POSIX and
// flock locks are right and fastest in that kernel; they come here only when a second kernel mounts the same pool),
// ACCESS (default_permissions: the kernel checks), POLL (regular files are always ready), BMAP (the pool is not a
// block device).
//
// Thread safety: handle() from any number of threads at once.
// Locks: none of its own. REQUIRES on a ReplyChannel: send() must not call back into the dispatcher.
//
// Files: dispatch_session.cc (INIT, STATFS, ...), dispatch_names.cc, dispatch_attr.cc, dispatch_open.cc,
// dispatch_io.cc, dispatch_dir.cc, dispatch_ioctl.cc, stats_json.cc.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "fs/filesystem.h"
#include "fuse/decoder.h"
#include "fuse/handle_table.h"
#include "fuse/op_stats.h"
#include "fuse/ring_protocol.h"
#include "fuse/wire.h"
#include "udax/ioctl.h"

namespace udax::fuse {

/// What became of a reply.
enum class Delivery : uint8_t {
  kDelivered,
  kGone,    // nobody waits for it any more: the request was interrupted, or the mount is gone
  kFailed,  // it could not be sent (bytes of the pool cannot be read): another reply may be
};

/// Takes the reply of one request.
class ReplyChannel {
 public:
  virtual ~ReplyChannel() = default;
  /// `header.len` is that of header and pieces. The pieces are read before this returns.
  [[nodiscard]] virtual Delivery send(const fuse_out_header& header, std::span<const iovec> pieces) = 0;
  /// A channel for the same request by which another thread may reply later, instead. Throws std::bad_alloc.
  [[nodiscard]] virtual std::shared_ptr<ReplyChannel> detach() = 0;
};

/// Runs what cannot be done while a request is being served: see worker.h.
class Deferrer {
 public:
  using Job = std::function<void()>;
  virtual ~Deferrer() = default;
  /// False: it will not run.
  [[nodiscard]] virtual bool defer_job(Job job) = 0;
};

/// Sends what the kernel did not ask for.
class Notifier {
 public:
  virtual ~Notifier() = default;
  /// False: the kernel did not take it (for instance, it does not know the inode).
  virtual bool notify(int32_t code, std::span<const iovec> pieces) = 0;
  /// False: the mount is gone, and no answer to a notification will come any more.
  [[nodiscard]] virtual bool is_connected() = 0;
};

/// The kernel asks for them anew. It may wait for the end of an inode, and so for its write-back; for no lock of one that is in use.
void invalidate_attributes(Notifier& notifier, Ino ino);

/// Takes the kernel's answers to FUSE_NOTIFY_RETRIEVE.
class RetrievalTaker {
 public:
  virtual ~RetrievalTaker() = default;
  /// `id`: of the notification. `bytes`: what the kernel's pages hold from its offset on, up to the first page that it has not.
  virtual void take_retrieved(uint64_t id, std::span<const std::byte> bytes) = 0;
};

struct Request {
  const fuse_in_header* header = nullptr;
  std::span<const std::byte> body;  // what follows the header
  std::span<std::byte> scratch;     // for inline replies: kScratchSize, apart from body
  OpStats* stats = nullptr;         // of the calling thread
  uint64_t started_ns = 0;          // monotonic_ns() at its arrival
};

inline constexpr uint32_t kIoMax = 1U << 20;  // bytes of one READ or WRITE, and of one READDIR reply
inline constexpr size_t kScratchSize = kIoMax;

/// What gives leave to map files directly (UDAX_IOC_DIRECT), and tells how that goes.
class DirectOffer {
 public:
  virtual ~DirectOffer() = default;
  [[nodiscard]] virtual Result<udax_ioc_direct> give_leave(fs::OpenFile& file, uint32_t uid) = 0;
  /// Its counters, as members of a JSON object without the braces.
  [[nodiscard]] virtual std::string counters_json() = 0;
};

struct DispatcherOptions {
  uint64_t entry_timeout_ns = 86'400'000'000'000;  // all changes come through the kernel that caches: a day
  uint64_t attr_timeout_ns = 86'400'000'000'000;
  uint64_t negative_timeout_ns = 86'400'000'000'000;
  std::string pool;  // for UDAX_IOC_STAT
  std::string mountpoint;
  DirectOffer* direct = nullptr;  // null: nothing is mapped directly. Must outlive the dispatcher
};

class Call;

class Dispatcher {
 public:
  Dispatcher(fs::Filesystem& fs, DispatcherOptions options);
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  /// Requests of this kind get a reply.
  [[nodiscard]] static bool replies_to(uint32_t opcode);
  /// Serves one request; has replied when it returns.
  void handle(const Request& request, ReplyChannel& channel) noexcept;

  /// Where notifications go; null: nowhere. REQUIRES: before the first request.
  void set_notifier(Notifier* notifier) { notifier_ = notifier; }
  /// Where answers to retrievals go; null: nowhere. REQUIRES: before the first request.
  void set_retrieval_taker(RetrievalTaker* taker) { retrieval_taker_ = taker; }
  /// Who finishes requests that need a recall of pages, and those that need a look at pages first; null: they are finished at
  /// once. Two, since a recall may wait for a page that a request of the second kind holds locked. REQUIRES: before the first
  /// request.
  void set_deferrers(Deferrer* recalls, Deferrer* mends) {
    recalls_ = recalls;
    mends_ = mends;
  }
  /// Statistics for one more thread; they live as long as the dispatcher. kNoMemory.
  [[nodiscard]] Result<OpStats*> add_stats();

  /// Rings are there: INIT may agree on FUSE over io_uring. REQUIRES: before the first request.
  void offer_rings() { has_rings_ = true; }
  /// INIT has agreed on it.
  [[nodiscard]] bool uses_rings() const { return ((negotiated() >> 32) & wire::kOverIoUring) != 0; }
  /// True once INIT was answered with success.
  [[nodiscard]] bool initialized() const { return initialized_.load(std::memory_order_acquire); }
  /// Bits of fuse_init_out.flags, flags2 in the upper half, that were agreed on.
  [[nodiscard]] uint64_t negotiated() const { return negotiated_.load(std::memory_order_relaxed); }

  /// The minor version of the protocol that the kernel speaks. REQUIRES: initialized().
  [[nodiscard]] uint32_t kernel_minor() const { return kernel_minor_.load(std::memory_order_relaxed); }

  /// Closes all files that are still open. REQUIRES: no request in progress or to come.
  void close_all() { handles_.close_all(); }

  /// The text of UDAX_IOC_STAT.
  [[nodiscard]] std::string stats_json();

 private:
  using Handler = Status (Dispatcher::*)(Call&);
  struct Entry {
    Handler handler = nullptr;
    bool replies = true;
  };
  static const Entry* find(uint32_t opcode);
  [[nodiscard]] Status serve(Call& call, const Entry* entry) noexcept;

  // Each: decodes, calls, replies. On an Error without a reply the caller replies with it; success without a reply
  // is a reply without a body.
  Status init(Call&);
  Status destroy(Call&);
  Status statfs(Call&);
  Status syncfs(Call&);
  Status notify_reply(Call&);
  Status nothing(Call&);
  Status not_implemented(Call&);

  Status lookup(Call&);
  Status forget(Call&);
  Status batch_forget(Call&);
  Status readlink(Call&);
  Status symlink(Call&);
  Status mknod(Call&);
  Status mkdir(Call&);
  Status unlink(Call&);
  Status rmdir(Call&);
  Status rename(Call&);
  Status rename2(Call&);
  Status link(Call&);

  Status getattr(Call&);
  Status statx(Call&);
  Status setattr(Call&);
  Status setxattr(Call&);
  Status getxattr(Call&);
  Status listxattr(Call&);
  Status removexattr(Call&);

  Status open(Call&);
  Status create(Call&);
  Status tmpfile(Call&);
  Status release(Call&);
  Status opendir(Call&);
  Status releasedir(Call&);

  Status read(Call&);
  Status write(Call&);
  Status flush(Call&);
  Status fsync(Call&);
  Status fallocate(Call&);
  Status lseek(Call&);
  Status copy_file_range(Call&);
  Status copy_file_range_64(Call&);

  Status readdir(Call&);
  Status readdirplus(Call&);
  Status fsyncdir(Call&);

  Status ioctl(Call&);
  Status ioctl_get_flags(Call&, const fuse_ioctl_in&);
  Status ioctl_set_flags(Call&, const fuse_ioctl_in&);
  Status ioctl_get_xflags(Call&, const fuse_ioctl_in&);
  Status ioctl_set_xflags(Call&, const fuse_ioctl_in&);
  Status ioctl_info(Call&, const fuse_ioctl_in&);
  Status ioctl_stat(Call&, const fuse_ioctl_in&);
  Status ioctl_extents(Call&, const fuse_ioctl_in&);
  Status ioctl_sync(Call&);
  Status ioctl_dax_state(Call&, const fuse_ioctl_in&);
  Status ioctl_direct(Call&, const fuse_ioctl_in&, fs::OpenFile& file);

  void fill_attr(const fs::Attr& attr, fuse_attr& out) const;
  void fill_entry(const fs::Attr& attr, fuse_entry_out& out) const;
  /// `attr` carries one lookup, which goes to the kernel with the reply or back to the filesystem.
  [[nodiscard]] Status reply_entry(Call&, const fs::Attr& attr);
  [[nodiscard]] Status reply_created(Call&, fs::OpenFilePtr file, const fs::Attr& attr);
  [[nodiscard]] Status reply_xattr(Call&, uint32_t room, std::span<const std::byte> value);
  [[nodiscard]] Status write_through(Call& call, const fuse_write_in& in, std::span<const std::byte> data,
                                     HandleTable::Use file);
  [[nodiscard]] Result<uint64_t> do_copy(const fuse_copy_file_range_in& in, Call& call);
  /// Has `job` reply, by the channel it is given, instead of this thread. kBusy: it will not.
  using LaterJob = std::function<void(ReplyChannel&)>;
  [[nodiscard]] static Status finish_later(Call& call, Deferrer* who, LaterJob job);
  /// Does `change` on a thread that may recall pages, and replies with `success`' bytes, or the error.
  [[nodiscard]] Status change_later(Call& call, std::function<Status()> change, bool with_ioctl_out);
  [[nodiscard]] uint32_t open_reply_flags(const fs::OpenFile& file) const;
  /// Makes the kernel ask for the attributes of `ino` again. Safe at any time: it takes no lock of the kernel's that
  /// a request may be waiting under.
  void invalidate_attributes(Ino ino);

  fs::Filesystem& fs_;
  const DispatcherOptions options_;
  Notifier* notifier_ = nullptr;
  RetrievalTaker* retrieval_taker_ = nullptr;
  Deferrer* recalls_ = nullptr;
  Deferrer* mends_ = nullptr;
  bool has_rings_ = false;
  HandleTable handles_;
  std::atomic<bool> initialized_{false};
  std::atomic<uint64_t> negotiated_{0};
  std::atomic<uint32_t> kernel_minor_{0};
  mutable Mutex stats_mutex_;
  std::vector<std::unique_ptr<OpStats>> stats_ UDAX_GUARDED_BY(stats_mutex_);
  const uint64_t mounted_ns_;
};

/// True while this thread serves a FUSE request: the kernel may wait for it with pages locked (see kernel_pages.h).
[[nodiscard]] bool in_fuse_request();

/// The name of an opcode, for logs; "?" if unknown.
[[nodiscard]] const char* opcode_name(uint32_t opcode);

}  // namespace udax::fuse
