// SPDX-License-Identifier: BSD-3-Clause
//
// One client: its sockets, its threads, and what it has mapped.
//
// Threads
//   control   reads requests, does them, replies; takes the client down at its end (client.cc, client_requests.cc)
//   worker    reads the fault descriptor, and has faults resolved by the filesystem (client_faults.cc); hands mappings over to the
//             kernel when their files are DAX files no more (client_kernel.cc)
//   scans     asks the kernel for stores, for others (scan_thread.h)
//   others    of the filesystem, that take views back: begin_revoke() and finish_revoke() (client_revoke.cc)
//
// Invariants
// - A view is made with the entry of its blocks locked (Install), noted, and its op added to the stream, in one section of
//   mutex_. So an op that takes it back comes behind it in the stream.
// - A view that is taken back is noted no more when the op is sent, and there until that is acknowledged. Whoever finds it gone from the
//   table waits for somebody else's op (takings.h).
// - A client that has been broken off gets no op any more. Its views count until its memory is gone.
//
// Who waits for whom: others wait for the mapper thread's acknowledgement, kAckDeadlineMs at most, then the client is ended. The
// mapper waits for nobody but who reads its events, which everyone who waits for it does. The worker and the control thread
// may wait for locks of the filesystem, like any of its callers. Install waits for room in the stream only, with the same deadline.
//
// Locks: mutex_, a leaf but for the stream's and the queue's own; files are let go of without it, and nothing is asked of the client's
// memory with it.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "direct/board.h"
#include "direct/cookies.h"
#include "direct/counters.h"
#include "direct/hold_list.h"
#include "direct/op_stream.h"
#include "direct/protocol.h"
#include "direct/scan_thread.h"
#include "direct/takings.h"
#include "direct/view_table.h"
#include "fs/filesystem.h"

namespace udax::direct {

/// A file that a client has open. While there is one that may be stored to through tracked views, the file counts as one that may be
/// dirty.
class MappedFile {
 public:
  /// kNoMemory.
  [[nodiscard]] static Result<std::shared_ptr<MappedFile>> take(fs::OpenFilePtr file, bool is_tracked,
                                                                uint32_t handle);
  ~MappedFile() {
    if (space_ != nullptr) space_->trackers.fetch_sub(1);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  [[nodiscard]] fs::OpenFile& open() const { return *file_; }
  [[nodiscard]] inode::Inode& inode() const { return file_->inode(); }
  [[nodiscard]] Ino ino() const { return file_->ino(); }
  /// The client's name for it.
  [[nodiscard]] uint32_t handle() const { return handle_; }

  /// Puts it on a board as well. kNoMemory, kTooManyFiles.
  [[nodiscard]] Status show_on(const std::shared_ptr<Board>& board, const BoardPolicy& policy);
  /// Null: on none.
  [[nodiscard]] BoardEntry* shown() const { return shown_.get(); }

 private:
  MappedFile(fs::OpenFilePtr file, uint32_t handle) : file_(std::move(file)), handle_(handle) {}
  const fs::OpenFilePtr file_;
  const uint32_t handle_;
  mapping::AddressSpace* space_ = nullptr;  // counts this; the open file keeps it
  std::unique_ptr<BoardEntry> shown_;       // watches the inode: goes before the open file
};

using FileRef = std::shared_ptr<MappedFile>;
using Region = BasicRegion<MappedFile>;
using RegionTable = BasicRegionTable<MappedFile>;

/// Who a client is, by the kernel's word.
struct Peer {
  uint32_t uid = 0;
  int32_t pid = 0;
  OwnedFd pidfd;
};

/// What all clients of a server share.
struct Shared {
  fs::Filesystem& fs;
  CookieJar& cookies;
  Counters& counters;
  const int uffd_device;            // /dev/userfaultfd; -1: there is none
  const uint64_t mappings_max;      // of the kernel's, for a client
  const bool can_track;             // the kernel tells of stores to the pool's pages (page_scan.h)
  const HoldList* holds = nullptr;  // null: nothing is ever held
  /// The least that can be mapped of the pool, and where mappings of it may begin and end: bytes. On devdax more than a block.
  const uint64_t unit = kBlockSize;
};

class Client {
 public:
  static constexpr uint32_t kHandlesMax = 1024;
  static constexpr size_t kRegionsMax = 16384;
  /// How long it is waited for where locks of the filesystem are held, or requests may be kept waiting: at most, and at least.
  static constexpr std::chrono::milliseconds kPatience{200};
  static constexpr std::chrono::milliseconds kPatienceMin{5};
  /// For mapping::Patience::kLong.
  static constexpr std::chrono::milliseconds kLongPatience{2000};
  /// For so long after it was late.
  static constexpr std::chrono::seconds kGrudge{5};

  Client(Shared& shared, OwnedFd control, Peer peer);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Serves it until it ends: the control thread's body. On return none of its threads runs, and none of its views is left, or it
  /// is broken off and waits for its end (is_gone()).
  void serve() noexcept;
  /// Takes all views back and ends serve(). From any thread.
  void stop();

  /// The same, of this client. One that has been late is caught in the kernel again soon, and each time all requests for the file
  /// wait for it, one after the other.
  [[nodiscard]] std::chrono::milliseconds patience() const;
  void note_late() { late_at_.store(OpStream::Clock::now().time_since_epoch().count()); }

  enum class Revoke : uint8_t {
    kAll,
    kWritable,
    kAside,  // all; not by one who changes the blocks: what was stored is remembered. settle_dropped() is to follow
  };
  /// Sends what takes the client's views of the range back. Gives what finish_revoke() is to wait for; 0: nothing.
  [[nodiscard]] uint64_t begin_revoke(Ino ino, mapping::ByteRange range, Revoke which);
  /// Returns when the client has done it, or its memory is gone; false: not by the deadline.
  [[nodiscard]] bool has_revoked(uint64_t sequence, OpStream::Clock::time_point deadline);
  /// The same; one that has not is killed. False: it is not gone yet.
  [[nodiscard]] bool finish_revoke(uint64_t sequence, OpStream::Clock::time_point deadline);

  /// Views that were dropped by ops up to `acknowledged` are out of the client's reach: notes what was stored through them. REQUIRES:
  /// no lock of an inode but rwsem, invalidate_lock.
  void settle_dropped(uint64_t acknowledged);
  /// It is late with views of `ino`: what it reads and writes by itself it does by the kernel from now on.
  void close_board(Ino ino);
  /// Faults that were held back are looked at again.
  void kick();

  /// Its part of Server::collect().
  void collect(Ino ino, mapping::ByteRange range, mapping::Stored& stored);

  /// Its memory, if it ever gave any, exists no more.
  [[nodiscard]] bool is_gone() const;
  /// A scan of its pages is under way: it may wait for the client, and the end of this would wait for it.
  [[nodiscard]] bool is_scanned() { return scans_.is_busy(); }
  /// It was killed; is_gone() says when that has come to its end.
  [[nodiscard]] bool is_killed() const { return killed_.load(); }

 private:
  struct Fault;  // client_faults.cc

  // client.cc
  [[nodiscard]] Status handshake();
  [[nodiscard]] Status hello(const Request& request);
  [[nodiscard]] Status set_up(const Request& request, std::vector<OwnedFd> descriptors);
  [[nodiscard]] Status start_worker();
  void take_down() noexcept;
  void break_off(std::string_view why) noexcept;
  [[nodiscard]] bool wait_gone(std::chrono::milliseconds patience) const;
  [[nodiscard]] Status reply(const Request& to, const Reply& reply, std::span<const int> descriptors = {});

  // client_requests.cc: each fills `out`. An error is for the client; kNotSupported and so on.
  [[nodiscard]] bool serve_request();
  [[nodiscard]] Status perform(const Request& request, Reply& out);
  [[nodiscard]] Status open_file(const Request& request, Reply& out);
  [[nodiscard]] Status close_file(const Request& request);
  [[nodiscard]] Status map(const Request& request, Reply& out);
  [[nodiscard]] Status add_region(Region region, bool populate, Reply& out);
  [[nodiscard]] Status unmap(Span span);
  void take_out(Span span) UDAX_REQUIRES(mutex_);
  [[nodiscard]] Status remap(const Request& request, Reply& out);
  [[nodiscard]] Status protect(const Request& request);
  [[nodiscard]] Status sync(Span span);
  [[nodiscard]] Status advise(const Request& request, Reply& out);
  [[nodiscard]] Status query(Span span, Reply& out);
  [[nodiscard]] Result<uint64_t> map_ahead(Span span);
  void count_regions() UDAX_REQUIRES(mutex_);
  [[nodiscard]] Result<Span> span_of(uint64_t offset, uint64_t length) const;

  // client_faults.cc
  void work() noexcept;
  void serve_fault(const FaultEvent& event);
  void serve_parked();
  void park(const FaultEvent& event);
  [[nodiscard]] bool is_held(const Region& region, uint64_t at) const;
  [[nodiscard]] std::optional<Fault> look_up(const FaultEvent& event);
  [[nodiscard]] std::optional<Fault> look_ahead(uint64_t at, uint64_t end);
  [[nodiscard]] static Fault fault_at(const Region& region, uint64_t at, bool is_write);
  [[nodiscard]] Result<dax::FaultResult> resolve(const Fault& fault);
  [[nodiscard]] Status place(const Fault& fault, const dax::View& view);
  bool place_data(const Region& region, Span span, uint64_t device, uint64_t at, bool is_writable)
      UDAX_REQUIRES(mutex_);
  [[nodiscard]] Status place_zero(const Fault& fault) UDAX_REQUIRES(mutex_);
  void place_bus(const Fault& fault);
  void clear_buses(bool all);
  void trim_mappings();

  // client_board.cc
  [[nodiscard]] Status make_board(const Request& request);
  [[nodiscard]] Status show(MappedFile& file, const Request& request, Reply& out) const;
  void retire_board() noexcept;
  void map_around(uint64_t at, const MappedFile& file, uint32_t prot);

  // client_kernel.cc
  [[nodiscard]] bool is_direct(const Region& region) const UDAX_REQUIRES(mutex_);
  void hand_over(Region region, uint64_t at) UDAX_REQUIRES(mutex_);
  /// The mapping unit around a page that cannot be mapped by itself; all of a mapping that has no whole unit in it.
  void hand_over_unit(uint64_t at, uint64_t region_id);
  void report_failures();
  void settle_handovers();
  /// What was handed over is the kernel's. False: the client does not answer.
  [[nodiscard]] bool await_handovers();

  // client_revoke.cc
  [[nodiscard]] static Op op_on(OpType type, Span span, uint32_t prot = kProtNone);
  /// The op's number: await() it without mutex_.
  [[nodiscard]] uint64_t send_acknowledged(Op op) UDAX_REQUIRES(mutex_);
  /// Behind everything that was sent before.
  [[nodiscard]] uint64_t send_barrier() UDAX_REQUIRES(mutex_);
  [[nodiscard]] bool send(Op op) UDAX_REQUIRES(mutex_);
  void flush() UDAX_REQUIRES(mutex_);
  void hole(Span span, uint32_t prot) UDAX_REQUIRES(mutex_);
  /// Who waits at `at` tries again, when what is on the stream has been done.
  void wake_in_order(uint64_t at) UDAX_REQUIRES(mutex_);
  [[nodiscard]] bool await(uint64_t sequence);
  /// All mapping units that the range touches: what is taken of the client must be whole ones.
  [[nodiscard]] Span widened(Span span) const {
    return {align_down(span.start, shared_.unit), align_up(span.end, shared_.unit)};
  }
  /// Takes the views that lie across the ends of the range.
  void loosen(Span span) UDAX_REQUIRES(mutex_);
  /// Views that the caller's next op takes: no longer noted. To be followed by an op that is acknowledged.
  [[nodiscard]] Span take_views(Span span) UDAX_REQUIRES(mutex_);

  // client_tracking.cc
  /// Filesystem::tell_attributes() of what is mapped (the worker), of what is open (the control thread). For no others: these
  /// serve nobody whom the kernel lets wait.
  void tell_of_mapped() noexcept;
  void tell_of_open() const;
  [[nodiscard]] Span drop_views(Span span) UDAX_REQUIRES(mutex_);
  struct Part {
    Span span;
    uint64_t file_offset = 0;
  };
  [[nodiscard]] bool has_views(Ino ino, mapping::ByteRange range) UDAX_REQUIRES(mutex_);
  [[nodiscard]] bool has_dropped(Ino ino) const UDAX_REQUIRES(mutex_);
  void tell_dropped(Ino ino, mapping::ByteRange range, std::vector<mapping::ByteRange>& stored) const
      UDAX_REQUIRES(mutex_);
  [[nodiscard]] std::vector<Part> tracked_parts(Ino ino, mapping::ByteRange range) UDAX_REQUIRES(mutex_);
  struct ScanJob {
    std::vector<Part> parts;
    uint64_t puts = 0;  // view_puts_ when they were looked up
    std::vector<mapping::ByteRange> stored;
    bool has_failed = false;
  };
  void collect_behind(Ino ino, mapping::ByteRange range, std::vector<mapping::ByteRange>& stored);
  [[nodiscard]] bool run_scan(const std::shared_ptr<ScanJob>& job, ScanThread::Clock::time_point deadline);
  void scan(const Part& part, std::vector<mapping::ByteRange>& stored) const;
  [[nodiscard]] bool doubt_parts(const std::vector<Part>& parts) UDAX_REQUIRES(mutex_);

  Shared& shared_;
  const OwnedFd control_;
  const Peer peer_;
  OwnedFd kick_;  // eventfd: the worker looks again
  OwnedFd life_;  // ours of the pair
  OwnedFd stream_for_setup_;
  // Of the client's memory; fixed by SETUP, before anybody else sees this client.
  uint64_t base_ = 0;
  uint64_t staging_ = 0;
  uint64_t size_ = 0;
  OwnedFd pagemap_;
  bool is_tracking_ = false;
  std::shared_ptr<Board> board_;  // null: it did not ask for one
  std::unique_ptr<FaultQueue> faults_;
  std::unique_ptr<OpStream> stream_;
  std::atomic<bool> is_set_up_{false};
  std::atomic<bool> broken_{false};
  std::atomic<bool> killed_{false};
  std::atomic<OpStream::Clock::rep> late_at_{0};  // 0: never
  std::atomic<bool> ending_{false};
  std::thread worker_;

  Mutex mutex_;
  RegionTable regions_ UDAX_GUARDED_BY(mutex_);
  uint64_t counted_regions_ UDAX_GUARDED_BY(mutex_) = 0;  // as the counter has them
  ViewTable views_ UDAX_GUARDED_BY(mutex_);
  Takings takings_ UDAX_GUARDED_BY(mutex_);
  uint64_t view_puts_ UDAX_GUARDED_BY(mutex_) = 0;  // how often views of data were put there
  uint64_t trim_from_ UDAX_GUARDED_BY(mutex_) = 0;
  /// Tracked views that were given up, and of which nobody has been told yet.
  struct Dropped {
    FileRef file;
    mapping::ByteRange range;
    uint64_t sequence = 0;  // once this is acknowledged, the client has them no more
  };
  std::vector<Dropped> dropped_ UDAX_GUARDED_BY(mutex_);
  // Memory was short, and something is not in dropped_: everything counts as stored to from then on.
  bool lost_track_ UDAX_GUARDED_BY(mutex_) = false;
  std::unordered_map<uint32_t, FileRef> handles_;  // the control thread's alone
  uint32_t last_handle_ = 0;
  struct Bus {
    uint64_t at = 0;
    OpStream::Clock::time_point since;
  };
  std::deque<Bus> buses_;           // the worker's alone
  std::vector<FaultEvent> parked_;  // of ranges that are held; the worker's alone
  struct Handover {
    uint64_t sequence = 0;
    FileRef file;
  };
  std::vector<Handover> handovers_;       // that may not be done yet; the worker's alone
  std::atomic<uint64_t> handed_over_{0};  // the last one's number
  ScanThread scans_;                      // the last: it ends first
};

}  // namespace udax::direct
