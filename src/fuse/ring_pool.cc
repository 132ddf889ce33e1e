// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/ring_pool.h"

#include <fcntl.h>
#include <unistd.h>

namespace udax::fuse {
namespace {

constexpr const char* kSwitch = "/sys/module/fuse/parameters/enable_uring";

Status check_switch(std::string* why) {
  const int fd = ::open(kSwitch, O_RDONLY | O_CLOEXEC);
  char value = 0;
  const bool is_there = fd >= 0 && ::read(fd, &value, 1) == 1;
  if (fd >= 0) ::close(fd);
  if (is_there && value == 'Y') return {};
  *why = is_there ? std::string("it is switched off; to switch it on: echo Y > ") + kSwitch
                  : "this kernel has no FUSE over io_uring (Linux 6.14 has)";
  return Error::kNotSupported;
}

}  // namespace

Result<std::unique_ptr<RingPool>> RingPool::create(int fd, Dispatcher& dispatcher, const media::Medium& medium,
                                                   std::string* why) try {
  UDAX_CHECK(check_switch(why));
  std::unique_ptr<RingPool> pool(new RingPool(dispatcher));
  // The kernel counts possible CPUs, and uses the transport only when all of them have a queue.
  const long cpus = ::sysconf(_SC_NPROCESSORS_CONF);
  if (cpus < 1 || cpus > UINT16_MAX) {
    *why = "the number of CPUs is not known";
    return Error::kNotSupported;
  }
  for (long cpu = 0; cpu < cpus; ++cpu) {
    auto queue = RingQueue::create({fd, &dispatcher, &medium, &pool->slow_worker_, &pool->slow_guess_},
                                   static_cast<uint16_t>(cpu));
    if (!queue) {
      *why = "a ring cannot be made: " + std::string(to_string(queue.error()));
      return queue.error();
    }
    pool->queues_.push_back(std::move(*queue));
  }
  return pool;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status RingPool::start() {
  for (const auto& queue : queues_) UDAX_CHECK(queue->start());
  return {};
}

void RingPool::stop() {
  slow_worker_.stop();
  for (const auto& queue : queues_) queue->stop();
  queues_.clear();
}

}  // namespace udax::fuse
