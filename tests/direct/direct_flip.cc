// SPDX-License-Identifier: BSD-3-Clause
//
// Stores through direct mappings while others flip the file's DAX flag: each thread counts up in words of its own, by itself and by
// system calls into the mapped buffer, and finds what it stored last; a process of its own reads by read(2), and never finds
// less than what was announced.
//
//   direct_flip FILE api|mmap
//     api    maps by udax_map(), and so on; mmap: by mmap(2), to be started under the preload shim
//     Reads commands, one a line, and answers each by one line:
//       where   "PID ADDRESS LENGTH": this process's mapping, in hexadecimal; a child that it has forked has one there, too
//       child   the same of that child, before "remap" or "change" was first told
//       remap   the mapping is made anew, somewhere; "done"
//       change  a part of it is protected, unprotected, synced, cut off, and mapped again; "done"
//       query   "DIRECT UNMAPPED", in bytes (api only)
//       lock    takes a POSIX lock of the file; "done"
//       locked  whether another process finds it: "yes" or "no"
//     At the end of the input: what was done, and exit status 0 if nothing was lost or stale, else 1.
#include <fcntl.h>
#include <sys/prctl.h>
#include <udax/udax.h>

#include <array>
#include <chrono>
#include <iostream>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>

#include "base/random.h"
#include "tests/stress/workers.h"

namespace udax::stress {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 64;
constexpr uint64_t kLength = kPages * kPage;
constexpr size_t kProcesses = 2;
constexpr size_t kThreads = 2;
constexpr size_t kSlots = kProcesses * kThreads;
constexpr std::chrono::milliseconds kPause{1};

struct Shared {
  std::atomic<bool> is_over{false};
  std::array<std::array<std::atomic<uint64_t>, kSlots>, kPages> announced{};
  std::atomic<uint64_t> stores{0}, kernel_stores{0}, reads{0}, lost{0}, stale{0};
};

/// The calls, of the library or of the kernel.
struct Calls {
  void* (*map)(void*, size_t, int, int, int, off_t);
  int (*unmap)(void*, size_t);
  int (*protect)(void*, size_t, int);
  int (*sync)(void*, size_t, int);
};

/// What the library has refused, since it was no DAX file when it was mapped, is the kernel's.
template <typename F, typename... Arguments>
int either(int done, int refusal, F kernels, Arguments... arguments) {
  return done == 0 || errno != refusal ? done : kernels(arguments...);
}

class Program {
 public:
  Program(Shared& shared, int fd, const Calls& calls) : s_(shared), fd_(fd), calls_(calls) {
    source_ = ::memfd_create("source", MFD_CLOEXEC);
    if (source_ < 0) die("memfd_create: %s", std::strerror(errno));
    map();
  }

  void start(size_t process) {
    for (size_t t = 0; t < kThreads; ++t) {
      threads_.emplace_back([this, slot = process * kThreads + t] { count_up(slot); });
    }
  }
  void join() {
    for (std::thread& thread : threads_) thread.join();
  }

  void remap() {
    const std::unique_lock alone(mapping_);
    if (calls_.unmap(base_, kLength) != 0) die("unmap: %s", std::strerror(errno));
    map();
  }
  void change() {
    const std::unique_lock alone(mapping_);
    constexpr uint64_t kHalf = kLength / 2;
    if (calls_.protect(base_ + kPage, kHalf, PROT_READ) != 0 ||
        calls_.protect(base_ + kPage, kHalf, PROT_READ | PROT_WRITE) != 0) {
      die("protect: %s", std::strerror(errno));
    }
    if (calls_.sync(base_, kLength, MS_SYNC) != 0) die("sync: %s", std::strerror(errno));
    if (calls_.unmap(base_ + kHalf, kHalf) != 0) die("unmap: %s", std::strerror(errno));
    if (calls_.unmap(base_, kHalf) != 0) die("unmap: %s", std::strerror(errno));
    map();
  }
  [[nodiscard]] char* base() const { return base_; }

 private:
  using Word = std::atomic<uint64_t>;

  void map() {
    void* const got = calls_.map(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (got == MAP_FAILED) die("map: %s", std::strerror(errno));
    base_ = static_cast<char*>(got);
  }

  void count_up(size_t slot) {
    Random random(slot + 1);
    std::array<uint64_t, kPages> last{};
    while (!s_.is_over.load(std::memory_order_relaxed)) {
      {
        const std::shared_lock here(mapping_);
        for (int i = 0; i < 50; ++i) store(random, slot, last);
      }
      std::this_thread::sleep_for(kPause);  // the machine is for others, too
    }
  }

  void store(Random& random, size_t slot, std::array<uint64_t, kPages>& last) {
    const uint64_t page = random.below(kPages);
    Word& word = *reinterpret_cast<Word*>(base_ + page * kPage + slot * 64);
    const uint64_t found = word.load();
    if (found != last[page] && s_.lost.fetch_add(1) < 5) {
      std::fprintf(stderr, "lost: page %llu, slot %zu: found %llu, expected %llu\n",
                   static_cast<unsigned long long>(page), slot, static_cast<unsigned long long>(found),
                   static_cast<unsigned long long>(last[page]));
    }
    const uint64_t next = last[page] + 1;
    if (random.one_in(8)) {
      const auto at = static_cast<off_t>(slot * 8);
      if (::pwrite(source_, &next, 8, at) != 8 || ::pread(source_, &word, 8, at) != 8) {
        die("a system call into the mapping: %s", std::strerror(errno));
      }
      ++s_.kernel_stores;
    } else {
      word.store(next);
    }
    last[page] = next;
    s_.announced[page][slot].store(next);
    ++s_.stores;
  }

  Shared& s_;
  int fd_;
  const Calls calls_;
  int source_ = -1;
  char* base_ = nullptr;
  std::shared_mutex mapping_;  // exclusive: it changes
  std::vector<std::thread> threads_;
};

void read_all(Shared& s, int fd) {
  Random random(99);
  while (!s.is_over.load(std::memory_order_relaxed)) {
    const uint64_t page = random.below(kPages);
    const size_t slot = random.below(kSlots);
    const uint64_t announced = s.announced[page][slot].load();
    uint64_t found = 0;
    if (::pread(fd, &found, 8, static_cast<off_t>(page * kPage + slot * 64)) != 8) {
      die("read: %s", std::strerror(errno));
    }
    if (++s.reads % 8 == 0) std::this_thread::sleep_for(kPause);
    if (found < announced && s.stale.fetch_add(1) < 5) {
      std::fprintf(stderr, "stale: page %llu, slot %zu: read(2) found %llu, announced was %llu\n",
                   static_cast<unsigned long long>(page), slot, static_cast<unsigned long long>(found),
                   static_cast<unsigned long long>(announced));
    }
  }
}

pid_t fork_to(const auto& body) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) die("fork: %s", std::strerror(errno));
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  std::fflush(nullptr);
  ::_exit(0);
}

struct flock whole_file() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

const char* is_locked(int fd) {
  const pid_t pid = fork_to([fd] {
    struct flock lock = whole_file();
    ::_exit(::fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK ? 0 : 1);
  });
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status == 0 ? "yes" : "no";
}

void say_place(pid_t pid, const Program& program) {
  std::printf("%d %llx %llx\n", pid, reinterpret_cast<unsigned long long>(program.base()),
              static_cast<unsigned long long>(kLength));
}

void obey(const std::string& command, Program& program, int fd, pid_t child) {
  if (command == "where") {
    say_place(::getpid(), program);
  } else if (command == "child") {
    say_place(child, program);
  } else if (command == "locked") {
    std::printf("%s\n", is_locked(fd));
  } else if (command == "query") {
    udax_mapping mapping{};
    if (::udax_query(program.base(), kLength, &mapping, sizeof mapping) != 0) {
      die("udax_query: %s", std::strerror(errno));
    }
    std::printf("%llu %llu\n", static_cast<unsigned long long>(mapping.direct_bytes),
                static_cast<unsigned long long>(mapping.unmapped_bytes));
  } else {
    struct flock lock = whole_file();
    if (command == "remap") program.remap();
    if (command == "change") program.change();
    if (command == "lock" && ::fcntl(fd, F_SETLK, &lock) != 0) die("lock: %s", std::strerror(errno));
    std::puts("done");
  }
  std::fflush(stdout);
}

int run(const char* path, const Calls& calls) {
  const int fd = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, kLength) != 0) die("%s: %s", path, std::strerror(errno));
  auto& shared = make_shared_object<Shared>();
  Program program(shared, fd, calls);
  const pid_t reader = fork_to([&] { read_all(shared, fd); });
  const pid_t child = fork_to([&] {
    program.start(1);
    program.join();
  });
  program.start(0);
  for (std::string command; std::getline(std::cin, command);) obey(command, program, fd, child);
  shared.is_over = true;
  program.join();
  int failed = 0;
  for (const pid_t pid : {reader, child}) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (status == 0) continue;
    std::fprintf(stderr, "%s ended with %x\n", pid == reader ? "the reader" : "the child", status);
    failed = 1;
  }
  const auto n = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf("%llu stores (%llu by the kernel), %llu reads; lost %llu, stale %llu\n", n(shared.stores),
              n(shared.kernel_stores), n(shared.reads), n(shared.lost), n(shared.stale));
  return failed != 0 || shared.lost + shared.stale != 0 ? 1 : 0;
}

}  // namespace
}  // namespace udax::stress

int main(int argc, char** argv) {
  const bool by_library = argc == 3 && std::strcmp(argv[2], "api") == 0;
  if (argc != 3 || (!by_library && std::strcmp(argv[2], "mmap") != 0)) {
    std::fprintf(stderr, "usage: direct_flip FILE api|mmap\n");
    return 2;
  }
  using udax::stress::either;
  const udax::stress::Calls library{
      [](void* at, size_t length, int prot, int flags, int fd, off_t offset) {
        void* const got = ::udax_map(at, length, prot, flags, fd, offset);
        return got != MAP_FAILED ? got : ::mmap(at, length, prot, flags, fd, offset);
      },
      [](void* at, size_t length) { return either(::udax_unmap(at, length), EINVAL, &::munmap, at, length); },
      [](void* at, size_t length, int prot) {
        return either(::udax_protect(at, length, prot), ENOMEM, &::mprotect, at, length, prot);
      },
      [](void* at, size_t length, int flags) {
        return either(::udax_sync(at, length, flags), ENOMEM, &::msync, at, length, flags);
      }};
  const udax::stress::Calls kernel{&::mmap, &::munmap, &::mprotect, &::msync};
  return udax::stress::run(argv[1], by_library ? library : kernel);
}
