// SPDX-License-Identifier: BSD-3-Clause
//
// Reads and writes under the preload shim: what must be as it is through the kernel. Each check is a command; the script
// (tests/integration/direct_io.sh) has the arrangements. What goes to the kernel on purpose goes by syscall(2), which the shim does
// not see. The programs' descriptors are taken on at once (UDAX_READS_AND_WRITES=on:0).
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kPages = 64;
constexpr size_t kPage = 4096;

[[noreturn]] void fail(const char* what, long got = 0, long wanted = 0) {
  std::fprintf(stderr, "%s: %ld, not %ld (%s)\n", what, got, wanted, std::strerror(errno));
  std::exit(1);
}
void expect(bool holds, const char* what, long got = 0, long wanted = 0) {
  if (!holds) fail(what, got, wanted);
}
void equal(long got, long wanted, const char* what) { expect(got == wanted, what, got, wanted); }
long number_of(const char* text) { return std::strtol(text, nullptr, 10); }

int open_at(const char* path, int flags) {
  const int fd = ::open(path, flags | O_CLOEXEC, 0600);
  expect(fd >= 0, path);
  return fd;
}
ssize_t kernel_pread(int fd, void* to, size_t size, off_t at) { return ::syscall(SYS_pread64, fd, to, size, at); }

// A file of pages that are all `fill`, and a descriptor that has been taken on: read and written once each way.
int make(const char* path, char fill, int flags = O_RDWR) {
  const int fd = open_at(path, flags | O_CREAT);
  const std::vector<char> bytes(kPages * kPage, fill);
  equal(::ftruncate(fd, 0), 0, "ftruncate");
  equal(::pwrite(fd, bytes.data(), bytes.size(), 0), static_cast<long>(bytes.size()), "first write");
  std::vector<char> back(bytes.size());
  for (int i = 0; i < 3; ++i)
    equal(::pread(fd, back.data(), back.size(), 0), static_cast<long>(back.size()), "read");
  expect(back == bytes, "first bytes");
  return fd;
}

// Random calls, on a file and on a model of it.
int random_calls(char** arguments) {
  const int fd = open_at(arguments[0], O_RDWR | O_CREAT | O_TRUNC);
  std::mt19937_64 random(std::strtoull(arguments[1], nullptr, 0));
  std::printf("seed %s\n", arguments[1]);
  const auto draw = [&](uint64_t end) { return std::uniform_int_distribution<uint64_t>(0, end - 1)(random); };
  constexpr uint64_t kEnd = 3 << 20;
  std::vector<char> model;
  size_t position = 0;
  std::vector<char> buffer(200 << 10);
  std::vector<char> seen(buffer.size());
  for (int i = 0; i < 20000; ++i) {
    const size_t size = draw(8) == 0 ? draw(buffer.size()) + 1 : draw(9000) + 1;
    const size_t at = draw(model.size() + size);
    const uint64_t what = draw(100);
    const bool is_positioned = what % 2 == 0;
    const size_t from = is_positioned ? position : std::min(at, kEnd);
    const size_t there = from >= model.size() ? 0 : std::min(size, model.size() - from);
    if (what < 45) {
      ssize_t got = 0;
      if (is_positioned)
        got = ::read(fd, seen.data(), size);
      else
        got = ::pread(fd, seen.data(), size, static_cast<off_t>(from));
      equal(got, static_cast<long>(there), "bytes read");
      expect(std::equal(seen.data(), seen.data() + there, model.data() + from), "bytes", i);
      if (is_positioned) position += there;
    } else if (what < 90) {
      for (size_t k = 0; k < size; ++k) buffer[k] = static_cast<char>(draw(255) + 1);
      const std::array<iovec, 2> parts{{{buffer.data(), size / 2}, {buffer.data() + size / 2, size - size / 2}}};
      ssize_t done = 0;
      if (!is_positioned)
        done = what % 3 == 0 ? ::pwritev(fd, parts.data(), 2, static_cast<off_t>(from))
                             : ::pwrite(fd, buffer.data(), size, static_cast<off_t>(from));
      else
        done = what % 3 == 0 ? ::writev(fd, parts.data(), 2) : ::write(fd, buffer.data(), size);
      equal(done, static_cast<long>(size), "bytes written");
      if (model.size() < from + size) model.resize(from + size);
      std::copy_n(buffer.data(), size, model.data() + from);
      if (is_positioned) position += size;
    } else if (what < 96 || model.size() > kEnd) {
      position = draw(std::min<size_t>(model.size(), kEnd) + 1000);
      equal(::lseek(fd, static_cast<off_t>(position), SEEK_SET), static_cast<long>(position), "lseek");
    } else if (what < 98) {
      model.resize(draw(kEnd));
      equal(::ftruncate(fd, static_cast<off_t>(model.size())), 0, "ftruncate");
    } else {
      std::vector<char> all(model.size() + 1);
      equal(kernel_pread(fd, all.data(), all.size(), 0), static_cast<long>(model.size()), "bytes by the kernel");
      expect(std::equal(model.begin(), model.end(), all.begin()), "bytes by the kernel", i);
    }
    equal(::syscall(SYS_lseek, fd, 0L, SEEK_CUR), static_cast<long>(position), "position");
  }
  return 0;
}

int64_t ns_of(const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }

// After each write stat(2) says that it was not before it began; and how many blocks there are.
int times(char** arguments) {
  const int fd = make(arguments[0], 'a');
  std::mt19937 random(1);
  char byte = 0;
  for (int i = 0; i < 3000; ++i) {
    timespec now{};
    struct stat status {};
    if (i % 7 == 0) {
      const std::array<timespec, 2> past{{{5, 0}, {5, 0}}};
      equal(::futimens(fd, past.data()), 0, "futimens");
    }
    if (i % 11 == 0) equal(::fstat(fd, &status), 0, "fstat");
    if (i % 50 == 0) ::usleep(static_cast<useconds_t>(random() % 5000));
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    for (unsigned k = 0; k < 1 + random() % 20; ++k) equal(::pwrite(fd, &++byte, 1, i), 1, "pwrite");
    equal(::fstat(fd, &status), 0, "fstat");
    expect(ns_of(status.st_mtim) >= ns_of(now), "mtime", ns_of(status.st_mtim), ns_of(now));
    expect(ns_of(status.st_ctim) >= ns_of(now), "ctime", ns_of(status.st_ctim), ns_of(now));
  }
  const off_t far = 900 * kPage;
  equal(::ftruncate(fd, 1000 * kPage), 0, "ftruncate");
  for (int page = 0; page < 50; ++page) {
    for (int k = 0; k < 3; ++k) equal(::pwrite(fd, &byte, 1, far + page * static_cast<off_t>(kPage)), 1, "pwrite");
    struct stat status {};
    equal(::fstat(fd, &status), 0, "fstat");
    struct statx asked {};
    equal(::statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BLOCKS, &asked), 0, "statx");
    equal(status.st_blocks, static_cast<long>(asked.stx_blocks), "st_blocks");
    expect(asked.stx_blocks >= (kPages + static_cast<size_t>(page) + 1) * kPage / 512, "blocks of holes");
  }
  return 0;
}

// Reads until the time is over, while another process cuts the file short and writes it whole again: what is read is 'P'.
int cut_reader(char** arguments) {
  const int fd = open_at(arguments[0], O_RDONLY);
  std::vector<char> bytes(kPages * kPage);
  long short_reads = 0;
  const time_t end = ::time(nullptr) + number_of(arguments[1]);
  while (::time(nullptr) < end) {
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), 0);
    expect(got >= static_cast<ssize_t>(kPage), "bytes read", got);
    short_reads += got < static_cast<ssize_t>(bytes.size()) ? 1 : 0;
    const auto* const wrong = std::find_if(bytes.data(), bytes.data() + got, [](char c) { return c != 'P'; });
    expect(wrong == bytes.data() + got, "a byte that was never written, at", wrong - bytes.data());
  }
  std::printf("short reads: %ld\n", short_reads);
  return short_reads > 0 ? 0 : 2;
}

int cutter(char** arguments) {
  const int fd = open_at(arguments[0], O_RDWR | O_CREAT);
  const std::vector<char> bytes(kPages * kPage, 'P');
  equal(::pwrite(fd, bytes.data(), bytes.size(), 0), static_cast<long>(bytes.size()), "pwrite");
  const time_t end = ::time(nullptr) + number_of(arguments[1]);
  while (::time(nullptr) < end) {
    equal(::ftruncate(fd, kPage), 0, "ftruncate");
    equal(::syscall(SYS_pwrite64, fd, bytes.data() + kPage, bytes.size() - kPage, kPage),
          static_cast<long>(bytes.size() - kPage), "pwrite");
  }
  return 0;
}

int appends(char** arguments) {
  const int fd = make(arguments[0], 'a', O_RDWR | O_APPEND);
  long size = kPages * kPage;
  const auto grows = [&](bool wanted) {
    equal(::pwrite(fd, "x", 1, 0), 1, "pwrite");
    equal(::write(fd, "x", 1), 1, "write");
    struct stat status {};
    equal(::fstat(fd, &status), 0, "fstat");
    equal(status.st_size, size + (wanted ? 2 : 0), "size");
    size = status.st_size;
  };
  for (int i = 0; i < 50; ++i) grows(true);
  equal(::lseek(fd, 0, SEEK_SET), 0, "lseek");
  equal(::fcntl(fd, F_SETFL, 0), 0, "F_SETFL");
  for (int i = 0; i < 50; ++i) grows(false);
  const int other = ::dup(fd);
  equal(::fcntl(other, F_SETFL, O_APPEND), 0, "F_SETFL of a duplicate");
  for (int i = 0; i < 50; ++i) grows(true);
  return 0;
}

// Numbers that come to mean another file, by ways that the shim sees, and by others.
int numbers(char** arguments) {
  const auto reads = [](int fd, char wanted) {
    char byte = 0;
    for (int i = 0; i < 3; ++i) {
      equal(::pread(fd, &byte, 1, 100), 1, "pread");
      equal(byte, wanted, "the byte of another file");
    }
  };
  for (int way = 0; way < 5; ++way) {
    const int fd = make(arguments[0], 'a');
    const int other = make(arguments[1], 'b');
    reads(fd, 'a');
    if (way == 0) equal(::dup2(other, fd), fd, "dup2");
    if (way == 1) equal(::syscall(SYS_dup2, other, fd), fd, "dup2 unseen");
    if (way == 2) {
      std::FILE* const stream = ::fdopen(fd, "r");
      std::fclose(stream);
    }
    if (way == 3) equal(::syscall(SYS_close, fd), 0, "close unseen");
    if (way == 4) equal(::close(fd), 0, "close");
    if (way >= 2) equal(::syscall(SYS_openat, AT_FDCWD, arguments[1], O_RDWR, 0), fd, "the same number");
    reads(fd, 'b');
    equal(::pwrite(fd, "c", 1, 200), 1, "pwrite");
    equal(::pwrite(fd, "c", 1, 200), 1, "pwrite");
    char byte = 0;
    equal(kernel_pread(other, &byte, 1, 200), 1, "pread");
    equal(byte, 'c', "what was written to the number's new file");
    equal(::close(fd) + ::close(other), 0, "close");
  }
  return 0;
}

// Threads read while another one puts other files, and children, in the way: each read is of one file, all of it.
int threads(char** arguments) {
  std::array<int, 4> fds{};
  for (size_t i = 0; i < fds.size(); ++i) fds.at(i) = make(arguments[i % 2], i % 2 == 0 ? 'a' : 'b');
  std::atomic<bool> is_over{false};
  std::vector<std::thread> readers;
  for (uint32_t id = 0; id < 4; ++id) {
    readers.emplace_back([&, id] {
      std::mt19937 random(id);
      std::vector<char> bytes(kPage + 500);
      while (!is_over.load()) {
        const auto at = static_cast<off_t>(random() % (kPages * kPage));
        const ssize_t got = ::pread(fds.at(random() % 4), bytes.data(), bytes.size(), at);
        if (got < 0 && errno == EBADF) continue;  // just closed
        expect(got > 0, "pread", got);
        expect(bytes[0] == 'a' || bytes[0] == 'b', "a byte of no file", bytes[0]);
        equal(std::count(bytes.data(), bytes.data() + got, bytes[0]), got, "bytes of one file");
      }
    });
  }
  std::mt19937 random(9);
  const time_t end = ::time(nullptr) + number_of(arguments[2]);
  while (::time(nullptr) < end) {
    const int fd = fds.at(random() % 4);
    const uint64_t way = random() % 40;
    if (way > 0) {
      const int other = open_at(arguments[random() % 2], way % 2 == 0 ? O_RDWR : O_RDONLY);
      if (way < 10) ::close(fd);
      if (other != fd) {
        equal(::dup2(other, fd), fd, "dup2");
        equal(::close(other), 0, "close");
      }
      continue;
    }
    const pid_t child = ::fork();
    char byte = 0;
    if (child == 0) std::_Exit(::pread(fd, &byte, 1, 5) == 1 && (byte == 'a' || byte == 'b') ? 0 : 1);
    int status = 0;
    ::waitpid(child, &status, 0);
    equal(status, 0, "a child's read");
  }
  is_over.store(true);
  for (std::thread& reader : readers) reader.join();
  return 0;
}

// A position that parent and child share, and what one writes and the other reads.
int forks(char** arguments) {
  const int fd = make(arguments[0], 'a');
  equal(::lseek(fd, 0, SEEK_SET), 0, "lseek");
  constexpr int kEach = 2000;
  std::array<int, 2> ends{};
  equal(::pipe(ends.data()), 0, "pipe");
  const pid_t child = ::fork();
  for (int i = 0; i < kEach; ++i) equal(::write(fd, child == 0 ? "c" : "p", 1), 1, "write");
  if (child == 0) std::_Exit(::pwrite(fd, "last", 4, kPage * 3) == 4 ? 0 : 1);
  int status = 0;
  equal(::waitpid(child, &status, 0), child, "waitpid");
  equal(status, 0, "the child");
  equal(::lseek(fd, 0, SEEK_CUR), 2 * kEach, "the position that both have");
  std::vector<char> bytes(2 * kEach);
  equal(::pread(fd, bytes.data(), bytes.size(), 0), 2 * kEach, "pread");
  equal(std::count(bytes.begin(), bytes.end(), 'c'), kEach, "what the child wrote");
  equal(std::count(bytes.begin(), bytes.end(), 'p'), kEach, "what the parent wrote");
  std::array<char, 5> last{};
  equal(::pread(fd, last.data(), 4, kPage * 3), 4, "pread");
  expect(std::string("last") == last.data(), "the child's last write");
  return 0;
}

// Nothing that the library does takes a lock away, or keeps one.
int locks(char** arguments) {
  const auto others_may = [&](bool by_flock) {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto fd = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, arguments[0], O_RDWR, 0));
      struct flock wish {};
      wish.l_type = F_WRLCK;
      const long done = by_flock ? ::flock(fd, LOCK_EX | LOCK_NB) : ::syscall(SYS_fcntl, fd, F_SETLK, &wish);
      std::_Exit(done == 0 ? 1 : 0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status) == 1;
  };
  const int fd = open_at(arguments[0], O_RDWR | O_CREAT);
  struct flock wish {};
  wish.l_type = F_WRLCK;
  equal(::fcntl(fd, F_SETLK, &wish), 0, "F_SETLK");
  equal(::flock(fd, LOCK_EX), 0, "flock");
  std::vector<char> bytes(kPages * kPage, 'a');
  for (int i = 0; i < 50; ++i) {
    equal(::pwrite(fd, bytes.data(), bytes.size(), 0), static_cast<long>(bytes.size()), "pwrite");
    equal(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<long>(bytes.size()), "pread");
    if (i % 10 == 0)
      equal(::ftruncate(fd, i % 20 == 0 ? 100 << 20 : 1 << 20), 0, "ftruncate");  // views are made anew
  }
  expect(!others_may(false), "the POSIX lock is gone");
  expect(!others_may(true), "the flock is gone");
  equal(::close(fd), 0, "close");
  expect(others_may(false), "the POSIX lock stays");
  expect(others_may(true), "the flock stays");
  return 0;
}

// Until there is an error, which must come as one. `reads`: there are no writes, so nothing goes to the kernel.
int until_error(char** arguments) {
  const int fd = make(arguments[0], 'a');
  std::vector<char> bytes(1 << 16, 'b');
  const bool has_reads_only = arguments[1] != nullptr && std::strcmp(arguments[1], "reads") == 0;
  std::printf("begun\n");
  std::fflush(stdout);
  for (;;) {
    if (!has_reads_only && ::pwrite(fd, bytes.data(), bytes.size(), 0) < 0) break;
    if (::pread(fd, bytes.data(), bytes.size(), kPage) < 0) break;
  }
  std::printf("error %d\n", errno);
  // The last is what Linux says of requests that were in a ring.
  return errno == ENOTCONN || errno == ECONNABORTED || errno == EIO || errno == ECANCELED ? 0 : 1;
}

// A file whose holes there is no room for: errors are write(2)'s.
int no_room(char** arguments) {
  const int fd = open_at(arguments[0], O_RDWR);
  const off_t size = ::lseek(fd, 0, SEEK_END);
  std::vector<char> bytes(kPage, 'z');
  long refused = 0;
  for (off_t at = 0; at < size; at += static_cast<off_t>(kPage)) {
    // Three times, so that one of them is within a tick.
    for (int i = 0; i < 3; ++i) {
      const ssize_t done = ::pwrite(fd, bytes.data(), bytes.size(), at);
      if (done < 0) {
        equal(errno, ENOSPC, "errno");
        ++refused;
      } else {
        equal(done, static_cast<long>(kPage), "bytes written");
      }
    }
  }
  expect(refused > 0, "there was room for everything");
  return 0;
}

int writes_own_part(char** arguments) {
  const int fd = open_at(arguments[0], O_RDWR);
  const long part = number_of(arguments[1]);
  constexpr long kRecord = 100;
  const long records = kPages * static_cast<long>(kPage) / kRecord / 2;
  std::mt19937 random(static_cast<uint32_t>(part));
  std::map<long, char> model;
  const time_t end = ::time(nullptr) + number_of(arguments[2]);
  std::array<char, kRecord> bytes{};
  std::array<char, kRecord> wanted{};
  for (long i = 0; ::time(nullptr) < end; ++i) {
    const long record = static_cast<long>(random() % static_cast<uint32_t>(records));
    const off_t at = (record * 2 + part) * kRecord;
    const bool by_kernel = i % 5 == 0;
    if (i % 2 == 0) {
      bytes.fill(static_cast<char>('A' + random() % 26));
      const auto done = by_kernel ? ::syscall(SYS_pwrite64, fd, bytes.data(), bytes.size(), at)
                                  : ::pwrite(fd, bytes.data(), bytes.size(), at);
      equal(done, kRecord, "pwrite");
      model[record] = bytes[0];
    } else if (model.contains(record)) {
      equal(by_kernel ? kernel_pread(fd, bytes.data(), kRecord, at) : ::pread(fd, bytes.data(), kRecord, at),
            kRecord, "pread");
      wanted.fill(model[record]);
      expect(bytes == wanted, "a record that nobody else writes", at);
    }
  }
  for (const auto& [record, byte] : model) {
    equal(kernel_pread(fd, bytes.data(), kRecord, (record * 2 + part) * kRecord), kRecord, "pread");
    wanted.fill(byte);
    expect(bytes == wanted, "a record at the end", record);
  }
  return 0;
}

// A byte is written, again and again, within a tick of the clock.
int writes_byte(char** arguments) {
  const int fd = open_at(arguments[0], O_RDWR);
  for (int i = 0; i < 200; ++i) equal(::pwrite(fd, "x", 1, 0), 1, "pwrite");
  return 0;
}

int fills(char** arguments) {
  make(arguments[0], 'a');
  return 0;
}

// What a call costs, in nanoseconds: 4 KiB at random of 64 MiB, the best of some rounds. Not a test.
int bench(char** arguments) {
  const int fd = open_at(arguments[0], O_RDWR | O_CREAT);
  constexpr uint32_t kBenchPages = 16384;
  constexpr int kRounds = 7;
  const auto calls = static_cast<uint32_t>(number_of(arguments[1]));
  std::vector<char> all(size_t{kBenchPages} * kPage, 'a');
  equal(::pwrite(fd, all.data(), all.size(), 0), static_cast<long>(all.size()), "pwrite");
  std::array<char, kPage> bytes{};
  const auto place = [](uint32_t i) { return static_cast<off_t>((i * 2654435761U >> 8) % kBenchPages * kPage); };
  const auto measure = [&](const char* name, const std::function<ssize_t(uint32_t)>& call) {
    int64_t best = INT64_MAX;
    for (int round = 0; round < kRounds; ++round) {
      timespec from{};
      timespec to{};
      ::clock_gettime(CLOCK_MONOTONIC, &from);
      for (uint32_t i = 0; i < calls; ++i) expect(call(i) == static_cast<ssize_t>(kPage), name);
      ::clock_gettime(CLOCK_MONOTONIC, &to);
      best = std::min(best, (ns_of(to) - ns_of(from)) / calls);
    }
    std::printf("%s %ld ", name, static_cast<long>(best));
  };
  const auto rewind = [&](uint32_t i) {
    if (i % kBenchPages == 0) equal(::lseek(fd, 0, SEEK_SET), 0, "lseek");
  };
  measure("pread", [&](uint32_t i) { return ::pread(fd, bytes.data(), kPage, place(i)); });
  measure("pwrite", [&](uint32_t i) { return ::pwrite(fd, bytes.data(), kPage, place(i)); });
  measure("read", [&](uint32_t i) { return rewind(i), ::read(fd, bytes.data(), kPage); });
  measure("write", [&](uint32_t i) { return rewind(i), ::write(fd, bytes.data(), kPage); });
  std::printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::function<int(char**)>> commands{{"random", random_calls},
                                                                   {"times", times},
                                                                   {"cut_reader", cut_reader},
                                                                   {"cutter", cutter},
                                                                   {"appends", appends},
                                                                   {"numbers", numbers},
                                                                   {"forks", forks},
                                                                   {"locks", locks},
                                                                   {"until_error", until_error},
                                                                   {"no_room", no_room},
                                                                   {"own_part", writes_own_part},
                                                                   {"byte", writes_byte},
                                                                   {"fill", fills},
                                                                   {"threads", threads},
                                                                   {"bench", bench}};
  const auto command = argc < 3 ? commands.end() : commands.find(argv[1]);
  if (command == commands.end()) {
    std::fprintf(stderr, "usage: direct_io COMMAND FILE [ARGUMENTS]\n");
    return 2;
  }
  return command->second(argv + 2);
}
