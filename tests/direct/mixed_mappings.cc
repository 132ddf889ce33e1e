// SPDX-License-Identifier: BSD-3-Clause
//
// Ranges of addresses of which a part is a file's and the rest is not: munmap(2), mprotect(2), msync(2) and a shrinking mremap(2)
// work on all of it, under the preload shim as without.
//
//   mixed_mappings FILE
//     Exit status 1, with a sentence, if something is otherwise.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kPages = 8;

#define MUST(condition)                                                                                      \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      std::fprintf(stderr, "mixed_mappings: line %d: %s: %s\n", __LINE__, #condition, std::strerror(errno)); \
      std::exit(1);                                                                                          \
    }                                                                                                        \
  } while (false)

int g_null[2];

/// Whether there is memory that can be loaded from.
bool is_mapped(const char* at) {
  char byte = 0;
  if (::write(g_null[1], at, 1) != 1) return false;
  MUST(::read(g_null[0], &byte, 1) == 1);
  return true;
}

struct Range {
  char* base;
  [[nodiscard]] char* page(size_t n) const { return base + n * kPage; }
};

/// Eight pages: [first, first + 4) are the file's, the others are memory.
Range make(int fd, size_t first) {
  constexpr int kMemory = MAP_PRIVATE | MAP_ANONYMOUS;
  void* const base = ::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, kMemory, -1, 0);
  MUST(base != MAP_FAILED);
  const Range range{static_cast<char*>(base)};
  MUST(::mmap(range.page(first), 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
       range.page(first));
  for (size_t n = 0; n < kPages; ++n) *range.page(n) = static_cast<char>('0' + n);
  return range;
}

void expect(int fd, const Range& range, size_t first, size_t left) {
  for (size_t n = 0; n < kPages; ++n) {
    MUST(is_mapped(range.page(n)) == (n < left));
    if (n < left) MUST(*range.page(n) == static_cast<char>('0' + n));
  }
  // What is left of the file is the file's, still.
  for (size_t n = first; n < first + 4 && n < left; ++n) {
    char byte = 0;
    *range.page(n) = 'x';
    MUST(::pread(fd, &byte, 1, static_cast<off_t>((n - first) * kPage)) == 1 && byte == 'x');
    *range.page(n) = static_cast<char>('0' + n);
  }
}

void shrink(int fd, size_t first, size_t left, int flags) {
  const Range range = make(fd, first);
  MUST(::mremap(range.base, kPages * kPage, left * kPage, flags) == range.base);
  expect(fd, range, first, left);
  MUST(::munmap(range.base, kPages * kPage) == 0);
  expect(fd, range, first, 0);
}

void protect_and_sync(int fd, size_t first) {
  const Range range = make(fd, first);
  MUST(::mprotect(range.base, kPages * kPage, PROT_NONE) == 0);
  for (size_t n = 0; n < kPages; ++n) MUST(!is_mapped(range.page(n)));
  MUST(::mprotect(range.base, kPages * kPage, PROT_READ | PROT_WRITE) == 0);
  MUST(::msync(range.base, kPages * kPage, MS_SYNC) == 0);
  expect(fd, range, first, kPages);
  MUST(::munmap(range.base, kPages * kPage) == 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int fd = ::open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  MUST(fd >= 0 && ::ftruncate(fd, kPages * kPage) == 0);
  MUST(::pipe(g_null) == 0);
  for (size_t first = 0; first <= 4; first += 2) {
    for (size_t left = kPages - 1; left > 0; --left) {
      shrink(fd, first, left, 0);
      shrink(fd, first, left, MREMAP_MAYMOVE);
    }
    protect_and_sync(fd, first);
  }
  return 0;
}
