// SPDX-License-Identifier: BSD-3-Clause
//
// Every byte that is stored to a shared mapping must be where it belongs, whatever happens to the file and to the mapping: several
// processes and threads store, by themselves and by system calls into mapped buffers, fork, unmap and remap, while a controller
// punches, cuts, writes, flips the DAX flag and syncs. Started under the preload shim its mappings are direct ones.
//
//   direct_storm FILE SEED SECONDS [flips]
//     flips   the file's DAX flag is changed, too: mappings made meanwhile are the kernel's
//     Exit status 0: nothing lost, stale or refused. 1: something was. 2: wrong usage.
//
// How it is checked: a page has an epoch, odd while the controller takes its content away. A thread has a slot of its own in each
// page. What it stored last must be there as long as the epoch is the same as it was before and after the store. Likewise the
// controller's token, at the page's end, is never older than the one that was announced before the load.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/xattr.h>

#include <array>
#include <chrono>
#include <csetjmp>
#include <thread>

#include "base/random.h"
#include "tests/stress/workers.h"

namespace udax::stress {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 1024;
constexpr uint64_t kSteady = 960;  // those behind are cut off now and then
constexpr uint64_t kLength = kPages * kPage;
constexpr size_t kProcesses = 3;
constexpr size_t kThreads = 3;
constexpr uint64_t kTokenAt = kPage - 8;
constexpr uint32_t kUnknown = UINT32_MAX;

struct Shared {
  std::array<std::atomic<uint32_t>, kPages> epoch{};
  std::array<std::atomic<uint64_t>, kPages> token{};  // announced
  std::atomic<bool> is_over{false};
  std::atomic<uint64_t> stores{0}, kernel_stores{0}, forks{0}, remaps{0}, lost{0}, stale{0}, refused{0};
};

thread_local sigjmp_buf bus_error;
thread_local volatile sig_atomic_t may_jump = 0;
void on_bus_error(int) {
  if (may_jump == 0) ::_exit(3);
  siglongjmp(bus_error, 1);
}

class Storer {
 public:
  Storer(Shared& shared, int fd, size_t slot, uint64_t seed) : s_(shared), fd_(fd), slot_(slot), random_(seed) {
    source_ = ::memfd_create("source", MFD_CLOEXEC);
    if (source_ < 0 || ::ftruncate(source_, 8) != 0) die("no source file: %s", std::strerror(errno));
    remember_nothing();
  }

  void run() {
    map();
    while (!s_.is_over.load(std::memory_order_relaxed)) {
      for (int i = 0; i < 200; ++i) guarded([this] { step(random_.below(kPages)); });
      if (random_.one_in(20)) change_mapping();
      if (random_.one_in(100)) guarded([this] { fork_once(); });
    }
    s_.stores += stores_;
    s_.kernel_stores += kernel_stores_;
    ::munmap(base_, kLength);
    ::close(source_);
  }

 private:
  using Word = std::atomic<uint64_t>;

  template <typename F>
  void guarded(F body) {
    page_ = kPages;
    if (sigsetjmp(bus_error, 1) == 0) {
      may_jump = 1;
      body();
    } else if (page_ >= kPages) {
      ++s_.refused;
    } else {
      // Cut off at this moment: that is what SIGBUS is for. Anywhere else it is wrong.
      if (page_ < kSteady) report("SIGBUS", page_, 0, 0, s_.refused);
      known_[page_] = kUnknown;
    }
    may_jump = 0;
  }

  void report(const char* what, uint64_t page, uint64_t found, uint64_t expected,
              std::atomic<uint64_t>& count) const {
    if (count.fetch_add(1) < 5) {
      std::fprintf(stderr, "%s: page %llu, slot %zu: found %llx, expected %llx, epoch %u\n", what,
                   static_cast<unsigned long long>(page), slot_, static_cast<unsigned long long>(found),
                   static_cast<unsigned long long>(expected), s_.epoch[page].load());
    }
  }
  void remember_nothing() { known_.fill(kUnknown); }
  Word& word(uint64_t page, uint64_t at) { return *reinterpret_cast<Word*>(base_ + page * kPage + at); }

  void map() {
    void* const got = ::mmap(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (got == MAP_FAILED) die("mmap: %s", std::strerror(errno));
    base_ = static_cast<char*>(got);
  }

  void step(uint64_t page) {
    page_ = page;
    const uint32_t before = s_.epoch[page].load();
    const uint64_t announced = s_.token[page].load();
    const uint64_t found = word(page, slot_ * 64).load();
    const uint64_t token = word(page, kTokenAt).load();
    const bool steady = before % 2 == 0 && s_.epoch[page].load() == before;
    if (steady && known_[page] == before && found != last_[page])
      report("lost", page, found, last_[page], s_.lost);
    if (steady && token < announced) report("stale", page, token, announced, s_.stale);
    if (steady) {
      last_[page] = found;
      known_[page] = before;
    } else {
      known_[page] = kUnknown;
    }
    if (random_.one_in(3)) store(page);
  }

  void store(uint64_t page) {
    const uint64_t value = (uint64_t{slot_} + 1) << 48 | page << 36 | (++serial_ & 0xfffffffff);
    const uint32_t before = s_.epoch[page].load();
    bool done = true;
    if (random_.one_in(4)) {
      done = ::pwrite(source_, &value, 8, 0) == 8 && ::pread(source_, &word(page, slot_ * 64), 8, 0) == 8;
      if (!done && page < kSteady) report("EFAULT", page, static_cast<uint64_t>(errno), 0, s_.refused);
      ++kernel_stores_;
    } else {
      word(page, slot_ * 64).store(value);
    }
    ++stores_;
    const bool steady = done && before % 2 == 0 && s_.epoch[page].load() == before;
    known_[page] = steady ? before : kUnknown;
    last_[page] = value;
  }

  void change_mapping() {
    ++s_.remaps;
    const uint64_t cut = (1 + random_.below(kPages - 1)) * kPage;
    switch (random_.below(4)) {
      case 0:
        if (::munmap(base_, kLength) != 0) die("munmap: %s", std::strerror(errno));
        map();
        break;
      case 1: {  // shorter, and longer again, here or elsewhere
        if (::mremap(base_, kLength, cut, 0) != base_) die("mremap: %s", std::strerror(errno));
        void* const got = ::mremap(base_, cut, kLength, MREMAP_MAYMOVE);
        if (got != MAP_FAILED) {
          base_ = static_cast<char*>(got);
        } else if (errno == EFAULT) {
          // A part was mapped anew while the file was no DAX file: two mappings, which mremap(2) does not take as one.
          ::munmap(base_, cut);
          map();
        } else {
          die("mremap: %s", std::strerror(errno));
        }
        break;
      }
      case 2:  // a part of it anew
        if (::mmap(base_ + cut, kLength - cut, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_,
                   static_cast<off_t>(cut)) == MAP_FAILED) {
          die("mmap of a part: %s", std::strerror(errno));
        }
        break;
      default:
        if (::mprotect(base_, cut, PROT_READ) != 0 || ::mprotect(base_, cut, PROT_READ | PROT_WRITE) != 0 ||
            ::msync(base_, kSteady * kPage, MS_SYNC) != 0) {
          die("mprotect, msync: %s", std::strerror(errno));
        }
    }
  }

  // A child sees what was stored, and what it stores is there.
  void fork_once() {
    const uint64_t page = random_.below(kSteady);
    page_ = page;
    store(page);
    const uint32_t before = known_[page];
    const uint64_t value = last_[page] + 1;
    ++s_.forks;
    const pid_t child = ::fork();
    if (child < 0) return;
    if (child == 0) {
      const uint64_t found = word(page, slot_ * 64).load();
      const bool steady = before != kUnknown && s_.epoch[page].load() == before;
      if (steady && found != value - 1) report("lost in the child", page, found, value - 1, s_.lost);
      word(page, slot_ * 64).store(value);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) report("child ended", page, static_cast<uint64_t>(status), 0, s_.refused);
    last_[page] = value;  // what the next step expects, if the epoch is still the same
  }

  Shared& s_;
  int fd_;
  size_t slot_;
  Random random_;
  int source_ = -1;
  char* base_ = nullptr;
  volatile uint64_t page_ = 0;
  uint64_t serial_ = 0, stores_ = 0, kernel_stores_ = 0;
  std::array<uint64_t, kPages> last_{};
  std::array<uint32_t, kPages> known_{};  // the epoch that last_ is of
};

struct Deeds {
  uint64_t punches = 0, cuts = 0, writes = 0, flips = 0, syncs = 0;
};

class Controller {
 public:
  Controller(Shared& shared, int fd, uint64_t seed, bool flips)
      : s_(shared), fd_(fd), random_(seed), flips_(flips) {}

  Deeds run(uint64_t seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (std::chrono::steady_clock::now() < end) step();
    s_.is_over = true;
    return deeds_;
  }

 private:
  void step() {
    const uint64_t what = random_.below(1000);
    if (what < 300) {
      punch();
    } else if (what < 320) {
      cut();
    } else if (what < 900) {
      write();
    } else if (what < 980) {
      if (::fsync(fd_) != 0) die("fsync: %s", std::strerror(errno));
      ++deeds_.syncs;
    } else if (what < 985 && flips_) {
      is_dax_ = !is_dax_;
      if (::fsetxattr(fd_, "user.udax.dax", is_dax_ ? "1" : "0", 1, 0) != 0) die("flip: %s", std::strerror(errno));
      ++deeds_.flips;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void begin(uint64_t first, uint64_t end) {
    for (uint64_t p = first; p < end; ++p) {
      s_.token[p] = 0;
      ++s_.epoch[p];
    }
  }
  void finish(uint64_t first, uint64_t end) {
    for (uint64_t p = first; p < end; ++p) ++s_.epoch[p];
  }
  void punch() {
    const uint64_t first = random_.below(kPages - 8);
    const uint64_t end = first + random_.between(1, 8);
    begin(first, end);
    if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first * kPage),
                    static_cast<off_t>((end - first) * kPage)) != 0) {
      die("punch: %s", std::strerror(errno));
    }
    finish(first, end);
    ++deeds_.punches;
  }
  void cut() {
    begin(kSteady, kPages);
    const uint64_t size = random_.between(kSteady, kPages - 1) * kPage;
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0 || ::ftruncate(fd_, kLength) != 0) {
      die("truncate: %s", std::strerror(errno));
    }
    finish(kSteady, kPages);
    ++deeds_.cuts;
  }
  void write() {
    const uint64_t page = random_.below(kPages);
    const auto at = static_cast<off_t>(page * kPage + kTokenAt);
    const uint64_t value = ++serial_;
    if (::pwrite(fd_, &value, 8, at) != 8) die("write: %s", std::strerror(errno));
    s_.token[page] = value;
    uint64_t again = 0;
    if (::pread(fd_, &again, 8, at) != 8 || again != value) ++s_.stale;
    ++deeds_.writes;
  }

  Shared& s_;
  int fd_;
  Random random_;
  bool flips_;
  uint64_t serial_ = 0;
  bool is_dax_ = true;
  Deeds deeds_;
};

int run(const char* path, uint64_t seed, uint64_t seconds, bool flips) {
  const int fd = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, kLength) != 0) die("%s: %s", path, std::strerror(errno));
  auto& shared = make_shared_object<Shared>();
  struct sigaction action {};
  action.sa_handler = on_bus_error;
  action.sa_flags = SA_NODEFER;
  ::sigaction(SIGBUS, &action, nullptr);
  Deeds& deeds = make_shared_object<Deeds>();
  Workers workers;
  for (size_t p = 0; p < kProcesses; ++p) {
    workers.add("storer", [&shared, fd, seed, p] {
      std::vector<std::thread> threads;
      for (size_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&shared, fd, seed, p, t] {
          auto storer = std::make_unique<Storer>(shared, fd, p * kThreads + t, seed + p * kThreads + t + 1);
          storer->run();
        });
      }
      for (std::thread& thread : threads) thread.join();
    });
  }
  workers.add("controller", [&] { deeds = Controller(shared, fd, seed, flips).run(seconds); });
  const int status = workers.run();
  const auto n = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "%llu stores (%llu by the kernel), %llu forks, %llu remaps; %llu punches, %llu cuts, %llu writes, %llu "
      "flips, "
      "%llu syncs; lost %llu, stale %llu, refused %llu\n",
      n(shared.stores), n(shared.kernel_stores), n(shared.forks), n(shared.remaps), n(deeds.punches),
      n(deeds.cuts), n(deeds.writes), n(deeds.flips), n(deeds.syncs), n(shared.lost), n(shared.stale),
      n(shared.refused));
  return status != 0 || shared.lost + shared.stale + shared.refused != 0 ? 1 : 0;
}

}  // namespace
}  // namespace udax::stress

int main(int argc, char** argv) {
  const bool flips = argc == 5 && std::strcmp(argv[4], "flips") == 0;
  if (argc != 4 && !flips) {
    std::fprintf(stderr, "usage: direct_storm FILE SEED SECONDS [flips]\n");
    return 2;
  }
  return udax::stress::run(argv[1], std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10),
                           flips);
}
