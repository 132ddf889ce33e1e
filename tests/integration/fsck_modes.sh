#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fsck.udaxfs from outside: exit codes of fsck(8), what each mode changes, a mounted pool, one that was not unmounted, and
# damage of both kinds, that which costs nothing to mend and that which needs -y.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "there is no pool in a control run"
need python3 cmp dd
fsck=$UDAX_BIN/fsck.udaxfs
[[ -x $fsck ]] || skip "$fsck is not built"

expect() {  # expect STATUS WHAT ARGUMENTS...
  local status=0
  "$fsck" "${@:3}" >"$work/out" 2>"$work/err" || status=$?
  [[ $status -eq $1 ]] || fail "$2: status $status instead of $1: $(cat "$work/out" "$work/err")"
}
value() {  # value KEY: of the JSON in $work/out
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/out" "$1"
}
place() {  # place KEY: of the pool, by udaxctl
  "$UDAX_BIN/udaxctl" info --json "$pool" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
zero_bytes() { dd if=/dev/zero of="$pool" bs=1 seek="$1" count="$2" conv=notrunc status=none; }

expect 16 "no pool named"
expect 16 "modes that exclude each other" -n -y "$pool"
expect 0 "version" -V
expect 8 "no such file" -n "$work/nothing"
head -c 9000000 /dev/urandom >"$work/noise"
cp "$work/noise" "$work/noise-before"
expect 8 "not a pool" -y "$work/noise"
cmp "$work/noise" "$work/noise-before" || fail "-y wrote to what is no pool"

expect 16 "a scrub that repairs" --scrub -y "$pool"

make_pool 64M
expect 0 "a new pool" -n "$pool"
expect 0 "a scrub of it" --scrub "$pool"
expect 0 "a scrub for programs" --scrub --json "$pool"
[[ $(value scrub) == *"'blocks_lost': 0"* ]] || fail "a scrub that does not count: $(cat "$work/out")"
mount_pool
cp -r "$top/src" "$mnt/src"
mkdir "$mnt/many"
for i in {1..500}; do echo "$i" >"$mnt/many/file-$i"; done
expect 8 "a mounted pool" -n "$pool"
grep -q "$mnt" "$work/err" || fail "the holder is not named: $(cat "$work/err")"
kill_daemon

# One that holds the pool and serves no mount, as a daemon does whose mount has just gone, is waited for.
flock "$pool" sleep 1 &
sleep 0.2
start=$EPOCHREALTIME
"$fsck" -n "$pool" >"$work/out" 2>"$work/err" || fail "a pool that is about to be free: $(cat "$work/err")"
awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN {exit !(b - a > 0.3)}' || fail "nothing held the pool"
wait $!

cp --sparse=always "$pool" "$work/before"
expect 0 "not unmounted, read only" -n --json "$pool"
[[ $(value unmounted_cleanly) == False && $(value outcome) == clean ]] || fail "$(cat "$work/out")"
cmp "$pool" "$work/before" || fail "-n changed the pool"
expect 0 "not unmounted, preen" -p "$pool"
expect 0 "unmounted cleanly, preen" -p "$pool"
grep -q 'unmounted cleanly' "$work/out" || fail "a clean pool was checked all the same"
expect 0 "unmounted cleanly, forced" -p -f -v "$pool"
say "exit codes and modes are right"

# A bitmap: nothing is lost with it.
cp --sparse=always "$pool" "$work/sound"
bitmap=$((4096 * ($(place journal_start) - 1)))
zero_bytes "$bitmap" 4096
expect 4 "a broken bitmap, default" "$pool"
grep -q 'fsck.udaxfs -y' "$work/out" || fail "it is not told how to repair"
expect 1 "a broken bitmap, preen" -p -f "$pool"
expect 0 "a bitmap that was repaired" -n "$pool"

# The root block: -y finds the inodes again.
zero_bytes $((3 * 4096)) 4096
expect 4 "no root block, preen" -p -f "$pool"
expect 1 "no root block" -y --json "$pool"
[[ $(value outcome) == repaired && $(value unrepaired_count) == 0 ]] || fail "$(cat "$work/out")"
expect 0 "a root block that was repaired" -n "$pool"
zero_bytes 0 4096
expect 1 "no superblock" -y "$pool"
expect 0 "a superblock that was repaired" -n "$pool"
mount_pool
diff -r "$top/src" "$mnt/src" || fail "files have changed"
[[ $(find "$mnt/many" -type f | wc -l) -eq 500 && $(cat "$mnt/many/file-321") == 321 ]] || fail "files are missing"
unmount_pool
check_pool
say "damage is repaired, and files are what they were"
