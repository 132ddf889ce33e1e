// SPDX-License-Identifier: BSD-3-Clause
//
// A medium in memory that goes back to what it held at the start, at the price of the pages that were changed: a private
// mapping of a file in memory, of which the changed pages are dropped.
//
// Thread safety: as a medium; restore() while nobody uses it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "media/memory_medium.h"

namespace udax::test {

class CowMedium final : public media::MemoryMedium {
 public:
  explicit CowMedium(const media::Medium& seed) : MemoryMedium(seed.size(), seed.granularity()) {
    fd_ = ::memfd_create("udax-seed", MFD_CLOEXEC);
    UDAX_ASSERT(fd_ >= 0 && ::ftruncate(fd_, static_cast<off_t>(size())) == 0);
    void* const file = ::mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    UDAX_ASSERT(file != MAP_FAILED);
    for (uint64_t at = 0; at < size(); at += kBlockSize) {
      if (!is_zero(seed.at(at))) std::memcpy(static_cast<std::byte*>(file) + at, seed.at(at), kBlockSize);
    }
    ::munmap(file, size());
    void* const mine = ::mmap(raw(), size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd_, 0);
    UDAX_ASSERT(mine == raw());
  }
  ~CowMedium() override { ::close(fd_); }

  void restore() { UDAX_ASSERT(::madvise(raw(), size(), MADV_DONTNEED) == 0); }

 private:
  static bool is_zero(const std::byte* page) {
    return *page == std::byte{0} && std::memcmp(page, page + 1, kBlockSize - 1) == 0;
  }
  int fd_ = -1;
};

}  // namespace udax::test
