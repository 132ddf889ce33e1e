// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/reader_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/clock.h"
#include "base/log.h"
#include "fuse/caller_cpu.h"
#include "fuse/pages.h"
#include "udax/ioctl.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace udax::fuse {
namespace {

// Wakes a reader out of read(2); its handler does nothing.
constexpr int kWakeSignal = SIGUSR2;
constexpr uint32_t kLongTransfer = 256U << 10;  // bytes: copying more takes longer than waking a thread
constexpr size_t kPage = 4096;
constexpr size_t kWriteLead = sizeof(fuse_in_header) + sizeof(fuse_write_in);
constexpr size_t kMessageMax = kWriteLead + kIoMax + kPage;

void ignore_signal(int) {}

}  // namespace

struct ReaderPool::Reader {
  Reader(uint32_t i, int fd) : index(i), channel(fd), input(kPage + kIoMax + 2 * kPage), scratch(kScratchSize) {}

  /// Messages start so that the bytes of a WRITE lie at a page's start.
  [[nodiscard]] std::byte* message() const { return input.data() + kPage - kWriteLead; }
  [[nodiscard]] const fuse_in_header& header() const {
    return *reinterpret_cast<const fuse_in_header*>(message());
  }

  const uint32_t index;
  DeviceChannel channel;
  Pages input;
  Pages scratch;
  OpStats* stats = nullptr;
  size_t length = 0;        // of the message at hand
  uint64_t arrived_ns = 0;  // when it came
  // For the watcher: since when it serves (0: it waits for a request), and how many it has begun.
  std::atomic<uint64_t> busy_since_ns{0};
  std::atomic<uint64_t> begun{0};
};

ReaderPool::ReaderPool(int fd, Dispatcher& dispatcher, uint32_t threads)
    : fd_(fd), dispatcher_(dispatcher), thread_count_(threads == 0 ? 1 : threads) {}

ReaderPool::~ReaderPool() { stop(); }

Result<std::unique_ptr<ReaderPool::Reader>> ReaderPool::make_reader(uint32_t index) {
  try {
    auto reader = std::make_unique<Reader>(index, fd_);
    UDAX_TRY(reader->stats, dispatcher_.add_stats());
    return reader;
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
}

Status ReaderPool::start() {
  struct sigaction action {};
  action.sa_handler = ignore_signal;  // no SA_RESTART: the read must end
  (void)::sigaction(kWakeSignal, &action, nullptr);
  ended_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (ended_fd_ < 0) return from_errno(errno);
  try {
    for (uint32_t i = 0; i < thread_count_; ++i) {
      UDAX_TRY(auto reader, make_reader(i));
      readers_.push_back(std::move(reader));
    }
    // The kernel has sent INIT with the mount; one answered "again, with my version" comes a second time.
    Reader& first = *readers_.front();
    for (int i = 0; i < 3 && !dispatcher_.initialized(); ++i) {
      const Got got = receive(first);
      if (got == Got::kEnd) return Error::kIo;
      if (got == Got::kRequest) serve(first);
    }
    if (!dispatcher_.initialized()) return Error::kNotSupported;
    running_.store(thread_count_);
    for (const auto& reader : readers_) threads_.emplace_back([this, &reader] { run(*reader); });
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  } catch (const std::system_error&) {  // no more threads
    const auto missing = thread_count_ - static_cast<uint32_t>(threads_.size());
    if (missing == thread_count_) return Error::kNoMemory;
    log::warning("fuse: only {} of {} threads could be started", threads_.size(), thread_count_);
    for (uint32_t i = 0; i < missing; ++i) leave();
  }
  return {};
}

void ReaderPool::stop() {
  stopping_.store(true);
  {
    const std::lock_guard guard(mutex_);
    idle_cv_.notify_all();
    watcher_cv_.notify_all();
  }
  // A signal that comes between a thread's look at stopping_ and its read is lost: send until all have left.
  while (running_.load() != 0) {
    for (std::thread& thread : threads_) (void)::pthread_kill(thread.native_handle(), kWakeSignal);
    ::usleep(1000);
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  readers_.clear();
  if (ended_fd_ >= 0) ::close(ended_fd_);
  ended_fd_ = -1;
}

void ReaderPool::leave() {
  if (running_.fetch_sub(1) != 1) return;
  const uint64_t one = 1;
  (void)!::write(ended_fd_, &one, sizeof(one));
}

void ReaderPool::run(Reader& me) {
  (void)::pthread_setname_np(::pthread_self(), ("fuse-" + std::to_string(me.index)).c_str());
  // Reclaiming memory must not wait for write-back that would come to this very daemon. Needs a privilege; without
  // it the kernel's limit on dirty pages of FUSE mounts has to do.
  (void)::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  CallerCpu caller_cpu;
  while (take_lead(me)) {
    while (leads(me)) {
      const Got got = receive(me);
      if (got == Got::kNothing) continue;
      if (got == Got::kRequest) caller_cpu.note(me.header().pid);
      if (got == Got::kEnd) {
        stopping_.store(true);
        const std::lock_guard guard(mutex_);
        idle_cv_.notify_all();
        watcher_cv_.notify_all();
        break;
      }
      if (may_take_long(me)) {
        caller_cpu.let_go();
        pass_lead(me);
        serve(me);
        break;
      }
      me.begun.store(me.begun.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      // Either this sees the watcher parked and wakes it, or the watcher sees this busy and does not park.
      me.busy_since_ns.store(me.arrived_ns, std::memory_order_seq_cst);
      if (watcher_parked_.load(std::memory_order_seq_cst)) unpark_watcher();
      serve(me);
      me.busy_since_ns.store(0, std::memory_order_relaxed);
      if (is_throttled_.load(std::memory_order_relaxed)) pause_after(me);
    }
    caller_cpu.let_go();
  }
  leave();
}

ReaderPool::Got ReaderPool::receive(Reader& me) {
  if (stopping_.load(std::memory_order_relaxed)) return Got::kEnd;
  const ssize_t n = ::read(fd_, me.message(), kMessageMax);
  if (n < 0) {
    switch (errno) {
      case EINTR:
      case EAGAIN:
      case ENOENT:  // the request was interrupted before it was read
        return stopping_.load(std::memory_order_relaxed) ? Got::kEnd : Got::kNothing;
      case ENODEV:  // unmounted
      case ECONNABORTED: return Got::kEnd;
      default: log::error("fuse: reading /dev/fuse: {}", std::strerror(errno)); return Got::kEnd;
    }
  }
  if (n == 0) return Got::kEnd;
  me.length = static_cast<size_t>(n);
  if (me.length < sizeof(fuse_in_header) || me.header().len != me.length) {
    log::error("fuse: a message of {} bytes that is none", n);
    return Got::kNothing;
  }
  me.arrived_ns = monotonic_ns();
  return Got::kRequest;
}

void ReaderPool::serve(Reader& me) {
  Request request;
  request.header = &me.header();
  request.body = {me.message() + sizeof(fuse_in_header), me.length - sizeof(fuse_in_header)};
  request.scratch = {me.scratch.data(), kScratchSize};
  request.stats = me.stats;
  request.started_ns = me.arrived_ns;
  const uint32_t opcode = me.header().opcode;
  dispatcher_.handle(request, me.channel);
  slow_guess_.note(opcode, monotonic_ns() - me.arrived_ns);
}

// With rings, forgets are what comes here, many of them. The kernel sends all that have gathered in one message.
void ReaderPool::pause_after(const Reader& me) {
  const uint32_t opcode = me.header().opcode;
  if (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET) ::usleep(kForgetPauseUs);
}

bool ReaderPool::may_take_long(const Reader& me) const {
  const std::byte* body = me.message() + sizeof(fuse_in_header);
  switch (me.header().opcode) {
    case FUSE_READ:
      return me.length >= sizeof(fuse_in_header) + sizeof(fuse_read_in) &&
             reinterpret_cast<const fuse_read_in*>(body)->size >= kLongTransfer;
    case FUSE_WRITE: return me.length >= kLongTransfer;
    case FUSE_SYNCFS: return true;
    case FUSE_IOCTL:
      return me.length >= sizeof(fuse_in_header) + sizeof(fuse_ioctl_in) &&
             reinterpret_cast<const fuse_ioctl_in*>(body)->cmd == UDAX_IOC_SYNC;
    case FUSE_SETATTR:
      return me.length >= sizeof(fuse_in_header) + sizeof(fuse_setattr_in) &&
             (reinterpret_cast<const fuse_setattr_in*>(body)->valid & FATTR_SIZE) != 0 &&
             slow_guess_.is_slow(FUSE_SETATTR);
    case FUSE_FSYNC:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
    case wire::kOpCopyFileRange64: return slow_guess_.is_slow(me.header().opcode);
    default: return false;  // others are held up by locks at most, and then the watcher helps
  }
}

bool ReaderPool::leads(const Reader& me) const { return leader_.load(std::memory_order_relaxed) == me.index; }

// True: `me` leads now. False: all is over.
bool ReaderPool::take_lead(Reader& me) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopping_.load()) return false;
    if (leader_.load() == kNobody) {
      leader_.store(me.index);
      return true;
    }
    if (leader_.load() == me.index) return true;
    if (watcher_ == kNobody) {
      watcher_ = me.index;
      const bool leads_now = watch(me, lock);
      watcher_ = kNobody;
      if (leads_now) {
        leader_.store(me.index);
        if (idle_count_ > 0) idle_cv_.notify_one();  // to watch
        return true;
      }
      continue;
    }
    ++idle_count_;
    idle_cv_.wait(lock);
    --idle_count_;
  }
}

void ReaderPool::pass_lead(Reader& me) {
  const std::lock_guard guard(mutex_);
  if (leader_.load() != me.index) return;  // it was taken
  leader_.store(kNobody);
  if (idle_count_ > 0) {
    idle_cv_.notify_one();
  } else {
    watcher_cv_.notify_one();
  }
}

// Until the lead is free or the leader is stuck (true), or all is over (false). The lock is held, but for waiting.
bool ReaderPool::watch(Reader& me, std::unique_lock<std::mutex>& lock) {
  uint32_t watched = kNobody;
  uint64_t begun_before = 0;
  for (;;) {
    if (stopping_.load()) return false;
    const uint32_t leader = leader_.load();
    if (leader == kNobody || leader == me.index) return true;
    const Reader& other = *readers_[leader];
    const uint64_t busy_since = other.busy_since_ns.load(std::memory_order_seq_cst);
    if (busy_since != 0 && monotonic_ns() - busy_since >= kStuckNs) return true;
    const uint64_t begun = other.begun.load(std::memory_order_relaxed);
    if (busy_since == 0 && leader == watched && begun == begun_before) {
      // Nothing came for a while: sleep until something does.
      watcher_parked_.store(true, std::memory_order_seq_cst);
      if (other.busy_since_ns.load(std::memory_order_seq_cst) == 0) {
        watcher_cv_.wait(lock,
                         [&] { return !watcher_parked_.load() || leader_.load() != leader || stopping_.load(); });
      }
      watcher_parked_.store(false);
    }
    watched = leader;
    begun_before = begun;
    watcher_cv_.wait_for(lock, std::chrono::nanoseconds(kStuckNs));
  }
}

void ReaderPool::unpark_watcher() {
  const std::lock_guard guard(mutex_);
  watcher_parked_.store(false);
  watcher_cv_.notify_one();
}

}  // namespace udax::fuse
