// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/ring_queue.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <string>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync_point.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

namespace udax::fuse {
namespace {

constexpr uint64_t kWake = 0;  // user_data of the wake-up; others are entries

// liburing 2.3 declares the function and does not export it.
int enable_ring(int ring_fd) {
  return static_cast<int>(::syscall(__NR_io_uring_register, ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
}

}  // namespace

Result<std::unique_ptr<RingQueue>> RingQueue::create(const Shared& shared, uint16_t cpu) try {
  std::unique_ptr<RingQueue> queue(new RingQueue(shared, cpu));
  io_uring_params params{};
  params.flags = IORING_SETUP_SQE128 | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED |
                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  params.cq_entries = kEntries * 4;
  const int made = ::io_uring_queue_init_params(kEntries * 2, &queue->ring_, &params);
  if (made < 0) return made == -EINVAL ? Error::kNotSupported : from_errno(-made);
  queue->has_ring_ = true;
  if (const int done = ::io_uring_register_files(&queue->ring_, &shared.fd, 1); done < 0) return from_errno(-done);
  queue->wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (queue->wake_fd_ < 0) return from_errno(errno);
  for (uint32_t i = 0; i < kEntries; ++i) {
    queue->entries_.push_back(
        std::make_shared<RingEntry>(*shared.medium, [q = queue.get()](RingEntry& entry) { q->announce(entry); }));
  }
  queue->replied_.reserve(kEntries);
  UDAX_TRY(queue->stats_, shared.dispatcher->add_stats());
  return queue;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

RingQueue::~RingQueue() {
  stop();
  if (has_ring_) ::io_uring_queue_exit(&ring_);
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

Status RingQueue::start() try {
  thread_ = std::thread([this] { run(); });
  return {};
} catch (const std::exception&) {
  return Error::kNoMemory;
}

void RingQueue::stop() {
  stopping_.store(true);
  if (wake_fd_ >= 0) {
    const uint64_t one = 1;
    (void)!::write(wake_fd_, &one, sizeof(one));
  }
  if (thread_.joinable()) thread_.join();
}

bool RingQueue::set_up_thread() {
  (void)::pthread_setname_np(::pthread_self(), ("fuse-ring-" + std::to_string(cpu_)).c_str());
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu_, &set);
  // A CPU that is possible but not there: its queue gets no requests, its thread may be anywhere.
  (void)::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);
  // Reclaiming memory must not wait for write-back that would come to this very daemon (needs a privilege).
  (void)::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  if (enable_ring(ring_.ring_fd) < 0) {
    log::error("fuse: ring of CPU {}: {}", cpu_, std::strerror(errno));
    return false;
  }
  return true;
}

void RingQueue::submit(RingEntry& entry, uint32_t operation) {
  io_uring_sqe* const sqe = ::io_uring_get_sqe(&ring_);
  UDAX_ASSERT(sqe != nullptr);  // there are more than entries
  std::memset(static_cast<void*>(sqe), 0, 2 * sizeof(*sqe));
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->fd = 0;  // of the registered files
  sqe->cmd_op = operation;
  sqe->user_data = reinterpret_cast<uint64_t>(&entry);
  auto* const command =
      reinterpret_cast<wire::RingCommand*>(reinterpret_cast<std::byte*>(sqe) + wire::kRingCommandOffset);
  command->queue = cpu_;
  if (operation == wire::kRingRegister) {
    sqe->addr = reinterpret_cast<uint64_t>(entry.buffers().data());
    sqe->len = static_cast<uint32_t>(entry.buffers().size());
  } else {
    command->commit_id = entry.commit_id();
  }
}

void RingQueue::arm_wake() {
  io_uring_sqe* const sqe = ::io_uring_get_sqe(&ring_);
  UDAX_ASSERT(sqe != nullptr);
  std::memset(static_cast<void*>(sqe), 0, 2 * sizeof(*sqe));
  ::io_uring_prep_poll_add(sqe, wake_fd_, POLLIN);
  sqe->user_data = kWake;
}

bool RingQueue::wait() {
  for (;;) {
    const int done = ::io_uring_submit_and_wait(&ring_, 1);
    if (done >= 0) return true;
    if (done == -EINTR || done == -EAGAIN || done == -EBUSY) continue;
    log::error("fuse: ring of CPU {}: {}", cpu_, std::strerror(-done));
    return false;
  }
}

void RingQueue::run() {
  if (!set_up_thread()) return;
  for (const auto& entry : entries_) submit(*entry, wire::kRingRegister);
  arm_wake();
  while (!stopping_.load(std::memory_order_relaxed) && wait()) {
    io_uring_cqe* completion = nullptr;
    while (::io_uring_peek_cqe(&ring_, &completion) == 0) {
      const io_uring_cqe one = *completion;
      ::io_uring_cqe_seen(&ring_, completion);
      if (!handle(one)) return;
      // The reply of this one should not wait for the next one's.
      if (::io_uring_cq_ready(&ring_) > 0) (void)::io_uring_submit(&ring_);
    }
  }
}

/// False: the mount is gone.
bool RingQueue::handle(const io_uring_cqe& completion) {
  if (completion.user_data == kWake) {
    uint64_t count = 0;
    (void)!::read(wake_fd_, &count, sizeof(count));
    take_replied();
    arm_wake();
    return true;
  }
  auto& entry = *reinterpret_cast<RingEntry*>(completion.user_data);
  if (completion.res >= 0) {
    serve(entry);
    return true;
  }
  // ENOTCONN, ECANCELED: unmounted. Anything else ends the entry as well; the kernel does not fill it any more.
  if (completion.res != -ENOTCONN && completion.res != -ECANCELED) {
    log::error("fuse: ring of CPU {}: {}", cpu_, std::strerror(-completion.res));
  }
  return ++dead_entries_ < kEntries;
}

void RingQueue::serve(RingEntry& entry) {
  auto request = entry.request();
  if (!request) {
    const fuse_out_header header{sizeof(header), -to_errno(request.error()), entry.header().unique};
    (void)entry.send(header, {});
    submit(entry, wire::kRingCommitAndFetch);
    return;
  }
  const uint32_t opcode = entry.header().opcode;
  const bool has_reply = Dispatcher::replies_to(opcode) || UDAX_KNOB("fuse.ring.forget_entries");
  request->started_ns = monotonic_ns();
  // Whom an entry is handed to gives it back by replying.
  if (has_reply && shared_.slow_guess->is_slow(opcode) && serve_slowly(entry, *request)) return;
  request->scratch = {scratch_.data(), kScratchSize};
  request->stats = stats_;
  shared_.dispatcher->handle(*request, entry);
  shared_.slow_guess->note(opcode, monotonic_ns() - request->started_ns);
  // What has no reply in the protocol goes back with an empty one; otherwise the request's header would be taken for it.
  if (!has_reply) (void)entry.send({sizeof(fuse_out_header), 0, entry.header().unique}, {});
  if (entry.is_attached()) submit(entry, wire::kRingCommitAndFetch);
}

/// False: there is no thread for it.
bool RingQueue::serve_slowly(RingEntry& entry, const Request& request) {
  const auto channel = entry.detach();
  return shared_.slow_worker->defer([this, channel, request](Worker::Thread& thread) {
    Request mine = request;
    mine.scratch = {thread.scratch.data(), kScratchSize};
    mine.stats = thread.stats;
    shared_.dispatcher->handle(mine, *channel);
    shared_.slow_guess->note(request.header->opcode, monotonic_ns() - request.started_ns);
  });
}

void RingQueue::announce(RingEntry& entry) {
  const std::lock_guard guard(mutex_);
  replied_.push_back(&entry);
  const uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof(one));
}

void RingQueue::take_replied() {
  const std::lock_guard guard(mutex_);
  for (RingEntry* entry : replied_) submit(*entry, wire::kRingCommitAndFetch);
  replied_.clear();
}

}  // namespace udax::fuse
