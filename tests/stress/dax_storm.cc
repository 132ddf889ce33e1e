// SPDX-License-Identifier: BSD-3-Clause
//
// What makes the kernel, its page cache and the daemon wait for each other, all at once, to see that nobody waits for ever:
// stores, calls whose buffers are mappings of the same and of other files of the mount, direct and cached, syncs, cuts,
// holes, flips of the DAX flag, by several processes on a few files. Bytes are compared elsewhere.
//
//   dax_storm FOLDER SEED SECONDS [kills] [until-gone]
//     kills       processes are killed at any moment, and others take their place
//     until-gone  the mount will go; what fails then is no error, and the time is only a limit
//   Exit status 0: all went on. 1: something failed, or somebody made no step for a long time. 2: wrong usage.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <array>
#include <chrono>
#include <csetjmp>
#include <fstream>
#include <iterator>

#include "base/random.h"
#include "tests/stress/workers.h"

namespace udax::stress {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 48;     // of each file, always there
constexpr uint64_t kPagesMax = 64;  // what is behind comes and goes
constexpr size_t kFiles = 3;
constexpr size_t kProcesses = 6;
constexpr auto kPatience = std::chrono::seconds(60);

struct Options {
  std::string folder;
  uint64_t seed = 0;
  uint64_t seconds = 0;
  bool kills = false;
  bool until_gone = false;
};

struct Shared {
  std::array<std::atomic<uint64_t>, kProcesses> steps{};
  std::array<std::atomic<const char*>, kProcesses> doing{};  // string literals: at the same place in all processes
  std::atomic<bool> is_over{false};
};

sigjmp_buf bus_error;
void on_bus_error(int) { siglongjmp(bus_error, 1); }

class Process {
 public:
  Process(Shared& shared, const Options& o, size_t number, uint64_t seed)
      : s_(shared), o_(o), number_(number), random_(seed) {}

  [[noreturn]] void run() {
    struct sigaction action {};
    action.sa_handler = on_bus_error;
    ::sigaction(SIGBUS, &action, nullptr);
    void* space = nullptr;
    if (::posix_memalign(&space, kPage, 8 * kPage) != 0) die("no memory");
    aligned_ = static_cast<char*>(space);
    while (!s_.is_over.load()) {
      // A store to a mapping of a mount that has gone.
      if (sigsetjmp(bus_error, 1) != 0) gone("SIGBUS");
      for (File& file : files_) {
        if (file.fd < 0) open(file);
      }
      for (int i = 0; i < 20 && !s_.is_over.load(); ++i) step();
    }
    ::_exit(0);
  }

 private:
  struct File {
    int fd = -1;
    int direct = -1;
    char* map = nullptr;
  };

  /// Fails, or leaves if that was to be expected.
  void gone(const char* what) const {
    const int error = errno;
    const bool has_gone = o_.until_gone && ::open((o_.folder + "/file0").c_str(), O_RDONLY) < 0;
    if (has_gone) ::_exit(0);
    die("seed %lu: %s: %s", o_.seed, what, std::strerror(error));
  }
  void check(bool is_right, const char* what) const {
    if (!is_right) gone(what);
  }
  void say(const char* what) const {
    s_.doing.at(number_).store(what, std::memory_order_relaxed);
    s_.steps.at(number_).fetch_add(1, std::memory_order_relaxed);
  }

  [[nodiscard]] std::string path_of(const File& file) const {
    return o_.folder + "/file" + std::to_string(&file - files_.data());
  }

  void open(File& file) {
    say("open");
    if (file.map != nullptr) ::munmap(file.map, kPages * kPage);
    if (file.fd >= 0) ::close(file.fd);
    if (file.direct >= 0) ::close(file.direct);
    file = {};
    file.fd = ::open(path_of(file).c_str(), O_RDWR);
    check(file.fd >= 0, "open");
    file.direct = ::open(path_of(file).c_str(), O_RDWR | O_DIRECT);
    check(file.direct >= 0, "open, O_DIRECT");
    void* const map = ::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
    check(map != MAP_FAILED, "mmap");
    file.map = static_cast<char*>(map);
  }

  File& any_file() { return files_.at(random_.below(kFiles)); }
  uint64_t any_offset(uint64_t length) { return random_.below(kPages * kPage - length); }
  uint64_t any_page(uint64_t pages) { return random_.below(kPages - pages) * kPage; }

  void step() {
    File& file = any_file();
    File& other = any_file();  // sometimes the same
    const uint64_t length = random_.between(1, random_.one_in(4) ? 5 * kPage : 500);
    const uint64_t at = any_offset(length);
    const auto size = static_cast<ssize_t>(length);
    switch (random_.below(18)) {
      case 0:
      case 1:
      case 2:
        say("store");
        std::memset(file.map + at, 's', length);
        return;
      case 3:
      case 4:
        say("write from a mapping");
        check(::pwrite(file.fd, other.map + any_offset(length), length, static_cast<off_t>(at)) == size, "pwrite");
        return;
      case 5:
        say("read into a mapping");
        check(::pread(file.fd, other.map + any_offset(length), length, static_cast<off_t>(at)) == size, "pread");
        return;
      case 6:
        say("direct write from a mapping");
        check(::pwrite(file.direct, other.map + any_page(2), 2 * kPage, static_cast<off_t>(any_page(2))) ==
                  2 * static_cast<ssize_t>(kPage),
              "direct pwrite");
        return;
      case 7:
        say("direct read into a mapping");
        check(::pread(file.direct, other.map + any_page(2), 2 * kPage, static_cast<off_t>(any_page(2))) ==
                  2 * static_cast<ssize_t>(kPage),
              "direct pread");
        return;
      case 8:
        say("direct write");
        check(::pwrite(file.direct, aligned_, 4 * kPage, static_cast<off_t>(any_page(4))) ==
                  4 * static_cast<ssize_t>(kPage),
              "direct pwrite");
        return;
      case 9:
        say("write");
        check(::pwrite(file.fd, aligned_, std::min<uint64_t>(length, 8 * kPage), static_cast<off_t>(at)) >= 0,
              "pwrite");
        return;
      case 10:
        say("fsync");
        check(::fsync(file.fd) == 0, "fsync");
        return;
      case 11:
        say("msync");
        check(::msync(file.map, kPages * kPage, random_.one_in(2) ? MS_SYNC : MS_ASYNC) == 0, "msync");
        return;
      case 12:
        say("truncate");
        check(::ftruncate(file.fd, static_cast<off_t>(random_.between(kPages * kPage, kPagesMax * kPage))) == 0,
              "ftruncate");
        return;
      case 13:
        say("fallocate");
        check(::fallocate(file.fd,
                          random_.one_in(2) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE,
                          static_cast<off_t>(at), size) == 0,
              "fallocate");
        return;
      case 14: {
        say("copy_file_range");
        auto from = static_cast<off_t>(any_offset(length));
        auto to = static_cast<off_t>(at);
        if (&file == &other) return;
        check(::copy_file_range(other.fd, &from, file.fd, &to, length, 0) >= 0, "copy_file_range");
        return;
      }
      case 15: {
        say("flip");
        const char value = random_.one_in(2) ? '1' : '0';
        check(::setxattr(path_of(file).c_str(), "user.udax.dax", &value, 1, 0) == 0, "setxattr");
        return;
      }
      case 16:
        if (random_.one_in(3)) open(file);
        return;
      default:
        say("give pages up");
        check(::madvise(file.map, kPages * kPage, random_.one_in(2) ? MADV_DONTNEED : MADV_WILLNEED) == 0,
              "madvise");
    }
  }

  Shared& s_;
  const Options& o_;
  const size_t number_;
  Random random_;
  std::array<File, kFiles> files_;
  char* aligned_ = nullptr;
};

pid_t start(Shared& s, const Options& o, size_t number, uint64_t seed) {
  const pid_t pid = ::fork();
  if (pid < 0) die("fork: %s", std::strerror(errno));
  if (pid == 0) Process(s, o, number, seed).run();
  return pid;
}

void make_files(const Options& o) {
  const std::string bytes(kPages * kPage, 'x');
  for (size_t i = 0; i < kFiles; ++i) {
    const std::string path = o.folder + "/file" + std::to_string(i);
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ::pwrite(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
      die("%s: %s", path.c_str(), std::strerror(errno));
    if (i % 2 == 0 && ::setxattr(path.c_str(), "user.udax.dax", "1", 1, 0) != 0)
      die("user.udax.dax: %s", std::strerror(errno));
    ::close(fd);
  }
}

std::string text_of(pid_t pid, const char* name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Who watches the others.
class Watch {
 public:
  Watch(Shared& shared, const Options& o) : s_(shared), o_(o), random_(o.seed) {}

  int run() {
    for (size_t i = 0; i < kProcesses; ++i) begin(i);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(o_.seconds);
    while (std::chrono::steady_clock::now() < end && is_right_ && left_ > 0) {
      ::usleep(20'000);
      if (o_.kills && random_.one_in(3)) ::kill(pids_.at(random_.below(kProcesses)), SIGKILL);
      reap(true);
      look_for_stuck();
    }
    if (o_.until_gone && is_right_ && left_ > 0) {
      std::fprintf(stderr, "the mount has not gone\n");
      is_right_ = false;
    }
    s_.is_over.store(true);
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (left_ > 0 && is_right_ && std::chrono::steady_clock::now() < limit) {
      ::usleep(20'000);
      reap(false);
    }
    if (left_ > 0) end_all();
    uint64_t steps = 0;
    for (const auto& count : s_.steps) steps += count.load();
    if (is_right_) std::printf("%lu steps, %lu kills: all went on\n", steps, kills_);
    return is_right_ ? 0 : 1;
  }

 private:
  void begin(size_t i) {
    last_.at(i) = {s_.steps.at(i).load(), std::chrono::steady_clock::now()};
    pids_.at(i) = start(s_, o_, i, random_.next());
    ++left_;
  }

  void reap(bool restart) {
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      --left_;
      size_t i = 0;
      while (i < kProcesses && pids_.at(i) != pid) ++i;
      if (i == kProcesses) continue;
      pids_.at(i) = 0;
      const bool was_killed = o_.kills && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
      if (was_killed) ++kills_;
      if (was_killed && restart) {
        begin(i);
      } else if (!was_killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        is_right_ = false;
      }
    }
  }

  void look_for_stuck() {
    const auto now = std::chrono::steady_clock::now();
    for (size_t i = 0; i < kProcesses; ++i) {
      const uint64_t steps = s_.steps.at(i).load();
      if (steps != last_.at(i).first || pids_.at(i) == 0) {
        last_.at(i) = {steps, now};
      } else if (now - last_.at(i).second > kPatience) {
        tell_stuck(i);
        is_right_ = false;
      }
    }
  }

  void tell_stuck(size_t i) {
    const char* const doing = s_.doing.at(i).load();
    std::fprintf(stderr, "seed %lu: process %zu is stuck: %s\n%s\n", o_.seed, i, doing == nullptr ? "?" : doing,
                 text_of(pids_.at(i), "stack").c_str());
  }

  void end_all() {
    for (size_t i = 0; i < kProcesses; ++i) {
      if (pids_.at(i) == 0) continue;
      if (is_right_) tell_stuck(i);
      ::kill(pids_.at(i), SIGKILL);
    }
    is_right_ = false;
  }

  Shared& s_;
  const Options& o_;
  Random random_;
  std::array<pid_t, kProcesses> pids_{};
  std::array<std::pair<uint64_t, std::chrono::steady_clock::time_point>, kProcesses> last_{};
  size_t left_ = 0;
  uint64_t kills_ = 0;
  bool is_right_ = true;
};

}  // namespace
}  // namespace udax::stress

int main(int argc, char** argv) {
  using namespace udax::stress;
  Options o;
  bool is_right = argc >= 4;
  if (is_right) {
    o.folder = argv[1];
    o.seed = std::strtoull(argv[2], nullptr, 10);
    o.seconds = std::strtoull(argv[3], nullptr, 10);
  }
  for (int i = 4; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "kills") {
      o.kills = true;
    } else if (word == "until-gone") {
      o.until_gone = true;
    } else {
      is_right = false;
    }
  }
  if (!is_right) {
    std::fprintf(stderr, "usage: dax_storm FOLDER SEED SECONDS [kills] [until-gone]\n");
    return 2;
  }
  make_files(o);
  return Watch(make_shared_object<Shared>(), o).run();
}
