#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Media errors on a live mount: the end of the pool's file is cut off, and every page there raises SIGBUS from then on.
# What was there fails with EIO, what was not is served, "udaxctl stat" tells of it, and writes go elsewhere.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "there is no pool in a control run"
need python3 cmp truncate
ctl=$UDAX_BIN/udaxctl
fsck=$UDAX_BIN/fsck.udaxfs
[[ -x $ctl && -x $fsck ]] || skip "udaxctl or fsck.udaxfs is not built"

holds() {  # holds EXPRESSION: of the counters of the mount, as j
  "$ctl" stat --json "$mnt" >"$work/stat"
  python3 -c 'import json, sys; j = json.load(open(sys.argv[1])); sys.exit(0 if eval(sys.argv[2]) else 1)' \
    "$work/stat" "$1" || fail "not so: $1: $(cat "$work/stat")"
}

make_pool 64M
mount_pool -o dax=always
head -c 4M /dev/urandom >"$work/sound"
head -c 4M /dev/urandom >"$work/cut"
cp "$work/sound" "$mnt/sound"
cp "$work/cut" "$mnt/cut"
sync -f "$mnt"
holds 'j["media"]["lost_pages"] == 0 and j["media"]["lost"] == []'

# In the middle of the second file.
offset=$("$ctl" extents --json "$mnt/cut" | python3 -c '
import json, sys
middle = 2 << 20
for e in json.load(sys.stdin)["extents"]:
    if e["file_offset"] <= middle < e["file_offset"] + e["bytes"]:
        print(e["pool_offset"] + middle - e["file_offset"])')
[[ -n $offset ]] || fail "where the file lies is not told"
truncate -s "$offset" "$pool"
cmp "$mnt/sound" "$work/sound" || fail "what is not lost is not served"
cmp -n $((2 << 20)) "$mnt/cut" "$work/cut" || fail "what comes before the loss is not served"
if dd if="$mnt/cut" of=/dev/null bs=4096 skip=600 count=1 2>"$work/err"; then fail "a lost block is served"; fi
grep -q 'Input/output error' "$work/err" || fail "another error than EIO: $(cat "$work/err")"
holds 'j["media"]["lost_pages"] > 0 and j["media"]["faults"] > 0'
holds 'all(r["offset_bytes"] >= '"$offset"' and r["length_bytes"] > 0 for r in j["media"]["lost"]) and j["media"]["lost"]'
"$ctl" stat --prometheus "$mnt" >"$work/stat"
grep -q '^udaxfs_media_lost_pages{.*} [1-9]' "$work/stat" || fail "not told to Prometheus: $(cat "$work/stat")"
"$ctl" stat "$mnt" >"$work/stat"
grep -q '^  lost_pages  *[1-9]' "$work/stat" || fail "not told to people: $(cat "$work/stat")"
say "what is lost fails, is told of, and no more than that"

kill -0 "$daemon" || fail "the daemon died"
rm "$mnt/cut"
cmp "$mnt/sound" "$work/sound" || fail "what is not lost is not served"
unmount_pool 2>/dev/null || true
truncate -s 64M "$pool"
"$fsck" -y "$pool" >"$work/out" || [[ $? -eq 1 ]] || fail "not repaired: $(cat "$work/out")"
"$fsck" --scrub "$pool" >"$work/out" || fail "not clean: $(cat "$work/out")"
mount_pool
cmp "$mnt/sound" "$work/sound" || fail "what was not lost is gone"
unmount_pool
say "the pool is mended"
