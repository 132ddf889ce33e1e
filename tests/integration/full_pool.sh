#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A pool without space left: every operation says ENOSPC and leaves nothing behind, what takes space away works, data
# that is there stays, and when all is removed `df` shows what it did at first. full_pool.py does it.
# UDAX_POOL_MIB: the pool's size (default 24).
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need python3
[[ -z ${UDAX_PEER:-} ]] || skip "a peer is not filled"

for dax in never always; do
  say "dax=$dax"
  make_pool "${UDAX_POOL_MIB:-24}M"
  mount_pool -o dax=$dax
  stat -f -c '%f %d' "$mnt" >"$work/start"
  python3 "$here/full_pool.py" fill "$mnt"
  remount_pool -o dax=$dax
  python3 "$here/full_pool.py" verify "$mnt"
  unmount_pool
  check_pool
  mount_pool -o dax=$dax
  python3 "$here/full_pool.py" empty "$mnt"
  stat -f -c '%f %d' "$mnt" >"$work/end"
  cmp -s "$work/start" "$work/end" || fail "free blocks, files: $(cat "$work/start") at first, $(cat "$work/end") when empty again"
  remount_pool -o dax=$dax
  stat -f -c '%f %d' "$mnt" >"$work/end"
  cmp -s "$work/start" "$work/end" || fail "after a re-mount: $(cat "$work/start") at first, $(cat "$work/end") now"
  unmount_pool
  check_pool
  say "empty again: $(cat "$work/end") blocks and files are free, as at first; the pool is clean"
done
