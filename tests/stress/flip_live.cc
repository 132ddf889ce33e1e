// SPDX-License-Identifier: BSD-3-Clause
//
// A file that is open and mapped by several processes, in both ways, while others flip its DAX flag in a loop: what "would
// probably run into problems", and "crash an burn badly", said the thread "ext4: introduce per-inode DAX flag" of August
// 2017. Here nobody may see a wrong byte, be refused, or wait for ever, and each flip shows when its call returns.
//
//   flip_live FILE SEED SECONDS      exit status 0: so it was. 1: no. 2: wrong usage.
//
// Each of the workers owns bytes of every page, which only it changes: by stores through mappings, by write(2), through
// descriptors that were opened at different times, so in both ways. Whatever it has put there it must see at once, by each
// way, and go on seeing. Beside them: one with a private mapping, whose stores must stay its own; one that reads
// directly. The flags are flipped by all calls that can.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "base/random.h"
#include "tests/stress/workers.h"

namespace udax::stress {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 24;
constexpr uint64_t kSize = kPages * kPage;
constexpr uint64_t kOwners = 3;
constexpr uint32_t kDaxFlag = 0x02000000;  // FS_DAX_FL; its name is missing in older headers

struct Shared {
  std::atomic<bool> is_over{false};
  std::atomic<uint64_t> flips{0};
  std::atomic<uint64_t> changes{0};
  std::atomic<uint64_t> checks{0};
};

struct Options {
  std::string path;
  uint64_t seed = 0;
  uint64_t seconds = 0;
};

uint64_t owner_of(uint64_t at) { return (at / 40 + at / kPage) % kOwners; }

int open_file(const Options& o, int flags) {
  const int fd = ::open(o.path.c_str(), flags);
  if (fd < 0) die("open: %s", std::strerror(errno));
  return fd;
}

uint8_t* map_file(int fd, int flags) {
  void* const map = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (map == MAP_FAILED) die("mmap: %s", std::strerror(errno));
  return static_cast<uint8_t*>(map);
}

class Owner {
 public:
  Owner(Shared& shared, const Options& o, uint64_t number)
      : s_(shared), o_(o), number_(number), random_(o.seed * 16 + number) {}

  void run() {
    for (Way& way : ways_) open(way);
    while (!s_.is_over.load()) {
      Way& way = ways_[random_.below(ways_.size())];
      const uint64_t from = random_.below(kSize);
      const uint64_t to = std::min(kSize, from + random_.between(1, random_.one_in(8) ? 3 * kPage : 300));
      switch (random_.below(12)) {
        case 0: open(way); break;
        case 1:
          if (::fsync(way.fd) != 0) die("fsync: %s", std::strerror(errno));
          break;
        case 2:
          if (::msync(way.map, kSize, random_.one_in(2) ? MS_SYNC : MS_ASYNC) != 0)
            die("msync: %s", std::strerror(errno));
          break;
        case 3:
        case 4:
        case 5:
        case 6: store(way, from, to); break;
        case 7:
        case 8:
        case 9: write(way, from, to); break;
        default: check(from, to);
      }
    }
    check(0, kSize);
  }

 private:
  struct Way {
    int fd = -1;
    uint8_t* map = nullptr;
  };

  void open(Way& way) {
    // A mapping may outlive its descriptor.
    if (way.fd >= 0 && ::close(way.fd) != 0) die("close: %s", std::strerror(errno));
    way.fd = open_file(o_, O_RDWR);
    if (way.map != nullptr && random_.one_in(2)) return;
    if (way.map != nullptr) ::munmap(way.map, kSize);
    way.map = map_file(way.fd, MAP_SHARED);
  }

  template <typename F>
  void each_run(uint64_t from, uint64_t to, const F& f) {
    while (from < to) {
      if (owner_of(from) != number_) {
        ++from;
        continue;
      }
      uint64_t end = from;
      while (end < to && owner_of(end) == number_) ++end;
      f(from, end);
      from = end;
    }
  }

  void store(Way& way, uint64_t from, uint64_t to) {
    each_run(from, to, [&](uint64_t at, uint64_t end) {
      random_.fill(model_.data() + at, end - at);
      std::memcpy(way.map + at, model_.data() + at, end - at);
    });
    s_.changes.fetch_add(1, std::memory_order_relaxed);
    check(from, to);
  }

  void write(Way& way, uint64_t from, uint64_t to) {
    each_run(from, to, [&](uint64_t at, uint64_t end) {
      random_.fill(model_.data() + at, end - at);
      if (::pwrite(way.fd, model_.data() + at, end - at, static_cast<off_t>(at)) != static_cast<ssize_t>(end - at))
        die("pwrite: %s", std::strerror(errno));
    });
    s_.changes.fetch_add(1, std::memory_order_relaxed);
    check(from, to);
  }

  void check(uint64_t from, uint64_t to) {
    Way& way = ways_[random_.below(ways_.size())];
    std::array<uint8_t, kSize> bytes;
    if (random_.one_in(2)) {
      if (::pread(way.fd, bytes.data(), to - from, static_cast<off_t>(from)) != static_cast<ssize_t>(to - from))
        die("pread: %s", std::strerror(errno));
      compare("read(2)", from, to, bytes.data());
    } else {
      std::memcpy(bytes.data(), way.map + from, to - from);
      compare("a mapping", from, to, bytes.data());
    }
    s_.checks.fetch_add(1, std::memory_order_relaxed);
  }

  void compare(const char* how, uint64_t from, uint64_t to, const uint8_t* found) {
    for (uint64_t at = from; at < to; ++at) {
      if (owner_of(at) != number_ || found[at - from] == model_[at]) continue;
      die("seed %lu: worker %lu sees by %s that byte %lu of its own is %02x instead of %02x, after %lu flips",
          o_.seed, number_, how, at, found[at - from], model_[at], s_.flips.load());
    }
  }

  Shared& s_;
  const Options& o_;
  const uint64_t number_;
  Random random_;
  std::array<Way, 3> ways_;
  std::array<uint8_t, kSize> model_{};
};

/// Stores of a private mapping stay, whatever becomes of the file; and do not reach it (the owners would see).
void store_privately(Shared& s, const Options& o) {
  Random random(o.seed * 16 + 10);
  while (!s.is_over.load()) {
    const int fd = open_file(o, O_RDONLY);
    uint8_t* const map = map_file(fd, MAP_PRIVATE);
    ::close(fd);
    std::array<uint8_t, kPages> stored{};
    for (uint64_t i = 0; i < 2000 && !s.is_over.load(); ++i) {
      const uint64_t page = random.below(kPages);
      if (stored.at(page) != 0 && map[page * kPage + 7] != stored.at(page))
        die("seed %lu: a private mapping lost a store", o.seed);
      stored.at(page) = static_cast<uint8_t>(random.between(1, 255));
      map[page * kPage + 7] = stored.at(page);
    }
    ::munmap(map, kSize);
  }
}

void read_directly(Shared& s, const Options& o) {
  alignas(kPage) std::array<uint8_t, kSize> bytes;
  while (!s.is_over.load()) {
    const int fd = open_file(o, O_RDONLY | O_DIRECT);
    for (int i = 0; i < 20; ++i) {
      if (::pread(fd, bytes.data(), kSize, 0) != static_cast<ssize_t>(kSize))
        die("a direct read: %s", std::strerror(errno));
    }
    ::close(fd);
  }
}

void set(const Options& o, uint64_t how, bool on) {
  const char value = on ? '1' : '0';
  if (how == 0) {
    if (::setxattr(o.path.c_str(), "user.udax.dax", &value, 1, 0) != 0) die("setxattr: %s", std::strerror(errno));
    return;
  }
  const int fd = open_file(o, O_RDONLY);
  if (how == 1) {
    int flags = 0;
    if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) die("FS_IOC_GETFLAGS: %s", std::strerror(errno));
    const uint32_t wanted =
        on ? static_cast<uint32_t>(flags) | kDaxFlag : static_cast<uint32_t>(flags) & ~kDaxFlag;
    if (::ioctl(fd, FS_IOC_SETFLAGS, &wanted) != 0) die("FS_IOC_SETFLAGS: %s", std::strerror(errno));
  } else {
    fsxattr attributes{};
    if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) die("FS_IOC_FSGETXATTR: %s", std::strerror(errno));
    attributes.fsx_xflags =
        on ? attributes.fsx_xflags | FS_XFLAG_DAX : attributes.fsx_xflags & ~static_cast<uint32_t>(FS_XFLAG_DAX);
    if (::ioctl(fd, FS_IOC_FSSETXATTR, &attributes) != 0) die("FS_IOC_FSSETXATTR: %s", std::strerror(errno));
  }
  ::close(fd);
}

/// The only one who flips, so that what it has set stands until it sets it again.
void flip(Shared& s, const Options& o) {
  Random random(o.seed * 16 + 11);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(o.seconds);
  for (bool on = true; std::chrono::steady_clock::now() < end; on = !on) {
    set(o, random.below(3), on);
    std::array<char, 16> state{};
    const ssize_t got = ::getxattr(o.path.c_str(), "user.udax.state", state.data(), state.size() - 1);
    if (got < 0) die("user.udax.state: %s", std::strerror(errno));
    if (std::string(state.data()) != (on ? "dax" : "cached"))
      die("the flag was set to %d, and the state is '%s'", on ? 1 : 0, state.data());
    s.flips.fetch_add(1, std::memory_order_relaxed);
    // Sometimes one way lasts.
    if (random.one_in(10)) ::usleep(static_cast<useconds_t>(random.below(30'000)));
  }
  s.is_over.store(true);
}

int run(const Options& o) {
  Shared& s = make_shared_object<Shared>();
  (void)::unlink(o.path.c_str());
  const int fd = ::open(o.path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0644);
  // Every other page is a hole at first.
  bool is_made = fd >= 0;
  const std::array<char, kPage> zeroes{};
  for (uint64_t page = 0; page < kPages && is_made; page += 2) {
    is_made = ::pwrite(fd, zeroes.data(), kPage, static_cast<off_t>(page * kPage)) == static_cast<ssize_t>(kPage);
  }
  if (!is_made || ::ftruncate(fd, kSize) != 0) die("%s: %s", o.path.c_str(), std::strerror(errno));
  ::close(fd);
  Workers workers;
  for (uint64_t i = 0; i < kOwners; ++i) {
    workers.add("worker " + std::to_string(i), [&s, &o, i] { Owner(s, o, i).run(); });
  }
  workers.add("who stores privately", [&] { store_privately(s, o); });
  workers.add("who reads directly", [&] { read_directly(s, o); });
  workers.add("who flips", [&] { flip(s, o); });
  const int result = workers.run();
  if (result == 0) {
    std::printf("%lu flips, %lu changes, %lu checks: no wrong byte\n", s.flips.load(), s.changes.load(),
                s.checks.load());
  }
  return result;
}

}  // namespace
}  // namespace udax::stress

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: flip_live FILE SEED SECONDS\n");
    return 2;
  }
  udax::stress::Options o;
  o.path = argv[1];
  o.seed = std::strtoull(argv[2], nullptr, 10);
  o.seconds = std::strtoull(argv[3], nullptr, 10);
  return udax::stress::run(o);
}
