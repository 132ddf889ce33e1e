// SPDX-License-Identifier: BSD-3-Clause
//
// A program of libpmemobj that knows nothing of udaxfs, killed in the middle of a transaction.
//
//   pmemobj_killed make FILE     makes a pool with two counters at 0
//   pmemobj_killed count FILE N  counts both up in N transactions, and is killed between the two in the last one
//   pmemobj_killed show FILE     prints both
#include <libpmemobj.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

struct Root {
  uint64_t first;
  uint64_t second;
};
constexpr const char* kLayout = "udax-killed";

int fail(const char* what) {
  std::fprintf(stderr, "pmemobj_killed: %s: %s\n", what, pmemobj_errormsg());
  return 1;
}

// Counts both up; `killed`: only the first, and then this process is no more.
int count_up(PMEMobjpool* pool, PMEMoid root, bool killed) {
  if (pmemobj_tx_begin(pool, nullptr, TX_PARAM_NONE) != 0) return fail("begin");
  if (pmemobj_tx_add_range(root, 0, sizeof(Root)) != 0) return fail("add_range");
  auto* const counters = static_cast<Root*>(pmemobj_direct(root));
  ++counters->first;
  if (killed) {
    pmemobj_persist(pool, &counters->first, sizeof counters->first);
    ::kill(::getpid(), SIGKILL);
  }
  ++counters->second;
  pmemobj_tx_commit();
  return pmemobj_tx_end() == 0 ? 0 : fail("end");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const bool makes = std::strcmp(argv[1], "make") == 0;
  PMEMobjpool* const pool =
      makes ? pmemobj_create(argv[2], kLayout, PMEMOBJ_MIN_POOL, 0600) : pmemobj_open(argv[2], kLayout);
  if (pool == nullptr) return fail(argv[2]);
  const PMEMoid root = pmemobj_root(pool, sizeof(Root));
  if (OID_IS_NULL(root)) return fail("root");
  if (std::strcmp(argv[1], "count") == 0 && argc == 4) {
    const long times = std::strtol(argv[3], nullptr, 10);
    for (long i = 0; i < times; ++i) {
      if (const int status = count_up(pool, root, i + 1 == times); status != 0) return status;
    }
  }
  const auto* const counters = static_cast<const Root*>(pmemobj_direct(root));
  std::printf("%llu %llu\n", static_cast<unsigned long long>(counters->first),
              static_cast<unsigned long long>(counters->second));
  pmemobj_close(pool);
  return 0;
}
