#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# One process stores to a page of a DAX file through a mapping, another writes to it with write(2): no byte of either is
# lost (lost_update). The kernel alone loses some: it writes the mapped page back, sends the write, drops the page; what
# is stored in between comes back with the whole old page. The daemon takes of it only what was stored.
# With that taken away (a knob, in test builds) bytes must be lost.
# UDAX_ROUNDS: of 50 pairs of updates, in each run (default 40). UDAX_SEED: of the first.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about DAX files, which a peer does not have"
program=${UDAX_BIN:-}/lost_update
[[ -x $program ]] || skip "$program is not built"
updates=$((${UDAX_ROUNDS:-40} * 50))
seed=$(new_seed)
say "seed $seed (UDAX_SEED=$seed repeats it)"

run() {  # run UPDATES LIMIT-IN-SECONDS WORDS...
  seed=$((seed + 1))
  timeout -k 10 "$2" "$program" "$mnt/file" "$seed" "$1" "${@:3}" >"$work/run.log" 2>&1
}

for options in dax=inode dax=inode,threads=1 dax=always dax=never; do
  make_pool 64M
  mount_pool -o "$options"
  for words in pages=1 pages=5 "pages=2 mixed" "pages=1 beside" "pages=3 beside mixed"; do
    n=$updates
    [[ $words != *beside* ]] || n=$((updates / 10))
    # shellcheck disable=SC2086  # words
    run "$n" "$((updates / 10 + 120))" $words || fail "$options, $words, seed $seed: status $?: $(cat "$work/run.log")"
    say "$options, $words: $(cat "$work/run.log")"
  done
  unmount_pool
  check_pool
done

# The negative control.
if ! grep -qaF mapping.copies.no_twins "$UDAX_BIN/udaxfs"; then
  say "no negative control: this daemon was built without knobs (UDAX_SYNC_POINTS)"
  exit 0
fi
make_pool 64M
UDAX_KNOBS=mapping.copies.no_twins mount_pool
for attempt in {1..20}; do
  if ! run 500 120 pages=1; then
    grep -q 'instead of' "$work/run.log" || fail "negative control: $(cat "$work/run.log")"
    say "negative control: without twins a byte is lost, attempt $attempt: $(cat "$work/run.log")"
    unmount_pool
    exit 0
  fi
done
fail "negative control: without twins nothing is lost either"
