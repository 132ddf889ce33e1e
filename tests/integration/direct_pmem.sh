#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Programs of libpmem2 and libpmemobj under the preload shim. Where stores of the pool persist by cache lines (here because
# libpmem2 is told so), their mappings have MAP_SYNC, and they see that granularity; where they do not, and without the shim,
# it is a page. A transaction that was killed in the middle is rolled back.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
[[ -x $UDAX_BIN/pmem2_granularity ]] || skip "$UDAX_BIN/pmem2_granularity is not built"
[[ ! -c $pool ]] || skip "a device has a granularity of its own"

expect() {  # expect WHAT EXPECTED COMMAND...
  local found
  found=$("${@:3}") || fail "$1: status $?"
  [[ $found == "$2" ]] || fail "$1: '$found', not '$2'"
}
for granularity in PAGE CACHE_LINE; do
  PMEM2_FORCE_GRANULARITY=$granularity start_direct 128M direct=owner
  seen=page
  [[ $granularity == PAGE ]] || seen=cache-line
  expect "libpmem2, pool $granularity, direct" $seen under "$UDAX_BIN/pmem2_granularity" "$mnt/file"
  expect "libpmem2, pool $granularity, without the shim" page "$UDAX_BIN/pmem2_granularity" "$mnt/file"
  if [[ $granularity == CACHE_LINE && -x $UDAX_BIN/pmemobj_killed ]]; then
    expect "libpmemobj" "0 0" under "$UDAX_BIN/pmemobj_killed" make "$mnt/objects"
    status=0
    under "$UDAX_BIN/pmemobj_killed" count "$mnt/objects" 10 || status=$?
    [[ $status -eq 137 ]] || fail "libpmemobj: status $status, not killed"
    expect "libpmemobj, recovered" "9 9" under "$UDAX_BIN/pmemobj_killed" show "$mnt/objects"
    expect "libpmemobj, without the shim" "9 9" "$UDAX_BIN/pmemobj_killed" show "$mnt/objects"
    say "libpmemobj: killed in its tenth transaction, 9 are there"
  fi
  unmount_pool
  check_pool
  say "pool $granularity: libpmem2 says $seen"
done
[[ -x $UDAX_BIN/pmemobj_killed ]] || say "without libpmemobj, which is not installed"
