#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nothing that is stored to a direct mapping is lost or stale (direct_storm), with and without write tracking; the same through
# the kernel's mappings, which must agree; and controls: steps of the client are taken away by knobs, and it must show.
# UDAX_SECONDS: how long each run takes (default 5). UDAX_SEED: of the first.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3
program=$UDAX_BIN/direct_storm
[[ -x $program ]] || skip "$program is not built"
seconds=${UDAX_SECONDS:-5}
seed=$(new_seed)
say "seed $seed (UDAX_SEED=$seed repeats it)"

storm() {  # storm FILE COMMAND...; mode: what direct_storm takes behind the seconds
  seed=$((seed + 1))
  timeout -s KILL "$((seconds + 60))" "${@:2}" "$program" "$mnt/$1" "$seed" "$seconds" ${mode:+"$mode"} >"$work/run.log" 2>&1
}

start_direct 128M direct=owner,dax=inode
storm direct "$UDAX_BIN/udaxctl" run -- || fail "direct, seed $seed: $(tail -n 20 "$work/run.log")"
maps=$(direct_counter maps)
[[ $maps -gt 100 ]] || fail "the daemon mapped $maps times: these were no direct mappings"
say "direct: $(tail -n 1 "$work/run.log")"
say "the daemon mapped $maps times, took back $(direct_counter holes)"
UDAX_KNOBS=client.no_tracking storm untracked "$UDAX_BIN/udaxctl" run -- || fail "untracked, seed $seed: $(tail -n 20 "$work/run.log")"
say "without tracking: $(tail -n 1 "$work/run.log")"
storm kernel env || fail "through the kernel, seed $seed: $(tail -n 20 "$work/run.log")"
say "through the kernel: $(tail -n 1 "$work/run.log")"
# With both kinds of mapping in one process: it may be in the kernel, waiting for a page of the mount, when its views are taken back.
for _ in {1..4}; do
  status=0
  rm -f "$mnt/flips"  # a new one is a DAX file at the start, however the last one ended
  mode=flips storm flips "$UDAX_BIN/udaxctl" run -- || status=$?
  [[ $status -ne 137 ]] || fail "with flips, seed $seed: it hangs"
  [[ $status -eq 0 ]] || fail "with flips, seed $seed: $(tail -n 20 "$work/run.log")"
  say "with flips: $(tail -n 1 "$work/run.log")"
done
[[ $(direct_counter cut_offs) -eq 0 ]] || fail "with flips: a client was cut off"
say "late $(direct_counter late) times, of $(direct_counter revocations)"
[[ $(direct_counter clients) -eq 0 ]] || fail "clients are left"
unmount_pool
check_pool

# The controls. What they do to the pool does not matter.
is_seldom() {  # is_seldom CONTROL: the moment that it takes is seldom met on emulated processors; on others it must be
  [[ -n ${UDAX_IN_GUEST:-} ]] && say "control $1: not found out, on emulated processors"
}
if ! "$UDAX_BIN/udaxfs" --help | grep -q 'direct='; then skip "this daemon has no direct mapping"; fi
caught=
for _ in {1..6}; do
  UDAX_KNOBS=fs.skip_hold,direct.revoke.no_patience start_direct 128M direct=owner,dax=inode
  mode=flips storm control "$UDAX_BIN/udaxctl" run -- || caught=yes
  kill_daemon
  [[ -z $caught ]] || break
done
if [[ -n $caught ]]; then
  has_knobs || fail "$(tail -n 20 "$work/run.log")"
  say "control no_patience is found out: $(tail -n 1 "$work/run.log")"
elif has_knobs; then
  is_seldom no_patience || fail "who waits for clients with locks was never caught"
fi
for knob in client.skip_hole client.naive_hole; do
  caught=
  for _ in {1..12}; do
    start_direct 128M direct=owner,dax=inode
    UDAX_KNOBS=$knob storm control "$UDAX_BIN/udaxctl" run -- || caught=yes
    kill_daemon
    [[ -z $caught ]] || break
  done
  if [[ -z $caught ]]; then
    has_knobs || { say "built without knobs: no controls"; break; }
    is_seldom "$knob" || fail "$knob: nothing was lost, 12 times"
    continue
  fi
  say "control $knob is found out: $(grep -m1 -E 'lost|stale|SIGBUS|EFAULT|ended' "$work/run.log" || tail -n 1 "$work/run.log")"
done
