#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Everything that can be wrong with a command line, a pool or a mount point: one clear line, mount(8)'s exit status,
# nothing mounted, and not one byte of the pool changed.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need python3 sha256sum
[[ -z ${UDAX_PEER:-} ]] || skip "it is about the daemon"

udaxfs=$UDAX_BIN/udaxfs
usage=1
mount_failure=32

# expect STATUS PATTERN ARGUMENTS...: the daemon refuses, in one line of that pattern.
expect() {
  local status=0 wanted=$1 pattern=$2 before=
  shift 2
  [[ ! -f $pool ]] || before=$(sha256sum <"$pool")
  timeout 60 "$udaxfs" "$@" >"$work/out" 2>"$work/error" || status=$?
  [[ $status -eq $wanted ]] || fail "udaxfs $*: status $status, not $wanted: $(cat "$work/error")"
  grep -Eq "^udaxfs: .*$pattern" "$work/error" || fail "udaxfs $*: says $(cat "$work/error"), not $pattern"
  if [[ $wanted -eq $mount_failure ]]; then
    # Warnings of what was found on the way may come first; the reason is one line.
    [[ $(grep -c '^udaxfs: ' "$work/error") -eq 1 ]] || fail "udaxfs $*: more than one line: $(cat "$work/error")"
  fi
  if is_mounted; then fail "udaxfs $*: mounted"; fi
  [[ -z $before || $(sha256sum <"$pool") == "$before" ]] || fail "udaxfs $*: the pool was changed"
  say "$(grep -m 1 '^udaxfs: ' "$work/error")"
}

# poke OFFSET HEX: overwrites bytes of the pool.
poke() { python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2], 0)); f.write(bytes.fromhex(sys.argv[3]))' "$pool" "$1" "$2"; }
# seal BLOCK: puts the right checksum into the superblock copy at BLOCK (CRC-32C, field at byte 12 taken as zero).
seal() { python3 - "$pool" "$1" <<'PYTHON'
import sys
FINAL = 0
f = open(sys.argv[1], "r+b")
f.seek(int(sys.argv[2]) * 4096)
block = bytearray(f.read(4096))
block[12:16] = bytes(4)
crc = 0xFFFFFFFF
for byte in block:
    crc ^= byte
    for _ in range(8):
        crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
block[12:16] = (crc ^ FINAL).to_bytes(4, "little")
f.seek(int(sys.argv[2]) * 4096)
f.write(block)
PYTHON
}
blocks=8192
fresh() { make_pool 32M; }

say "command line"
fresh
expect $usage 'a pool and a mount point'
expect $usage 'mount point' "$pool"
expect $usage "'third'" "$pool" "$mnt" third
expect $usage "unknown option 'nonsense'" "$pool" "$mnt" -o rw,nonsense
expect $usage "unknown option 'nonsense=1'" "$pool" "$mnt" -o nonsense=1
expect $usage 'unknown option -Q' "$pool" "$mnt" -Q
expect $usage 'threads=0' "$pool" "$mnt" -o threads=0
expect $usage 'dax=sometimes' "$pool" "$mnt" -o dax=sometimes
expect $usage 'attr_timeout=soon' "$pool" "$mnt" -o attr_timeout=soon
expect $usage 'data=inplace or data=atomic' "$pool" "$mnt" -o data=journal
expect $usage 'direct=all.*direct=off, direct=owner or direct=uid' "$pool" "$mnt" -o direct=all
expect $usage 'remount' "$pool" "$mnt" -o remount,ro
"$udaxfs" --help | grep -q '^usage: udaxfs' || fail "--help"
"$udaxfs" -V | grep -Eq '^udaxfs [0-9]' || fail "-V"

say "mount point"
expect $mount_failure "mount point $work/none does not exist" "$pool" "$work/none"
touch "$work/plain"
expect $mount_failure "mount point $work/plain is not a directory" "$pool" "$work/plain"

say "pool"
expect $mount_failure "$work/none does not exist" "$work/none" "$mnt"
expect $mount_failure 'is a directory' "$work" "$mnt"
truncate -s 1M "$work/small"
expect $mount_failure 'small|few|not a udaxfs pool|at least' "$work/small" "$mnt"
: >"$work/empty"
expect $mount_failure "$work/empty" "$work/empty" "$mnt"
truncate -s 32M "$work/zeroes"
expect $mount_failure 'not a udaxfs pool' "$work/zeroes" "$mnt"
head -c 16M /dev/urandom >"$work/random"
expect $mount_failure 'not a udaxfs pool' "$work/random" "$mnt"
expect $mount_failure 'neither a file nor' /dev/null "$mnt"

fresh
truncate -s 20M "$pool"
expect $mount_failure 'cut short' "$pool" "$mnt"

fresh
for block in 0 $((blocks - 1)); do
  poke $((block * 4096 + 8)) 0900  # major version 9
  seal "$block"
done
expect $mount_failure 'newer udaxfs' "$pool" "$mnt"

fresh
for block in 0 $((blocks - 1)); do
  poke $((block * 4096 + 32)) 0000000000000080  # incompat bit 63
  seal "$block"
done
expect $mount_failure 'features this build does not know' "$pool" "$mnt"

fresh
for block in 0 $((blocks - 1)); do poke $((block * 4096 + 200)) ffff; done  # both checksums wrong
expect $mount_failure 'damaged' "$pool" "$mnt"

fresh
poke $((2 * 4096 + 8)) ff
poke $((2 * 4096 + 2048 + 8)) ff  # both slots of the journal's control block
expect $mount_failure 'journal' "$pool" "$mnt"

say "one broken superblock: the replica serves, and the daemon says so"
fresh
poke 200 ffff
"$udaxfs" -f "$pool" "$mnt" 2>"$work/daemon.log" &
daemon=$!
for _ in {1..200}; do
  if is_mounted; then break; fi
  sleep 0.05
done
is_mounted || fail "not mounted by the replica"
grep -q 'replica' "$work/daemon.log" || fail "nothing said of the replica: $(cat "$work/daemon.log")"
touch "$mnt/file"
unmount_pool

say "an unknown ro_compat feature: read-only at most"
fresh
for block in 0 $((blocks - 1)); do
  poke $((block * 4096 + 24)) 0000000000000080
  seal "$block"
done
"$udaxfs" "$pool" "$mnt" 2>"$work/error"
if touch "$mnt/file" 2>/dev/null; then fail "written to with an unknown ro_compat feature"; fi
umount_now

say "in use"
fresh
mkdir "$work/second"
mount_pool
start=$SECONDS
if "$udaxfs" "$pool" "$work/second" 2>"$work/error"; then fail "mounted twice"; fi
((SECONDS - start < 4)) || fail "waited for a mount that is plainly there"
grep -Eq "^udaxfs: .*$mnt" "$work/error" || fail "the holder's mount point is not named: $(cat "$work/error")"
grep -Eq "$daemon" "$work/error" || fail "the holder's pid is not named: $(cat "$work/error")"
say "$(cat "$work/error")"
unmount_pool
check_pool
