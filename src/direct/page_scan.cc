// SPDX-License-Identifier: BSD-3-Clause
#include "direct/page_scan.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>

#include "base/types.h"
#include "direct/packets.h"

namespace udax::direct {
namespace {

// <linux/fs.h> and <linux/userfaultfd.h> of Linux 6.7; missing in older headers.
struct PageRegion {
  uint64_t start, end, categories;
};
struct ScanArguments {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);
constexpr uint64_t kWritten = 1U << 1;
constexpr uint64_t kPresent = 1U << 3;
constexpr uint64_t kProtectMatching = 1;
constexpr uint64_t kCheckAsync = 2;
constexpr uint64_t kWpHugetlbfsShmem = 1U << 12;
constexpr uint64_t kWpUnpopulated = 1U << 13;
constexpr uint64_t kWpAsync = 1U << 15;

struct TestPage {
  void* at = MAP_FAILED;
  TestPage(int fd, uint64_t offset)
      : at(::mmap(nullptr, kBlockSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset))) {}
  ~TestPage() {
    if (at != MAP_FAILED) ::munmap(at, kBlockSize);
  }
  TestPage(const TestPage&) = delete;
  TestPage& operator=(const TestPage&) = delete;
  // A store that changes nothing, whoever else stores there.
  void store() const {
    std::atomic_ref<uint8_t> byte(*static_cast<uint8_t*>(at));
    for (uint8_t value = byte.load(); !byte.compare_exchange_strong(value, value);) {
    }
  }
};

OwnedFd open_tracking() {
  OwnedFd out(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kWpAsync | kWpUnpopulated | kWpHugetlbfsShmem;
  if (!out.is_open() || ::ioctl(out.get(), UFFDIO_API, &api) != 0) return {};
  return out;
}

}  // namespace

Status scan_pages(int pagemap, uint64_t start, uint64_t end,
                  const std::function<void(uint64_t, uint64_t)>& stored) {
  std::array<PageRegion, 256> found;
  while (start < end) {
    ScanArguments scan{};
    scan.size = sizeof(scan);
    scan.flags = kProtectMatching | kCheckAsync;
    scan.start = start;
    scan.end = end;
    scan.vec = reinterpret_cast<uint64_t>(found.data());
    scan.vec_len = found.size();
    scan.category_mask = kPresent | kWritten;
    scan.return_mask = kPresent | kWritten;
    const int n = ::ioctl(pagemap, kPagemapScan, &scan);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 || scan.walk_end <= start || static_cast<size_t>(n) > found.size()) return Error::kIo;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) stored(found[i].start, found[i].end);
    start = scan.walk_end;
  }
  return {};
}

MemoryState ask_memory(int pagemap) {
  // No whole number of entries: refused, but only of memory that exists (fs/proc/task_mmu.c, pagemap_read).
  std::byte none{};
  const ssize_t n = ::pread(pagemap, &none, sizeof(none), 0);
  if (n == 0) return MemoryState::kGone;
  return n < 0 && errno == EINVAL ? MemoryState::kLives : MemoryState::kUnknown;
}

bool can_track(int fd, uint64_t offset) {
  const OwnedFd tracking = open_tracking();
  const OwnedFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const TestPage page(fd, offset);
  if (!tracking.is_open() || !pagemap.is_open() || page.at == MAP_FAILED) return false;
  const auto at = reinterpret_cast<uint64_t>(page.at);
  uffdio_register range{};
  range.range = {at, kBlockSize};
  range.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(tracking.get(), UFFDIO_REGISTER, &range) != 0) return false;
  const auto reports = [&]() -> int {
    int pages = 0;
    const Status done = scan_pages(pagemap.get(), at, at + kBlockSize, [&](uint64_t, uint64_t) { ++pages; });
    return done ? pages : -1;
  };
  for (int i = 0; i < 3; ++i) {
    page.store();
    if (reports() != 1 || reports() != 0) return false;
  }
  return true;
}

}  // namespace udax::direct
