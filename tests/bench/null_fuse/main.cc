// SPDX-License-Identifier: BSD-3-Clause
//
// A FUSE daemon with nothing behind it: every name is one file of 8 MiB, reads give zeroes, writes go nowhere. What it
// takes is what the kernel's round trip takes; the benchmark of mounts has it as a limit.
//
// null_fuse MOUNTPOINT serves, on one thread, until it is unmounted. Needs root.
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr uint64_t kFile = 2;
constexpr uint64_t kSize = 8U << 20;
constexpr uint32_t kIoMax = 1U << 20;

class Null {
 public:
  explicit Null(int fd) : fd_(fd), message_(kIoMax + 8192), zeroes_(kIoMax) {}

  int serve() {
    for (;;) {
      const ssize_t n = ::read(fd_, message_.data(), message_.size());
      if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
      if (n < 0) return errno == ENODEV ? 0 : 1;
      answer();
    }
  }

 private:
  [[nodiscard]] const fuse_in_header& in() const {
    return *reinterpret_cast<const fuse_in_header*>(message_.data());
  }
  template <typename T>
  [[nodiscard]] const T& body() const {
    return *reinterpret_cast<const T*>(message_.data() + sizeof(fuse_in_header));
  }

  void reply(int error, const void* bytes, size_t size) {
    fuse_out_header header{static_cast<uint32_t>(sizeof(fuse_out_header) + size), error, in().unique};
    // Read only, and not media: iovec serves reading and writing alike.
    const std::array<iovec, 2> pieces{iovec{&header, sizeof(header)}, iovec{const_cast<void*>(bytes), size}};
    (void)!::writev(fd_, pieces.data(), size > 0 ? 2 : 1);
  }
  template <typename T>
  void reply(const T& out) {
    reply(0, &out, sizeof(out));
  }

  [[nodiscard]] static fuse_attr attributes(uint64_t node) {
    fuse_attr a{};
    a.ino = node;
    a.mode = node == kFile ? 0100666 : 040777;
    a.nlink = 1;
    a.size = node == kFile ? kSize : 0;
    a.blksize = 4096;
    return a;
  }

  void answer() {
    switch (in().opcode) {
      case FUSE_INIT: return init();
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT: return;
      case FUSE_LOOKUP: {
        fuse_entry_out out{};
        out.nodeid = kFile;
        out.entry_valid = 86400;
        out.attr_valid = 86400;
        out.attr = attributes(kFile);
        return reply(out);
      }
      case FUSE_GETATTR: {
        fuse_attr_out out{};
        out.attr_valid = 86400;
        out.attr = attributes(in().nodeid);
        return reply(out);
      }
      case FUSE_OPEN:
      case FUSE_OPENDIR: {
        fuse_open_out out{};
        out.open_flags = FOPEN_DIRECT_IO | (1U << 6);  // parallel direct writes
        return reply(out);
      }
      case FUSE_READ: return reply(0, zeroes_.data(), std::min(body<fuse_read_in>().size, kIoMax));
      case FUSE_WRITE: {
        fuse_write_out out{};
        out.size = body<fuse_write_in>().size;
        return reply(out);
      }
      case FUSE_RELEASE:
      case FUSE_RELEASEDIR:
      case FUSE_FLUSH:
      case FUSE_FSYNC: return reply(0, nullptr, 0);
      default: return reply(-ENOSYS, nullptr, 0);
    }
  }

  void init() {
    const auto& wanted = body<fuse_init_in>();
    fuse_init_out out{};
    out.major = FUSE_KERNEL_VERSION;
    out.minor = std::min(wanted.minor, static_cast<uint32_t>(FUSE_KERNEL_MINOR_VERSION));
    out.max_readahead = wanted.max_readahead;
    out.flags = wanted.flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS);
    out.max_write = kIoMax;
    out.max_pages = kIoMax / 4096;
    out.max_background = 64;
    out.congestion_threshold = 48;
    reply(out);
  }

  const int fd_;
  std::vector<std::byte> message_;
  const std::vector<std::byte> zeroes_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: null_fuse MOUNTPOINT\n");
    return 2;
  }
  const int fd = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  const std::string options = "fd=" + std::to_string(fd) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
  if (fd < 0 || ::mount("null", argv[1], "fuse.null", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    std::perror(argv[1]);
    return 1;
  }
  return Null(fd).serve();
}
