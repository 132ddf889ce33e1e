// SPDX-License-Identifier: BSD-3-Clause
//
// Two processes change the same pages of a file at once, byte for byte in places of their own: one stores through a
// shared mapping, the other calls write(2). No byte of either may be lost. Beside them, if wished, others read directly,
// truncate and punch further on, and sync.
//
//   lost_update FILE SEED ROUNDS [pages=N] [beside] [mixed]
//     pages=N   how many pages they share (default 1)
//     beside    with the others
//     mixed     who stores has opened the file before it got the DAX flag, who writes after it
//   Exit status 0: no byte lost. 1: one was, or something else failed. 2: wrong usage.
//
// A round: both change each of their bytes, in an order of their own, the one with the mapping over and over until the
// other is done; then they meet, and compare all bytes, read in each way, with what was put there last.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>

#include "base/random.h"
#include "tests/stress/workers.h"

namespace udax::stress {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPagesMax = 16;
constexpr uint64_t kBesidePages = 16;  // behind the shared ones
constexpr uint8_t kClassBit = 0x80;    // set in the bytes of who writes; so that who reads at any time can tell

struct Run {
  uint64_t offset = 0;
  uint64_t size = 0;
};

struct Shared {
  Barrier meet;
  std::atomic<bool> is_done{false};  // of this round: who writes
  std::atomic<bool> is_over{false};  // the rounds
  std::atomic<uint64_t> passes{0};   // of who stores
  std::atomic<uint64_t> writes{0};
  uint8_t model[kPagesMax * kPage] = {};
};

struct Options {
  std::string path;
  uint64_t seed = 0;
  uint64_t rounds = 0;
  uint64_t pages = 1;
  bool beside = false;
  bool mixed = false;
};

int open_file(const Options& o, int flags) {
  const int fd = ::open(o.path.c_str(), flags, 0644);
  if (fd < 0) die("open: %s", std::strerror(errno));
  return fd;
}

volatile uint8_t* map_file(int fd, uint64_t size) {
  void* const map = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) die("mmap: %s", std::strerror(errno));
  return static_cast<volatile uint8_t*>(map);
}

void set_dax(const Options& o, char value) {
  if (::setxattr(o.path.c_str(), "user.udax.dax", &value, 1, 0) != 0 && errno != EOPNOTSUPP && errno != ENOTSUP)
    die("user.udax.dax: %s", std::strerror(errno));
}

void check(const Shared& s, const Options& o, const char* who, const char* how, uint64_t round,
           const volatile uint8_t* found) {
  for (uint64_t i = 0; i < o.pages * kPage; ++i) {
    if (found[i] == s.model[i]) continue;
    die("round %lu, seed %lu: %s sees by %s that byte %lu, which %s put, is %02x instead of %02x", round, o.seed,
        who, how, i, (s.model[i] & kClassBit) != 0 ? "write(2)" : "a store", found[i], s.model[i]);
  }
}

void check_all(const Shared& s, const Options& o, const char* who, uint64_t round, int fd,
               const volatile uint8_t* map) {
  alignas(kPage) uint8_t bytes[kPagesMax * kPage];
  if (::pread(fd, bytes, o.pages * kPage, 0) != static_cast<ssize_t>(o.pages * kPage))
    die("pread: %s", std::strerror(errno));
  check(s, o, who, "read(2)", round, bytes);
  if (map != nullptr) check(s, o, who, "its mapping", round, map);
}

void store(Shared& s, const Options& o, const std::vector<Run>& mine) {
  Random random(o.seed * 3 + 1);
  const int fd = open_file(o, O_RDWR);
  volatile uint8_t* map = map_file(fd, o.pages * kPage);
  s.meet.wait();
  s.meet.wait();  // the flag is set
  for (uint64_t round = 0; round < o.rounds; ++round) {
    s.meet.wait();
    do {
      const uint8_t salt = static_cast<uint8_t>(random.next());
      const size_t first = random.below(mine.size());
      for (size_t i = 0; i < mine.size(); ++i) {
        const Run run = mine[(first + i) % mine.size()];
        for (uint64_t at = run.offset; at < run.offset + run.size; ++at) {
          const auto value = static_cast<uint8_t>((at * 31 + salt) & ~kClassBit);
          map[at] = value;
          s.model[at] = value;
        }
      }
      s.passes.fetch_add(1, std::memory_order_relaxed);
    } while (!s.is_done.load(std::memory_order_acquire));
    if (random.one_in(16) && ::msync(const_cast<uint8_t*>(map), o.pages * kPage, MS_SYNC) != 0)
      die("msync: %s", std::strerror(errno));
    s.meet.wait();
    check_all(s, o, "who stores", round, fd, map);
    if (random.one_in(64)) {
      ::munmap(const_cast<uint8_t*>(map), o.pages * kPage);
      map = map_file(fd, o.pages * kPage);
    }
    s.meet.wait();
  }
}

void write(Shared& s, const Options& o, std::vector<Run> mine) {
  Random random(o.seed * 3 + 2);
  s.meet.wait();
  if (o.mixed) set_dax(o, '1');
  const int fd = open_file(o, O_RDWR);
  const volatile uint8_t* const map = map_file(fd, o.pages * kPage);
  s.meet.wait();
  uint8_t bytes[kPage];
  for (uint64_t round = 0; round < o.rounds; ++round) {
    s.meet.wait();
    std::shuffle(mine.begin(), mine.end(), random);
    const auto salt = static_cast<uint8_t>(random.next());
    for (const Run& run : mine) {
      for (uint64_t i = 0; i < run.size; ++i) {
        bytes[i] = static_cast<uint8_t>(((run.offset + i) * 29 + salt) | kClassBit);
        s.model[run.offset + i] = bytes[i];
      }
      if (::pwrite(fd, bytes, run.size, static_cast<off_t>(run.offset)) != static_cast<ssize_t>(run.size))
        die("pwrite: %s", std::strerror(errno));
      s.writes.fetch_add(1, std::memory_order_relaxed);
    }
    s.is_done.store(true, std::memory_order_release);
    s.meet.wait();
    check_all(s, o, "who writes", round, fd, round % 8 == 0 ? map : nullptr);
    s.is_done.store(false, std::memory_order_release);
    s.meet.wait();
  }
  s.is_over.store(true);
}

/// Reads around the page cache: whatever is seen must have been put there by who owns the byte.
void read_directly(Shared& s, const Options& o, const std::vector<uint8_t>& owners) {
  const int fd = open_file(o, O_RDONLY | O_DIRECT);
  alignas(kPage) uint8_t bytes[kPagesMax * kPage];
  while (!s.is_over.load()) {
    if (::pread(fd, bytes, o.pages * kPage, 0) != static_cast<ssize_t>(o.pages * kPage))
      die("a direct read: %s", std::strerror(errno));
    for (uint64_t i = 0; i < o.pages * kPage; ++i) {
      if ((bytes[i] & kClassBit) != owners[i])
        die("seed %lu: a direct read found %02x in byte %lu, which is none of its owner's", o.seed, bytes[i], i);
    }
  }
}

/// Changes the file further on, so that its end and its extents move under the others.
void change_beside(Shared& s, const Options& o) {
  Random random(o.seed * 3 + 3);
  const int fd = open_file(o, O_RDWR);
  const uint64_t start = o.pages * kPage;
  const std::string bytes(kPage, '\x55');
  while (!s.is_over.load()) {
    const uint64_t offset = start + random.below(kBesidePages * kPage);
    const auto at = static_cast<off_t>(offset);
    int result = 0;
    switch (random.below(5)) {
      case 0: result = ::ftruncate(fd, at); break;
      case 1: result = ::pwrite(fd, bytes.data(), bytes.size(), at) < 0 ? -1 : 0; break;
      case 2:
        result = ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start),
                             at - static_cast<off_t>(start) + 1);
        break;
      case 3: result = ::fallocate(fd, FALLOC_FL_ZERO_RANGE, at, 3 * kPage); break;
      default: result = ::fsync(fd);
    }
    if (result != 0) die("a change beside them: %s", std::strerror(errno));
  }
}

/// Who owns which bytes: runs of random sizes, by turns; the first goes to who stores.
void share_out(const Options& o, std::vector<Run>& stored, std::vector<Run>& written) {
  Random random(o.seed * 3);
  const uint64_t size_max = random.one_in(2) ? 16 : 700;
  bool is_stored = true;
  for (uint64_t at = 0; at < o.pages * kPage; is_stored = !is_stored) {
    const uint64_t size = std::min(random.between(1, size_max), o.pages * kPage - at);
    (is_stored ? stored : written).push_back({at, size});
    at += size;
  }
  // Of many small runs some are enough: a call each.
  constexpr size_t kWritesMax = 24;
  if (written.size() <= kWritesMax) return;
  std::shuffle(written.begin(), written.end(), random);
  written.resize(kWritesMax);
}

int run(const Options& o) {
  std::vector<Run> stored;
  std::vector<Run> written;
  share_out(o, stored, written);
  std::vector<uint8_t> owners(o.pages * kPage, 0);
  Shared& s = make_shared_object<Shared>();
  s.meet.init(2);
  for (const Run& run : written) {
    std::fill_n(owners.begin() + static_cast<ptrdiff_t>(run.offset), run.size, kClassBit);
    std::fill_n(s.model + run.offset, run.size, kClassBit);
  }
  (void)::unlink(o.path.c_str());
  {
    const int fd = open_file(o, O_RDWR | O_CREAT | O_EXCL);
    if (::pwrite(fd, s.model, o.pages * kPage, 0) != static_cast<ssize_t>(o.pages * kPage))
      die("pwrite: %s", std::strerror(errno));
    ::close(fd);
  }
  set_dax(o, o.mixed ? '0' : '1');
  Workers workers;
  workers.add("who stores", [&] { store(s, o, stored); });
  workers.add("who writes", [&] { write(s, o, written); });
  if (o.beside) {
    workers.add("who reads directly", [&] { read_directly(s, o, owners); });
    workers.add("who changes what is beside", [&] { change_beside(s, o); });
  }
  const int result = workers.run();
  if (result == 0) {
    std::printf("%lu rounds, %lu writes, %zu runs of bytes stored %lu times: no byte lost\n", o.rounds,
                s.writes.load(), stored.size(), s.passes.load());
  }
  return result;
}

}  // namespace
}  // namespace udax::stress

int main(int argc, char** argv) {
  using namespace udax::stress;
  Options o;
  bool is_right = argc >= 4;
  if (is_right) {
    o.path = argv[1];
    o.seed = std::strtoull(argv[2], nullptr, 10);
    o.rounds = std::strtoull(argv[3], nullptr, 10);
  }
  for (int i = 4; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "beside") {
      o.beside = true;
    } else if (word == "mixed") {
      o.mixed = true;
    } else if (word.starts_with("pages=")) {
      o.pages = std::strtoull(word.c_str() + 6, nullptr, 10);
    } else {
      is_right = false;
    }
  }
  if (!is_right || o.pages < 1 || o.pages > kPagesMax) {
    std::fprintf(stderr, "usage: lost_update FILE SEED ROUNDS [pages=N] [beside] [mixed]\n");
    return 2;
  }
  return run(o);
}
