#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# kill -9 of the daemon while a thread of it waits in the kernel, beyond signals, for a write-back that only the daemon could
# answer: a flip of the DAX flag has told the kernel to drop the pages of a file that is mapped and dirty. The guard ends the
# connection: the daemon goes, the pool can be mounted again. Without the guard, the control, it stays.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "a peer has no daemon to kill"
[[ $(id -u) -eq 0 ]] || skip "needs root, for fusectl"
need python3 chattr
grep -qaF fuse.write_back_hangs "$UDAX_BIN/udaxfs" || skip "this daemon was built without knobs (UDAX_SYNC_POINTS)"

# With the daemon killed in such a moment: true if all of it goes within 5 s.
ends_when_killed() {  # ends_when_killed FILE KNOBS
  local file=$mnt/$1 knobs=$2 i
  UDAX_KNOBS=$knobs mount_pool -o dax=inode
  # FUSE mounts have a small share of the dirty pages, beyond which the kernel writes back at once, before the flip: not here.
  { echo 0 >"/sys/class/bdi/$(mountpoint -d "$mnt")/strict_limit"; } 2>/dev/null || true
  python3 - "$file" <<'END' &
import mmap, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 4096)
view = mmap.mmap(file, 4096)
view[0:5] = b"dirty"
open(sys.argv[1] + ".mapped", "w").close()
time.sleep(60)
END
  writer=$!
  for ((i = 0; i < 600; i++)); do
    [[ ! -e $file.mapped ]] || break
    sleep 0.05
  done
  [[ -e $file.mapped ]] || fail "the writer has not begun after 30 s"
  chattr +x "$file" &
  flipper=$!
  # Until the thread is where no signal reaches it.
  for ((i = 0; i < 600; i++)); do
    if grep -qs '^State:.D' /proc/"$daemon"/task/*/status; then break; fi
    sleep 0.05
  done
  if ! grep -qs '^State:.D' /proc/"$daemon"/task/*/status; then
    grep -sE '^(Name|State)' /proc/{"$writer","$flipper","$daemon"/task/*}/status || true
    cat /proc/{"$flipper","$daemon"/task/*}/stack 2>/dev/null || true
    fail "no thread of the daemon waits in the kernel"
  fi
  kill -9 "$daemon"
  for ((i = 0; i < 100; i++)); do
    if ! grep -qs '^State:.D' /proc/"$daemon"/task/*/status; then return 0; fi
    sleep 0.05
  done
  return 1
}
let_go() {
  kill -9 "$writer" "$flipper" 2>/dev/null || true
  wait "$writer" "$flipper" "$daemon" 2>/dev/null || true
  umount -l "$mnt"
}

make_pool 32M
ends_when_killed file fuse.write_back_hangs || fail "the daemon is stuck, and so is the pool"
let_go
mount_pool
[[ -e $mnt/file ]] || fail "the file is gone"
unmount_pool
check_pool
say "killed in the middle of a recall: gone, and mounted again"

if ends_when_killed other fuse.write_back_hangs,daemon.no_guard; then fail "control: it went without the guard"; fi
# As the guard does it.
mkdir "$work/fusectl"
mount -t fusectl none "$work/fusectl"
echo 1 >"$work/fusectl/$(awk -v m="$mnt" '$5 == m { split($3, n, ":"); print n[2] }' /proc/self/mountinfo)/abort"
umount "$work/fusectl"
let_go
say "control: without the guard it stays, until the connection is ended"
mount_pool
unmount_pool
check_pool
