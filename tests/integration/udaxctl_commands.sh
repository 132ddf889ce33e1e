#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# udaxctl on a pool that is mounted, and on one that is not.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "there is no pool in a control run"
need python3 stat truncate
ctl=$UDAX_BIN/udaxctl
[[ -x $ctl ]] || skip "$ctl is not built"

holds() {  # holds EXPRESSION, of the JSON on standard input, which is `j`
  python3 -c 'import json, sys; j = json.load(sys.stdin); sys.exit(0 if eval(sys.argv[1]) else f"{sys.argv[1]}: {j}")' "$1"
}
expect() {  # expect STATUS WHAT ARGUMENTS...
  local status=0
  "$ctl" "${@:3}" >"$work/out" 2>"$work/err" || status=$?
  [[ $status -eq $1 ]] || fail "$2: status $status instead of $1: $(cat "$work/out" "$work/err")"
}

expect 2 "no command"
expect 2 "no such command" nothing
expect 1 "no such pool" info "$work/nothing"
expect 1 "no mount" info "$work"
expect 1 "no mount" stat "$work"
expect 1 "no file of ours" extents /etc/passwd
expect 1 "no mount to sync" sync /etc/passwd
grep -q 'not on a mounted udaxfs' "$work/err" || fail "$(cat "$work/err")"

make_pool 64M -L "a label"
expect 0 "info" info "$pool"
"$ctl" info --json "$pool" | holds 'j["label"] == "a label" and j["blocks"] == 16384 and j["unmounted_cleanly"]'
mount_pool
mkdir "$mnt/dir"
echo text >"$mnt/dir/name-to-be-found"
ln -s "$(printf 't%.0s' {1..300})" "$mnt/dir/link"
head -c 6000000 /dev/urandom >"$mnt/large"
truncate -s 8M "$mnt/large"
sync "$mnt/large"

"$ctl" info --json "$mnt/dir" | holds 'j["label"] == "a label" and j["mounted"] and not j["read_only"]'
"$ctl" info --json "$pool" | holds 'not j["unmounted_cleanly"] and j["holder"]["mountpoint"] != ""'
"$ctl" list --json | MNT=$mnt holds '[m for m in j["mounts"] if m["mountpoint"] == __import__("os").environ["MNT"]][0]["info"]["blocks"] == 16384'
"$ctl" list | grep -q "$mnt" || fail "list does not name the mount"
say "info and list are right"

"$ctl" extents --json "$mnt/large" | holds 'sum(e["bytes"] for e in j["extents"]) == j["bytes"] == 6000640'
"$ctl" extents --json "$mnt/large" | holds 'j["extents"][0]["file_offset"] == 0 and j["huge_bytes"] <= j["bytes"]'
"$ctl" extents "$mnt/large" | grep -q '2 MiB' || fail "extents does not speak of 2 MiB"
: >"$mnt/empty"
"$ctl" extents --json "$mnt/empty" | holds 'j["extents"] == []'

"$ctl" stat --json "$mnt" | holds 'j["ops"]["write"]["count"] > 0 and j["space"]["total_blocks"] > 0'
"$ctl" stat "$mnt" | grep -q '^write ' || fail "stat does not list writes"
"$ctl" stat --prometheus "$mnt" >"$work/metrics"
grep -q '^udaxfs_op_count{.*op="write"} [0-9]' "$work/metrics" || fail "no metric of writes"
if grep -Ev '^(# TYPE [a-z0-9_]+ (counter|gauge)|[a-z0-9_]+\{[^}]*\} [0-9.e+-]+)$' "$work/metrics"; then
  fail "lines that Prometheus would not read"
fi
expect 0 "watch" stat --watch --count 1 "$mnt"
say "extents and stat are right"

flushes=$("$ctl" stat --json "$mnt" | python3 -c 'import json, sys; print(json.load(sys.stdin)["media"]["deep_flushes"])')
for path in "$mnt" "$mnt/large"; do expect 0 "sync" sync "$path"; done
"$ctl" stat --json "$mnt" | BEFORE=$flushes holds 'j["media"]["deep_flushes"] == int(__import__("os").environ["BEFORE"]) + 2'
say "sync is right"

mkdir "$mnt/direct"
echo one >"$mnt/direct/before"
echo two >"$mnt/plain"
exec 7<"$mnt/plain"
"$ctl" dax show --json "$mnt/plain" "$mnt/direct" | holds '[f["state"] for f in j] == ["cached", "cached"]'
expect 0 "dax on" dax on "$mnt/plain"
grep -q '1 descriptor stays open cached' "$work/out" || fail "it does not tell of the open file: $(cat "$work/out")"
"$ctl" dax show --json "$mnt/plain" | holds 'j[0]["flag"] and j[0]["state"] == "dax" and j[0]["old_openers"] == 1'
exec 7<&-
"$ctl" dax show --json "$mnt/plain" | holds 'j[0]["old_openers"] == 0'
expect 1 "dax inherit of a file" dax inherit "$mnt/plain"
expect 0 "dax inherit" dax inherit "$mnt/direct"
echo three >"$mnt/direct/after"
"$ctl" dax show --json "$mnt/direct/before" "$mnt/direct/after" | holds '[f["flag"] for f in j] == [False, True]'
expect 0 "dax on of a tree" dax on -R "$mnt/direct"
"$ctl" dax show --json "$mnt/direct/before" | holds 'j[0]["flag"]'
expect 0 "dax off" dax off -R "$mnt/direct" "$mnt/plain"
"$ctl" dax show --json -R "$mnt/direct" "$mnt/plain" | holds 'len(j) == 4 and not any(f["flag"] for f in j)'
expect 1 "dax of what is not ours" dax show "$work"
expect 1 "dax of what is not there" dax show "$mnt/nothing"
expect 2 "dax without a known action" dax maybe "$mnt/plain"
"$ctl" stat --json "$mnt" | holds 'j["dax"]["flips"] == 5'
say "dax is right"

ino=$(stat -c %i "$mnt/dir")
link=$(stat -c %i "$mnt/dir/link")
expect 0 "dump of a mounted pool" dump "$pool"
grep -q 'replica.*the same' "$work/out" || fail "$(cat "$work/out")"
expect 0 "dump of an inode" dump --inode "$link" "$pool"
grep -q 'symbolic link.*checksum good' "$work/out" || fail "$(cat "$work/out")"
expect 0 "dump of a directory" dump --dir "$ino" "$pool"
grep -q 'name-to-be-found' "$work/out" || fail "$(cat "$work/out")"
block=$("$ctl" dump --inode "$ino" "$pool" | sed -n 's/.*root at block \([0-9]*\),.*/\1/p')
expect 0 "dump of a block" dump --block "$block" "$pool"
grep -q 'directory leaf.*checksum good' "$work/out" || fail "$(cat "$work/out")"
expect 0 "dump of block 0" dump --block 0 "$pool"
expect 1 "dump of a block behind the end" dump --block 99999999 "$pool"
expect 1 "dump of an inode that is not there" dump --inode 99999999 "$pool"
expect 1 "dump of what is no directory" dump --dir "$link" "$pool"
unmount_pool
"$ctl" info --json "$pool" | holds 'j["unmounted_cleanly"] and "holder" not in j'
expect 0 "dump of groups" dump --groups --journal --superblock "$pool"
check_pool
say "dump is right"
