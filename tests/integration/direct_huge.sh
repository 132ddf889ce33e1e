#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Where the pool can be mapped by 2 MiB, a direct mapping of a large file is: by one entry of the page table each, with the kernel's account
# of stores and without. The control: a pool that the kernel keeps in small pages.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3
size=$((64 << 20))

# A device maps 2 MiB, or nothing: what is less of a file is the kernel's.
if [[ -c $pool ]]; then
  start_direct 64M direct=owner
  shown=$(under python3 -c '
import mmap, os, sys
size, tail = int(sys.argv[2]), 65536
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, size + tail)
m = mmap.mmap(fd, size + tail)
for at in range(0, size + tail, 4096): m[at] = at >> 12 & 255
for at in range(0, size + tail, 4096): assert m[at] == at >> 12 & 255
read = os.pread(fd, size + tail, 0)
for at in range(0, size + tail, 4096): assert read[at] == at >> 12 & 255
total, inode = 0, os.stat(sys.argv[3]).st_ino
for line in open("/proc/self/maps"):
    part = line.split()
    if int(part[4]) == inode and part[5:] == [sys.argv[3]]: total += int(part[0].split("-")[1], 16) - int(part[0].split("-")[0], 16)
os.fsync(fd)
print(total)' "$mnt/file" $size "$pool") || fail "a file of 64 MiB and 64 KiB: $shown"
  [[ $shown -ge $size ]] || fail "of 64 MiB $shown bytes are the device's own"
  sum=$(md5sum <"$mnt/file")
  remount_pool
  [[ $(md5sum <"$mnt/file") == "$sum" ]] || fail "the file differs after a re-mount"
  say "$shown bytes of 64 MiB and 64 KiB are the device's own; $(direct_counter handovers) mappings became the kernel's"
  unmount_pool
  check_pool
  exit 0
fi

huge_bytes() {  # huge_bytes FILE: of its mapping, after each page was stored to
  under python3 -c '
import mmap, os, sys
size = int(sys.argv[2])
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, size)
m = mmap.mmap(fd, size)
for at in range(0, size, 4096): m[at] = 1
words = [line.split() for line in open("/proc/self/smaps") if line.startswith("ShmemPmdMapped:")]
print(sum(int(word[1]) for word in words) << 10)' "$1" $size
}
mount_with() {  # mount_with HUGE: a pool in a tmpfs of its own
  mkdir -p "$work/memory"
  mount -t tmpfs -o "huge=$1,size=600m" memory "$work/memory" 2>/dev/null || skip "this kernel's tmpfs has no huge pages"
  local pool=$work/memory/pool
  start_direct 512M direct=owner
}

mount_with always
found=$(huge_bytes "$mnt/tracked")
[[ $found -eq $size ]] || fail "of 64 MiB $found bytes are mapped by 2 MiB"
if has_knobs; then
  found=$(UDAX_KNOBS=client.no_tracking huge_bytes "$mnt/untracked")
  [[ $found -eq $size ]] || fail "without tracking: of 64 MiB $found bytes are mapped by 2 MiB"
fi
say "64 MiB are mapped by 2 MiB"
unmount_pool
umount "$work/memory"

mount_with never
[[ $(huge_bytes "$mnt/small") -eq 0 ]] || fail "control: a pool of small pages is mapped by 2 MiB"
unmount_pool
umount "$work/memory"
