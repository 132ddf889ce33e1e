// SPDX-License-Identifier: BSD-3-Clause
//
// A program of libpmem2 that knows nothing of udaxfs: maps a file, tells the granularity of its stores, and persists some.
//
//   pmem2_granularity FILE
//     Prints byte, cache-line or page. Exit status 1, with a sentence, if something fails.
#include <fcntl.h>
#include <libpmem2.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace {

const char* name_of(pmem2_granularity granularity) {
  switch (granularity) {
    case PMEM2_GRANULARITY_BYTE: return "byte";
    case PMEM2_GRANULARITY_CACHE_LINE: return "cache-line";
    case PMEM2_GRANULARITY_PAGE: return "page";
  }
  return "?";
}

int fail(const char* what) {
  std::fprintf(stderr, "pmem2_granularity: %s: %s\n", what, pmem2_errormsg());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int fd = ::open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, 8 << 20) != 0) {
    std::perror(argv[1]);
    return 1;
  }
  pmem2_config* config = nullptr;
  pmem2_source* source = nullptr;
  pmem2_map* map = nullptr;
  if (pmem2_config_new(&config) != 0) return fail("config");
  if (pmem2_source_from_fd(&source, fd) != 0) return fail("source");
  if (pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_PAGE) != 0) return fail("granularity");
  if (pmem2_map_new(&map, config, source) != 0) return fail("map");
  auto* const bytes = static_cast<char*>(pmem2_map_get_address(map));
  pmem2_get_memcpy_fn(map)(bytes + 4096, "persistent", 10, 0);
  std::puts(name_of(pmem2_map_get_store_granularity(map)));
  if (pmem2_map_delete(&map) != 0) return fail("unmap");
  pmem2_source_delete(&source);
  pmem2_config_delete(&config);
  char again[11] = {};
  if (::pread(fd, again, 10, 4096) != 10 || std::strcmp(again, "persistent") != 0) {
    std::fprintf(stderr, "pmem2_granularity: the store is not in the file\n");
    return 1;
  }
  return 0;
}
