#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What is stored to a hole through a mapping is found by SEEK_DATA, and no hole for SEEK_HOLE, before it is synced: who copies a sparse
# file that is in use (cp, tar) leaves nothing out. Cached files and DAX files; the control believes the extents.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need python3
[[ -z $msync_seek ]] || skip "this kernel sends pages back after they were taken back (Linux before 6.16)"
stores=$(
  cat <<'END_OF_PROGRAM'
import mmap, os, subprocess, sys
name = sys.argv[1]
fd = os.open(name, os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4 << 20)
os.pwrite(fd, b"x" * 4096, 1 << 20)
m = mmap.mmap(fd, 4 << 20)
m[2500000] = 7
m[3000000] = 7
data = os.lseek(fd, (1 << 20) + 4096, os.SEEK_DATA)
if data != 2500000 // 4096 * 4096:
    sys.exit("SEEK_DATA finds %d" % data)
hole = os.lseek(fd, data, os.SEEK_HOLE)
if hole != data + 4096:
    sys.exit("SEEK_HOLE finds %d" % hole)
m[2504097] = 9  # into that hole
m[3500000] = 8
subprocess.check_call(["cp", "--sparse=auto", name, sys.argv[2]])
with open(sys.argv[2], "rb") as copy:
    if copy.read() != m[:]:
        sys.exit("the copy is another")
END_OF_PROGRAM
)
for options in dax=never dax=always dax=never,threads=1; do
  make_pool 64M
  mount_pool -o "$options"
  timeout 60 python3 -c "$stores" "$mnt/file" "$work/copy" || fail "$options: status $?"
  unmount_pool
  check_pool
  say "$options: stores to holes are found"
done
[[ -z ${UDAX_PEER:-} ]] || exit 0
has_knobs || { say "built without knobs: no control"; exit 0; }
make_pool 64M
UDAX_KNOBS=fuse.seek_trusts_extents mount_pool
if timeout 60 python3 -c "$stores" "$mnt/file" "$work/copy" 2>"$work/said"; then fail "control: nothing is left out"; fi
say "control: $(cat "$work/said")"
