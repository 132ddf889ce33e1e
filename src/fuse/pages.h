// SPDX-License-Identifier: BSD-3-Clause
//
// Anonymous memory for messages; pages come as they are touched.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace udax::fuse {

class Pages {
 public:
  /// Throws std::bad_alloc.
  explicit Pages(size_t size) : size_(size) {
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(at);
  }
  ~Pages() { ::munmap(data_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }

 private:
  std::byte* data_;
  const size_t size_;
};

}  // namespace udax::fuse
