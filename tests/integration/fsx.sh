#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fsx: files changed in every way, each compared with a copy in memory at each step, several at once: with the DAX flag
# left alone (cached, DAX), then flipped all the while.
# UDAX_OPERATIONS: for each of the files (default 4000). UDAX_SEED: of the first.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
program=${UDAX_BIN:-}/fsx
[[ -x $program ]] || skip "$program is not built"
seed=$(new_seed)
operations=${UDAX_OPERATIONS:-4000}
say "seed $seed (UDAX_SEED=$seed repeats it)"

run() {  # run WHAT FLIPS
  local n pids=()
  for n in 1 2; do
    "$program" "$mnt/$1.$n" "$((seed + n))" "$operations" "${@:2}" >"$work/$1.$n.log" 2>&1 &
    pids+=($!)
  done
  for n in 1 2; do
    wait "${pids[n - 1]}" || fail "$1, seed $((seed + n)): $(cat "$work/$1.$n.log")"
    say "$1: $(cat "$work/$1.$n.log")"
    sha256sum "$mnt/$1.$n" >>"$work/sums"
  done
}

for dax in never always inode; do
  make_pool 64M
  mount_pool -o dax=$dax
  : >"$work/sums"
  if [[ $dax == inode ]]; then run "flipped"; else run "dax-$dax" no-flips; fi
  remount_pool -o dax=$dax
  sha256sum --quiet -c "$work/sums" || fail "dax=$dax: other bytes after a re-mount"
  unmount_pool
  check_pool
done
