// SPDX-License-Identifier: BSD-3-Clause
//
// Processes that work on one file at once, and what they share: memory, a place to meet, and the end.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace udax::stress {

/// Ends this process, after a sentence.
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::fflush(nullptr);
  ::_exit(1);
}

/// An object that all processes forked later see. Never freed.
template <typename T>
T& make_shared_object() {
  void* const space = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (space == MAP_FAILED) die("no shared memory: %s", std::strerror(errno));
  return *new (space) T;
}

/// Where `count` processes wait for each other.
class Barrier {
 public:
  void init(unsigned count) {
    pthread_barrierattr_t attributes;
    if (pthread_barrierattr_init(&attributes) != 0 ||
        pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_barrier_init(&barrier_, &attributes, count) != 0) {
      die("no barrier");
    }
  }
  void wait() { (void)pthread_barrier_wait(&barrier_); }

 private:
  pthread_barrier_t barrier_;
};

class Workers {
 public:
  void add(std::string name, std::function<void()> body) { all_.push_back({std::move(name), std::move(body), 0}); }

  /// Runs all, each in a process of its own. The first that fails ends the others. Gives the exit status.
  int run() {
    std::fflush(nullptr);
    for (Worker& worker : all_) {
      worker.pid = ::fork();
      if (worker.pid < 0) die("fork: %s", std::strerror(errno));
      if (worker.pid == 0) {
        worker.body();
        std::fflush(nullptr);
        ::_exit(0);
      }
    }
    int result = 0;
    for (size_t left = all_.size(); left > 0; --left) {
      int status = 0;
      const pid_t pid = ::wait(&status);
      for (Worker& worker : all_) {
        if (worker.pid != pid) continue;
        worker.pid = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        if (result != 0) continue;
        result = 1;
        if (WIFSIGNALED(status))
          std::fprintf(stderr, "%s: killed by signal %d\n", worker.name.c_str(), WTERMSIG(status));
        for (const Worker& other : all_) {
          if (other.pid > 0) ::kill(other.pid, SIGKILL);
        }
      }
    }
    return result;
  }

 private:
  struct Worker {
    std::string name;
    std::function<void()> body;
    pid_t pid;
  };
  std::vector<Worker> all_;
};

}  // namespace udax::stress
