// SPDX-License-Identifier: BSD-3-Clause
//
// What the exercisers' crews are made of: memory that children share with their parent, and the children.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>

namespace udax::stress {

/// Anonymous, zero at first. bytes(): null if there was no memory.
class SharedMemory {
 public:
  explicit SharedMemory(size_t size) : size_(size) {
    void* const map =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map != MAP_FAILED) bytes_ = map;
  }
  ~SharedMemory() {
    if (bytes_ != nullptr) ::munmap(bytes_, size_);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  [[nodiscard]] void* bytes() const { return bytes_; }

 private:
  const size_t size_;
  void* bytes_ = nullptr;
};

/// A child that does `work` and ends; with its parent at the latest. SIGINT is left to the parent. Its pid; -1: errno.
template <typename Work>
pid_t start_child(const Work& work) {
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_DFL);
  work();
  ::_exit(0);
}

}  // namespace udax::stress
