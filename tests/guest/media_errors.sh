#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# In a guest: errors of real kinds. A poisoned page under a live mount; a list of bad blocks, met by a mount. EIO on the file that is
# hit, and on no other; the daemon lives; udaxctl list and stat tell; it is the same after a re-mount.
#
#   media_errors.sh KIND    prints "RESULT KIND root media_errors OUTCOME SECONDS [REASON]"
set -euo pipefail
: "${UDAX_BIN:?is the folder of the programs}" "${UDAX_GUEST_POOLS:?is set by run.sh}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kind=$1
ctl=$UDAX_BIN/udaxctl
pool=$UDAX_GUEST_POOLS
size=()
[[ ! -d $pool ]] || pool=$pool/pool size=(-s 256M)
work=$(mktemp -d -p /dev/shm)
mnt=$work/mnt
mkdir "$mnt"
python=/usr/bin/python3

tidy_up() {
  local status=$?
  trap - EXIT
  umount "$mnt" 2>/dev/null || true
  [[ $status -eq 0 ]] || dmesg | tail -n 20
  if [[ $status -eq 0 ]]; then
    echo "RESULT $kind root media_errors PASSED $SECONDS"
  else
    echo "RESULT $kind root media_errors FAILED $SECONDS status $status"
  fi
  exit "$status"
}
trap tidy_up EXIT
fail() {
  echo "FAILED media_errors: $*"
  exit 1
}
mount_pool() {
  "$UDAX_BIN/udaxfs" -o dax=always "$pool" "$mnt" 2>"$work/daemon.log" || fail "no mount: $(cat "$work/daemon.log")"
}
# The file "hit" fails at $hit_at and nowhere else; "sound" is as it was.
check_files() {
  if dd if="$mnt/hit" of=/dev/null bs=4096 skip=$((hit_at / 4096)) count=1 2>"$work/err"; then
    fail "$1: a lost block is served"
  fi
  grep -q 'Input/output error' "$work/err" || fail "$1: another error than EIO: $(cat "$work/err")"
  cmp "$mnt/sound" "$work/sound" || fail "$1: what is not lost is not served"
  cmp -n "$hit_at" "$mnt/hit" "$work/hit" || fail "$1: what comes before the loss is not served"
  pgrep -x udaxfs >/dev/null || fail "$1: the daemon died"
  echo "$1: EIO where it must be, and nowhere else"
}
lost_pages() { "$ctl" stat --json "$mnt" | sed -n 's/.*"lost_pages": *\([0-9]*\).*/\1/p'; }
make_files() {
  mount_pool
  head -c 4M /dev/urandom >"$work/sound"
  head -c 6M /dev/urandom >"$work/hit"
  cp "$work/sound" "$mnt/sound"
  cp "$work/hit" "$mnt/hit"
  sync -f "$mnt"
  "$ctl" extents --json "$mnt/hit" >"$work/extents"
  read -r hit_at pool_at < <($python "$here/inject.py" aligned "$work/extents")
}

"$UDAX_BIN/mkfs.udaxfs" -q "${size[@]}" "$pool"
make_files

# 1. Bad blocks, by the kernel's own lists.
umount "$mnt"
"$UDAX_BIN/fsck.udaxfs" -n "$pool" >/dev/null
if [[ -c $pool ]]; then
  # A machine check that names the address, as the memory controller would raise it.
  modprobe=$(cat /proc/sys/kernel/modprobe)
  "$modprobe" mce-inject
  mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
  cd /sys/kernel/debug/mce-inject
  echo sw >flags
  echo 0xbd000000000000c0 >status
  echo 0x8c >misc
  echo 0 >cpu
  printf '0x%x\n' $(($(cat /sys/bus/nd/devices/dax0.*/resource 2>/dev/null | head -n 1) + pool_at)) >addr
  echo 1 >bank
  cd /
  sleep 1
else
  device=$(df --output=source "$UDAX_GUEST_POOLS" | tail -n 1)
  sector=$(($($python "$here/inject.py" physical "$pool" "$pool_at") / 512))
  echo "$sector 8" >"/sys/block/${device#/dev/}/badblocks"
fi
ndctl list -NM
"$ctl" list
"$ctl" list --json | grep -q '"bad_bytes": [1-9]' || fail "list does not tell of bad blocks"
mount_pool
check_files "bad blocks"
[[ $(lost_pages) -ge 1 ]] || fail "stat tells of no loss: $("$ctl" stat --json "$mnt")"
umount "$mnt"
mount_pool
check_files "bad blocks, after a re-mount"

# 2. A page is poisoned under the mount.
umount "$mnt"
"$UDAX_BIN/mkfs.udaxfs" -q -f "${size[@]}" "$pool"
make_files
before=$(lost_pages)
$python "$here/inject.py" poison "$pool" "$pool_at"
check_files "a poisoned page"
[[ $(lost_pages) -gt $before ]] || fail "stat tells of no loss"
"$ctl" list | tail -n 2
rm "$mnt/hit"
cp "$work/sound" "$mnt/again"
cmp "$work/sound" "$mnt/again" || fail "the daemon stores on lost pages"
umount "$mnt"
mount_pool
cmp "$work/sound" "$mnt/sound" || fail "what was not lost is gone after a re-mount"
cmp "$work/sound" "$mnt/again" || fail "what was stored after the loss is gone after a re-mount"
umount "$mnt"
