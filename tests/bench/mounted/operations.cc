// SPDX-License-Identifier: BSD-3-Clause
#include "tests/bench/mounted/operations.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <system_error>

namespace udax::bench {
namespace {

constexpr uint64_t kFileSize = 8U << 20;  // of a client
constexpr uint64_t kPage = 4096;
constexpr uint32_t kDirectoryEntries = 10000;

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

class File {
 public:
  File(std::string path, int flags) : path_(std::move(path)), fd_(::open(path_.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail(path_);
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  const std::string path_;
  const int fd_;
};

class Buffer {
 public:
  explicit Buffer(uint64_t size) : size_(size), data_(static_cast<char*>(std::aligned_alloc(kPage, size))) {
    if (data_ == nullptr) fail("memory");
    std::memset(data_, 'b', size_);
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] char* data() const { return data_; }

 private:
  const uint64_t size_;
  char* const data_;
};

std::string own(const std::string& folder, const char* what, uint32_t client) {
  return folder + "/" + what + "-" + std::to_string(client);
}

/// A file of kFileSize bytes that are all there.
std::string filled(const std::string& folder, uint32_t client) {
  std::string path = own(folder, "data", client);
  const File file(path, O_RDWR | O_CREAT);
  struct stat st {};
  if (::fstat(file.fd(), &st) == 0 && static_cast<uint64_t>(st.st_size) >= kFileSize) return path;
  const Buffer buffer(1U << 20);
  for (uint64_t at = 0; at < kFileSize; at += 1U << 20) {
    if (::pwrite(file.fd(), buffer.data(), 1U << 20, static_cast<off_t>(at)) != 1 << 20) fail(path);
  }
  return path;
}

enum class Asks : uint8_t { kCache, kFilesystem };

class Stat final : public Operation {
 public:
  Stat(const std::string& folder, uint32_t client, Asks asks)
      : file_(filled(folder, client), O_RDONLY), flags_(asks == Asks::kCache ? 0 : AT_STATX_FORCE_SYNC) {}
  void run() override {
    struct statx st {};
    if (::statx(file_.fd(), "", AT_EMPTY_PATH | flags_, STATX_BASIC_STATS, &st) != 0) fail("statx");
  }

 private:
  const File file_;
  const int flags_;
};

class OpenClose final : public Operation {
 public:
  OpenClose(const std::string& folder, uint32_t client) : path_(filled(folder, client)) {}
  void run() override { const File file(path_, O_RDONLY); }

 private:
  const std::string path_;
};

class CreateUnlink final : public Operation {
 public:
  CreateUnlink(const std::string& folder, uint32_t client) : path_(own(folder, "brief", client)) {}
  void run() override {
    { const File file(path_, O_RDWR | O_CREAT | O_EXCL); }
    if (::unlink(path_.c_str()) != 0) fail(path_);
  }

 private:
  const std::string path_;
};

class MkdirRmdir final : public Operation {
 public:
  MkdirRmdir(const std::string& folder, uint32_t client) : path_(own(folder, "dir", client)) {}
  void run() override {
    if (::mkdir(path_.c_str(), 0755) != 0 || ::rmdir(path_.c_str()) != 0) fail(path_);
  }

 private:
  const std::string path_;
};

class Rename final : public Operation {
 public:
  Rename(const std::string& folder, uint32_t client)
      : here_(own(folder, "here", client)), there_(own(folder, "there", client)) {
    ::unlink(there_.c_str());
    const File file(here_, O_RDWR | O_CREAT);
  }
  void run() override {
    if (::rename(here_.c_str(), there_.c_str()) != 0) fail(here_);
    std::swap(here_, there_);
  }

 private:
  std::string here_;
  std::string there_;
};

class ReadDirectory final : public Operation {
 public:
  // One for all: passthrough_ll keeps a descriptor for every entry.
  ReadDirectory(const std::string& folder, uint32_t client) : path_(folder + "/many") {
    constexpr useconds_t kStepUs = 1000;
    if (client == 0 && ::access(path_.c_str(), F_OK) != 0) make();
    while (::access(path_.c_str(), F_OK) != 0) ::usleep(kStepUs);
  }
  void run() override {
    DIR* const directory = ::opendir(path_.c_str());
    if (directory == nullptr) fail(path_);
    uint32_t count = 0;
    while (::readdir(directory) != nullptr) ++count;
    ::closedir(directory);
    if (count != kDirectoryEntries + 2) fail("entries of " + path_);
  }

 private:
  void make() {
    const std::string unfinished = path_ + ".new";
    if (::mkdir(unfinished.c_str(), 0755) != 0) fail(unfinished);
    for (uint32_t i = 0; i < kDirectoryEntries; ++i) {
      const File file(unfinished + "/entry-" + std::to_string(i), O_WRONLY | O_CREAT);
    }
    if (::rename(unfinished.c_str(), path_.c_str()) != 0) fail(path_);
  }

  const std::string path_;
};

enum class Way : uint8_t { kRead, kWrite };
enum class Order : uint8_t { kRandom, kSequential };

class Transfer final : public Operation {
 public:
  Transfer(const std::string& folder, uint32_t client, Way way, Order order, uint64_t size)
      : file_(filled(folder, client), O_RDWR),
        buffer_(size),
        way_(way),
        order_(order),
        size_(size),
        random_(client + 1) {}
  void run() override {
    const uint64_t slots = kFileSize / size_;
    const uint64_t slot = order_ == Order::kRandom ? random_() % slots : next_++ % slots;
    const auto offset = static_cast<off_t>(slot * size_);
    const ssize_t done = way_ == Way::kRead ? ::pread(file_.fd(), buffer_.data(), size_, offset)
                                            : ::pwrite(file_.fd(), buffer_.data(), size_, offset);
    if (done != static_cast<ssize_t>(size_)) fail(file_.path());
  }

 private:
  const File file_;
  const Buffer buffer_;
  const Way way_;
  const Order order_;
  const uint64_t size_;
  uint64_t next_ = 0;
  std::mt19937 random_;
};

class Append final : public Operation {
 public:
  Append(const std::string& folder, uint32_t client)
      : file_(own(folder, "log", client), O_WRONLY | O_CREAT | O_APPEND | O_TRUNC), buffer_(kPage) {}
  void run() override {
    if (::write(file_.fd(), buffer_.data(), kPage) != static_cast<ssize_t>(kPage)) fail(file_.path());
    if (++count_ % 4096 == 0 && ::ftruncate(file_.fd(), 0) != 0) fail(file_.path());  // 16 MiB are enough
  }

 private:
  const File file_;
  const Buffer buffer_;
  uint64_t count_ = 0;
};

class WriteSync final : public Operation {
 public:
  WriteSync(const std::string& folder, uint32_t client)
      : file_(filled(folder, client), O_RDWR), buffer_(kPage), random_(client + 1) {}
  void run() override {
    const auto offset = static_cast<off_t>(random_() % (kFileSize / kPage) * kPage);
    if (::pwrite(file_.fd(), buffer_.data(), kPage, offset) != static_cast<ssize_t>(kPage)) fail(file_.path());
    if (::fsync(file_.fd()) != 0) fail(file_.path());
  }

 private:
  const File file_;
  const Buffer buffer_;
  std::mt19937 random_;
};

enum class Touch : uint8_t { kLoad, kStore };

/// Maps, touches 16 pages, unmaps: what a page costs is a sixteenth of it, mmap and munmap included.
class MapTouch final : public Operation {
 public:
  MapTouch(const std::string& folder, uint32_t client, Touch touch)
      : file_(filled(folder, client), O_RDWR), touch_(touch), random_(client + 1) {}
  void run() override {
    constexpr uint64_t kSpan = 16 * kPage;
    const auto offset = static_cast<off_t>(random_() % (kFileSize / kSpan) * kSpan);
    void* const at = ::mmap(nullptr, kSpan, PROT_READ | PROT_WRITE, MAP_SHARED, file_.fd(), offset);
    if (at == MAP_FAILED) fail(file_.path());
    auto* const bytes = static_cast<volatile char*>(at);
    for (uint64_t i = 0; i < kSpan; i += kPage) {
      if (touch_ == Touch::kStore) {
        bytes[i] = 'm';
      } else {
        static_cast<void>(bytes[i]);
      }
    }
    if (::munmap(at, kSpan) != 0) fail(file_.path());
  }

 private:
  const File file_;
  const Touch touch_;
  std::mt19937 random_;
};

template <typename T, typename... Arguments>
auto maker(Arguments... arguments) {
  return [arguments...](const std::string& folder, uint32_t client) -> std::unique_ptr<Operation> {
    return std::make_unique<T>(folder, client, arguments...);
  };
}

}  // namespace

const std::vector<OperationKind>& operation_kinds() {
  constexpr uint64_t kLarge = 128U << 10;
  constexpr uint64_t kHuge = 1U << 20;
  static const std::vector<OperationKind> kinds{
      {"stat", "fstat, as programs do it: attributes may come from the kernel's cache", 0,
       maker<Stat>(Asks::kCache)},
      {"stat-asked", "statx that asks the filesystem", 0, maker<Stat>(Asks::kFilesystem)},
      {"open-close", "open and close a file", 0, maker<OpenClose>()},
      {"create-unlink", "create, close, unlink", 0, maker<CreateUnlink>()},
      {"mkdir-rmdir", "mkdir, rmdir", 0, maker<MkdirRmdir>()},
      {"rename", "rename within a directory", 0, maker<Rename>()},
      {"readdir", "read a directory of 10,000 entries", 0, maker<ReadDirectory>()},
      {"read-4k", "pread of 4 KiB, random", kPage, maker<Transfer>(Way::kRead, Order::kRandom, kPage)},
      {"write-4k", "pwrite of 4 KiB, random", kPage, maker<Transfer>(Way::kWrite, Order::kRandom, kPage)},
      {"read-128k", "pread of 128 KiB, sequential", kLarge,
       maker<Transfer>(Way::kRead, Order::kSequential, kLarge)},
      {"write-128k", "pwrite of 128 KiB, sequential", kLarge,
       maker<Transfer>(Way::kWrite, Order::kSequential, kLarge)},
      {"read-1m", "pread of 1 MiB, sequential", kHuge, maker<Transfer>(Way::kRead, Order::kSequential, kHuge)},
      {"write-1m", "pwrite of 1 MiB, sequential", kHuge, maker<Transfer>(Way::kWrite, Order::kSequential, kHuge)},
      {"append-4k", "append 4 KiB", kPage, maker<Append>()},
      {"write-fsync", "pwrite of 4 KiB, random, and fsync", kPage, maker<WriteSync>()},
      {"mmap-load", "map, load from 16 pages, unmap", 0, maker<MapTouch>(Touch::kLoad)},
      {"mmap-store", "map, store to 16 pages, unmap", 0, maker<MapTouch>(Touch::kStore)},
  };
  return kinds;
}

}  // namespace udax::bench
