// SPDX-License-Identifier: BSD-3-Clause
//
// Mappings side by side: of a DAX file that is mapped directly, and of a file on tmpfs. Started under the preload shim, the same calls
// make the one and the other. Rounds go over all folders in turn; the first is the one that the others are compared with.
//
// Times are of what the row says: of one access where there are many in a batch. "first touch" is a load of each page of a file
// that is allocated, right after mmap(2): where data is mapped ahead, that is in the mmap(2). Faults: pages 2 MiB apart, so that each
// is one; those that are allocated were written when the file was mapped already, so that nothing could be mapped ahead. Calls are
// made through the C library, which the shim stands before, and "by the kernel" past it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/bench/side_by_side.h"

namespace udax::bench {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHuge = uint64_t{2} << 20;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kAccesses = 200'000;  // in a batch
constexpr uint64_t kCalls = 500;
constexpr uint64_t kWarm = 64 * kMiB;

struct Arguments {
  unsigned rounds = 7;
  uint64_t size = 1024 * kMiB;
  std::string csv;
  std::string only;  // rows whose names contain it
  Folders folders;
};

/// A file, open, and gone with this.
class File {
 public:
  File(std::string path, uint64_t size)
      : path_(std::move(path)), size_(size), fd_(::open(path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)) {
    must(fd_ >= 0 && ::ftruncate(fd_, static_cast<off_t>(size)) == 0, path_);
  }
  ~File() {
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  const File& filled() const {
    const std::vector<char> bytes(kMiB, 'x');
    for (uint64_t at = 0; at < size_; at += kMiB) {
      must(::pwrite(fd_, bytes.data(), kMiB, static_cast<off_t>(at)) == static_cast<ssize_t>(kMiB), path_);
    }
    must(::fsync(fd_) == 0, path_);
    return *this;
  }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] uint64_t size() const { return size_; }

 private:
  std::string path_;
  uint64_t size_;
  int fd_;
};

class Mapping {
 public:
  explicit Mapping(const File& file) : size_(file.size()) {
    void* const got = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
    must(got != MAP_FAILED, "mmap");
    at_ = static_cast<volatile char*>(got);
  }
  ~Mapping() { ::munmap(const_cast<char*>(at_), size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  [[nodiscard]] volatile char* at(uint64_t offset) const { return at_ + offset; }
  [[nodiscard]] volatile uint64_t& word(uint64_t offset) const {
    return *reinterpret_cast<volatile uint64_t*>(at_ + offset);
  }
  [[nodiscard]] uint64_t size() const { return size_; }
  void touch_all() const {
    for (uint64_t p = 0; p < size_; p += kPage) (void)at_[p];
  }

 private:
  uint64_t size_;
  volatile char* at_;
};

/// One folder under test: a file that is allocated, mapped and touched throughout.
struct Subject {
  std::string label;
  std::string folder;
  File file;
  Mapping mapping;

  Subject(std::string name, std::string path, uint64_t size)
      : label(std::move(name)), folder(std::move(path)), file(folder + "/direct", size), mapping(file.filled()) {
    for (uint64_t p = 0; p < size; p += kPage) mapping.word(p) = p;
    must(::fsync(file.fd()) == 0, "fsync");
  }
};

using Run = std::function<void(const Subject&, Random&, Samples&)>;

void add(Samples& samples, uint64_t since, uint64_t count = 1) {
  samples.push_back(static_cast<double>(now_ns() - since) / static_cast<double>(count));
}

// ---- rows

void load_in_order(const Subject& s, Random&, Samples& samples) {
  uint64_t sum = 0;
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < kAccesses; ++i) sum += s.mapping.word(i * 8);
  add(samples, start, kAccesses);
  if (sum == 1) std::puts("");  // not to be left out
}

// After it no page is protected to tell of its first store: what that costs is a row of its own.
void store_to_all(const Mapping& mapping) {
  for (uint64_t p = 0; p < mapping.size(); p += kPage) mapping.word(p) = p;
}

void store_in_order(const Subject& s, Random&, Samples& samples) {
  store_to_all(s.mapping);
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < kAccesses; ++i) s.mapping.word(i * 8) = i;
  add(samples, start, kAccesses);
}

/// The next address follows from the last: nothing goes on ahead.
uint64_t next_of(uint64_t at, uint64_t size) {
  return (at * 2862933555777941757U + 3037000493U) % size & ~uint64_t{7};
}

void load_anywhere(const Subject& s, Random& random, Samples& samples) {
  uint64_t at = random.below(s.mapping.size()) & ~uint64_t{7};
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < kAccesses; ++i) at = next_of(at + (s.mapping.word(at) & 1U), s.mapping.size());
  add(samples, start, kAccesses);
}

void store_anywhere(const Subject& s, Random& random, Samples& samples) {
  store_to_all(s.mapping);
  uint64_t at = random.below(s.mapping.size()) & ~uint64_t{7};
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < kAccesses; ++i) {
    s.mapping.word(at) = i;
    at = next_of(at + i, s.mapping.size());
  }
  add(samples, start, kAccesses);
}

void store_after_sync(const Subject& s, Random&, Samples& samples) {
  store_to_all(s.mapping);
  must(::fsync(s.file.fd()) == 0, "fsync");
  const uint64_t start = now_ns();
  store_to_all(s.mapping);
  add(samples, start, s.mapping.size() / kPage);
}

void map_only(const Subject& s, Random&, Samples& samples) {
  const uint64_t start = now_ns();
  const Mapping mapping(s.file);
  add(samples, start);
}

void unmap_only(const Subject& s, Random&, Samples& samples) {
  auto mapping = std::make_unique<Mapping>(s.file);
  mapping->touch_all();
  const uint64_t start = now_ns();
  mapping.reset();
  add(samples, start);
}

void map_and_touch(const Subject& s, Random&, Samples& samples) {
  const uint64_t start = now_ns();
  const Mapping mapping(s.file);
  mapping.touch_all();
  add(samples, start);
}

enum class Found : uint8_t { kHole, kData };

template <Found kFound, bool kStores>
void fault(const Subject& s, Random& random, Samples& samples) {
  const File file(s.folder + "/faults", s.file.size() / 4);
  const Mapping mapping(file);
  std::vector<uint64_t> order(file.size() / kHuge);
  std::iota(order.begin(), order.end(), uint64_t{0});
  for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
  const std::array<char, kPage> page{};
  for (size_t i = 0; kFound == Found::kData && i < order.size(); ++i) {
    must(::syscall(SYS_pwrite64, file.fd(), page.data(), kPage, order[i] * kHuge) == static_cast<long>(kPage),
         "write");
  }
  for (const uint64_t at : order) {
    const uint64_t start = now_ns();
    if constexpr (kStores) {
      *mapping.at(at * kHuge) = 1;
    } else {
      (void)*mapping.at(at * kHuge);
    }
    add(samples, start);
  }
}

uint64_t any_page(uint64_t size, Random& random) { return random.below(size / kPage) * kPage; }

/// `warm`: all within so many bytes, each page of which was called for before; 0: anywhere in the file.
template <typename F>
void call(const Subject& s, Random& random, Samples& samples, F one, uint64_t warm) {
  std::array<char, kPage> page{};
  warm = std::min(warm, s.file.size());
  for (uint64_t at = 0; at < warm; at += kPage) {
    must(one(s.file.fd(), page.data(), static_cast<off_t>(at)) == static_cast<long>(kPage), "a call");
  }
  const uint64_t size = warm != 0 ? warm : s.file.size();
  for (uint64_t i = 0; i < kCalls; ++i) {
    const auto at = static_cast<off_t>(any_page(size, random));
    const uint64_t start = now_ns();
    must(one(s.file.fd(), page.data(), at) == static_cast<long>(kPage), "a call");
    add(samples, start);
  }
}

template <unsigned kDirty>
void sync_dirty(const Subject& s, Random& random, Samples& samples) {
  for (int i = 0; i < 10; ++i) {
    for (unsigned n = 0; n < kDirty; ++n) s.mapping.word(any_page(s.file.size(), random)) = n;
    const uint64_t start = now_ns();
    must(::fsync(s.file.fd()) == 0, "fsync");
    add(samples, start);
  }
}

struct Row {
  const char* name;
  Run run;
};

std::vector<Row> rows() {
  const auto read_page = [](int fd, char* to, off_t at) { return ::pread(fd, to, kPage, at); };
  const auto write_page = [](int fd, char* from, off_t at) { return ::pwrite(fd, from, kPage, at); };
  const auto read_past = [](int fd, char* to, off_t at) { return ::syscall(SYS_pread64, fd, to, kPage, at); };
  const auto write_past = [](int fd, char* from, off_t at) {
    return ::syscall(SYS_pwrite64, fd, from, kPage, at);
  };
  const auto calls = [](auto one, uint64_t warm = kWarm) {
    return [=](const Subject& s, Random& r, Samples& out) { call(s, r, out, one, warm); };
  };
  return {
      {"load, in order", load_in_order},
      {"store, in order", store_in_order},
      {"load, anywhere", load_anywhere},
      {"store, anywhere", store_anywhere},
      {"first store after fsync", store_after_sync},
      {"mmap", map_only},
      {"mmap + first touch of all", map_and_touch},
      {"munmap", unmap_only},
      {"fault: load, hole", fault<Found::kHole, false>},
      {"fault: store, hole", fault<Found::kHole, true>},
      {"fault: load, allocated", fault<Found::kData, false>},
      {"fault: store, allocated", fault<Found::kData, true>},
      {"pread 4 KiB", calls(read_page)},
      {"pwrite 4 KiB", calls(write_page)},
      {"pread 4 KiB, anywhere in the file", calls(read_page, 0)},
      {"pwrite 4 KiB, anywhere in the file", calls(write_page, 0)},
      {"pread 4 KiB, by the kernel", calls(read_past)},
      {"pwrite 4 KiB, by the kernel", calls(write_past)},
      {"fsync, 1 dirty page", sync_dirty<1>},
      {"fsync, 10 dirty pages", sync_dirty<10>},
      {"fsync, 100 dirty pages", sync_dirty<100>},
  };
}

// ---- running

void measure(const Arguments& arguments, std::FILE* csv) {
  std::vector<std::unique_ptr<Subject>> subjects;
  for (const auto& [label, path] : arguments.folders) {
    subjects.push_back(std::make_unique<Subject>(label, path, arguments.size));
  }
  std::vector<std::string> labels;
  for (const auto& s : subjects) labels.push_back(s->label);
  tell_heads(labels, csv);
  Random random(1);
  for (const Row& row : rows()) {
    if (std::string(row.name).find(arguments.only) == std::string::npos) continue;
    std::vector<Samples> samples(subjects.size());
    for (unsigned round = 0; round < arguments.rounds; ++round) {
      for (size_t i = 0; i < subjects.size(); ++i) row.run(*subjects[i], random, samples[i]);
    }
    tell(row.name, labels, samples, csv);
  }
}

bool parse(int argc, char** argv, Arguments& out) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : ""; };
    if (word == "--rounds") {
      out.rounds = static_cast<unsigned>(std::strtoul(value(), nullptr, 0));
    } else if (word == "--size-mib") {
      out.size = std::strtoull(value(), nullptr, 0) * kMiB;
    } else if (word == "--only") {
      out.only = value();
    } else if (word == "--csv") {
      out.csv = value();
    } else if (!take_folder(word, out.folders)) {
      return false;
    }
  }
  // A fault's file is a quarter, in steps of 2 MiB.
  return out.rounds > 0 && out.size >= 64 * kMiB && out.size % (4 * kHuge) == 0 && !out.folders.empty();
}

}  // namespace
}  // namespace udax::bench

int main(int argc, char** argv) {
  using namespace udax::bench;
  Arguments arguments;
  if (!parse(argc, argv, arguments)) {
    std::fputs(
        "Usage: udaxctl run -- bench_direct_bench [--rounds N] [--size-mib N] [--only ROW] [--csv FILE] "
        "LABEL=FOLDER...\n"
        "The first folder is what the others are compared with. Sizes: multiples of 8 MiB, from 64 on.\n",
        stderr);
    return 2;
  }
  return run_and_tell("bench_direct_bench", arguments.csv, [&](std::FILE* csv) { measure(arguments, csv); });
}
