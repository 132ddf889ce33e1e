// SPDX-License-Identifier: BSD-3-Clause
//
// One file, changed in every way there is, compared with a copy in memory at each step: calls and mapped stores through
// several descriptors, truncation, holes, allocation, copying, and its DAX flag flipped all the while. In the manner of
// Apple's and NFS's fsx; the way in which a descriptor was opened (cached, DAX, O_DIRECT) must make no difference.
//
//   fsx FILE SEED OPERATIONS [no-flips]     exit status 0: never a wrong byte. 1: one, with the last operations. 2: usage.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>

#include "base/random.h"

namespace udax::stress {
namespace {

constexpr uint64_t kSizeMax = 600'000;
constexpr uint64_t kLengthMax = 70'000;
constexpr size_t kDescriptors = 3;
constexpr size_t kRemembered = 25;

class Fsx {
 public:
  Fsx(std::string path, uint64_t seed, bool flips) : path_(std::move(path)), random_(seed), flips_(flips) {}
  ~Fsx() {
    unmap();
    for (const int fd : fds_) ::close(fd);
  }
  Fsx(const Fsx&) = delete;
  Fsx& operator=(const Fsx&) = delete;

  void run(uint64_t operations) {
    for (int& fd : fds_) fd = ::open(path_.c_str(), O_RDWR | O_CREAT, 0644);
    if (fds_[0] < 0) die("open: %s", std::strerror(errno));
    for (uint64_t i = 0; i < operations; ++i) step();
    remap(kSizeMax);
    check(0, kSizeMax);
    std::printf("fsx: %lu operations, %lu flips of the DAX flag, no wrong byte\n", operations, flip_count_);
  }

 private:
  void step() {
    const uint64_t offset = random_.one_in(3) ? random_.below(kSizeMax / 4096) * 4096 : random_.below(kSizeMax);
    const uint64_t length = std::min(random_.between(1, random_.one_in(3) ? kLengthMax : 5000), kSizeMax - offset);
    which_ = random_.below(kDescriptors);
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2: return write(offset, length);
      case 3:
      case 4: return map_write(offset, length);
      case 5: return truncate(random_.one_in(2) ? offset : random_.below(model_.size() + 1));
      case 6: return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
      case 7:
        return allocate(FALLOC_FL_ZERO_RANGE | (random_.one_in(2) ? FALLOC_FL_KEEP_SIZE : 0), offset, length);
      case 8: return allocate(random_.one_in(2) ? FALLOC_FL_KEEP_SIZE : 0, offset, length);
      case 9: return copy(offset, length);
      case 10: return sync();
      case 11: return random_.one_in(3) ? reopen() : check(offset, length);
      case 12: return flip();
      case 13: return random_.one_in(4) ? remap(random_.between(1, kSizeMax)) : check(offset, length);
      default: return check(offset, length);
    }
  }

  std::string bytes(uint64_t length) {
    std::string result(length, '\0');
    random_.fill(result.data(), length);
    return result;
  }
  void put(uint64_t offset, const std::string& data) {
    if (model_.size() < offset + data.size()) model_.resize(offset + data.size());
    model_.replace(offset, data.size(), data);
  }

  void write(uint64_t offset, uint64_t length) {
    note("write %lu+%lu by %lu", offset, length, which_);
    const std::string data = bytes(length);
    const ssize_t wrote = ::pwrite(fds_[which_], data.data(), length, static_cast<off_t>(offset));
    if (wrote != static_cast<ssize_t>(length)) die("write gave %ld: %s", wrote, std::strerror(errno));
    put(offset, data);
  }

  void map_write(uint64_t offset, uint64_t length) {
    const uint64_t end = std::min({offset + length, model_.size(), map_length_});
    if (map_ == nullptr || offset >= end) return;
    note("store %lu+%lu through the mapping", offset, end - offset);
    const std::string data = bytes(end - offset);
    std::memcpy(map_ + offset, data.data(), data.size());
    put(offset, data);
  }

  void truncate(uint64_t size) {
    note("truncate %lu -> %lu by %lu", model_.size(), size, which_);
    const int result = random_.one_in(2) ? ::ftruncate(fds_[which_], static_cast<off_t>(size))
                                         : ::truncate(path_.c_str(), static_cast<off_t>(size));
    if (result != 0) die("truncate: %s", std::strerror(errno));
    model_.resize(size);
  }

  void allocate(int mode, uint64_t offset, uint64_t length) {
    note("fallocate mode %d %lu+%lu by %lu", mode, offset, length, which_);
    if (::fallocate(fds_[which_], mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
      if (errno == EOPNOTSUPP) return;  // not ours: a peer
      die("fallocate: %s", std::strerror(errno));
    }
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && model_.size() < offset + length) model_.resize(offset + length);
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0 || offset >= model_.size()) return;
    const uint64_t end = std::min<uint64_t>(offset + length, model_.size());
    model_.replace(offset, end - offset, end - offset, '\0');
  }

  void copy(uint64_t to, uint64_t length) {
    if (model_.empty()) return;
    const uint64_t from = random_.below(model_.size());
    length = std::min<uint64_t>(length, model_.size() - from);
    if (from < to + length && to < from + length) return;
    note("copy_file_range %lu -> %lu +%lu", from, to, length);
    auto in = static_cast<off_t>(from);
    auto out = static_cast<off_t>(to);
    const int target = fds_[random_.below(kDescriptors)];
    const std::string data = model_.substr(from, length);
    for (uint64_t left = length; left > 0;) {
      const ssize_t copied = ::copy_file_range(fds_[which_], &in, target, &out, left, 0);
      if (copied <= 0) die("copy_file_range gave %ld: %s", copied, std::strerror(errno));
      left -= static_cast<uint64_t>(copied);
    }
    put(to, data);
  }

  void sync() {
    note("sync by %lu", which_);
    const int result =
        map_ != nullptr && random_.one_in(2) ? ::msync(map_, map_length_, MS_SYNC) : ::fsync(fds_[which_]);
    if (result != 0) die("sync: %s", std::strerror(errno));
  }

  void reopen() {
    const bool direct = random_.one_in(4);
    note("re-open %lu%s", which_, direct ? ", its reads with O_DIRECT" : "");
    ::close(fds_[which_]);
    fds_[which_] = ::open(path_.c_str(), O_RDWR);
    if (fds_[which_] < 0) die("open: %s", std::strerror(errno));
    if (direct) read_direct();
  }

  void read_direct() {
    const int fd = ::open(path_.c_str(), O_RDONLY | O_DIRECT);
    if (fd < 0) return;
    void* buffer = std::aligned_alloc(4096, 65536);
    const uint64_t offset = random_.below(kSizeMax / 4096) * 4096;
    const ssize_t got = ::pread(fd, buffer, 65536, static_cast<off_t>(offset));
    if (got < 0) die("O_DIRECT read: %s", std::strerror(errno));
    compare("an O_DIRECT read", offset, static_cast<char*>(buffer), static_cast<uint64_t>(got), 65536);
    std::free(buffer);
    ::close(fd);
  }

  void flip() {
    if (!flips_) return;
    const char value = random_.one_in(2) ? '1' : '0';
    note("flip the DAX flag to %c", value);
    if (::setxattr(path_.c_str(), "user.udax.dax", &value, 1, 0) != 0) {
      // With a mapping or openers a refusal by name is allowed, silence is not.
      if (errno != EBUSY && errno != EOPNOTSUPP) die("flip: %s", std::strerror(errno));
      return;
    }
    char now = 0;
    if (::getxattr(path_.c_str(), "user.udax.dax", &now, 1) == 1 && now != value) die("the flag did not change");
    ++flip_count_;
  }

  void unmap() {
    if (map_ != nullptr) ::munmap(map_, map_length_);
    map_ = nullptr;
    map_length_ = 0;
  }

  void remap(uint64_t length) {
    note("map %lu bytes by %lu", length, which_);
    unmap();
    void* map = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fds_[which_], 0);
    if (map == MAP_FAILED) {
      if (errno == ENODEV) return;  // DAX files on kernels before 6.6
      die("mmap: %s", std::strerror(errno));
    }
    map_ = static_cast<char*>(map);
    map_length_ = length;
  }

  void check(uint64_t offset, uint64_t length) {
    struct stat info {};
    if (::fstat(fds_[which_], &info) != 0) die("fstat: %s", std::strerror(errno));
    if (static_cast<uint64_t>(info.st_size) != model_.size())
      die("st_size is %ld, not %lu", info.st_size, model_.size());
    std::string found(length, '\0');
    const ssize_t got = ::pread(fds_[which_], found.data(), length, static_cast<off_t>(offset));
    if (got < 0) die("read: %s", std::strerror(errno));
    compare("a read", offset, found.data(), static_cast<uint64_t>(got), length);
    const uint64_t end = std::min({offset + length, model_.size(), map_length_});
    if (map_ != nullptr && offset < end) compare("the mapping", offset, map_ + offset, end - offset, end - offset);
  }

  void compare(const char* by, uint64_t offset, const char* found, uint64_t got, uint64_t wanted) {
    const uint64_t there = offset < model_.size() ? std::min<uint64_t>(wanted, model_.size() - offset) : 0;
    if (got != there) die("%s at %lu gave %lu bytes instead of %lu", by, offset, got, there);
    for (uint64_t i = 0; i < got; ++i) {
      if (found[i] != model_[offset + i]) {
        die("%s by %lu: byte %lu is %02x instead of %02x", by, which_, offset + i,
            static_cast<unsigned char>(found[i]), static_cast<unsigned char>(model_[offset + i]));
      }
    }
  }

  __attribute__((format(printf, 2, 3))) void note(const char* format, ...) {
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    log_.emplace_back(text);
    if (log_.size() > kRemembered) log_.pop_front();
    ++count_;
  }

  __attribute__((format(printf, 2, 3))) [[noreturn]] void die(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fprintf(stderr, "fsx: after %lu changes: ", count_);
    std::vfprintf(stderr, format, arguments);
    std::fprintf(stderr, "\nthe last were:\n");
    va_end(arguments);
    for (const std::string& line : log_) std::fprintf(stderr, "  %s\n", line.c_str());
    std::exit(1);
  }

  std::string path_;
  Random random_;
  bool flips_;
  std::string model_;
  std::array<int, kDescriptors> fds_{-1, -1, -1};
  char* map_ = nullptr;
  uint64_t map_length_ = 0;
  size_t which_ = 0;
  std::deque<std::string> log_;
  uint64_t count_ = 0;
  uint64_t flip_count_ = 0;
};

}  // namespace
}  // namespace udax::stress

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: fsx FILE SEED OPERATIONS [no-flips]\n");
    return 2;
  }
  udax::stress::Fsx fsx(argv[1], std::strtoull(argv[2], nullptr, 10), argc == 4);
  fsx.run(std::strtoull(argv[3], nullptr, 10));
  return 0;
}
