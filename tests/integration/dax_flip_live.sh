#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The DAX flag of a file is flipped in a loop while processes that have it open and mapped, in both ways, change it
# (flip_live). That a kernel "would crash an burn badly" then kept the flag out of ext4 for years: the thread "ext4:
# introduce per-inode DAX flag" of August 2017. Afterwards the bytes are the same through a fresh mount.
# UDAX_SECONDS: how long each run takes (default 10). UDAX_SEED: of the first.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about DAX files, which a peer does not have"
program=${UDAX_BIN:-}/flip_live
[[ -x $program ]] || skip "$program is not built"
seconds=${UDAX_SECONDS:-10}
seed=$(new_seed)
say "seed $seed (UDAX_SEED=$seed repeats it)"

for options in dax=inode dax=inode,threads=1; do
  make_pool 64M
  mount_pool -o "$options"
  # Whatever waits for ever is ended, and told.
  timeout -k 10 "$((seconds * 3 + 60))" "$program" "$mnt/file" "$seed" "$seconds" >"$work/run.log" 2>&1 ||
    fail "$options, seed $seed: status $?: $(cat "$work/run.log")"
  say "$options: $(cat "$work/run.log")"
  sum=$(sha256sum <"$mnt/file")
  remount_pool -o "$options"
  [[ $(sha256sum <"$mnt/file") == "$sum" ]] || fail "$options, seed $seed: other bytes after a re-mount"
  unmount_pool
  check_pool
  seed=$((seed + 1))
done
