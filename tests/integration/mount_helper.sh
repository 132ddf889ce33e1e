#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# mount(8) and fstab(5): as the helper mount.fuse.udaxfs, and by way of mount.fuse3's mount.fuse.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need findmnt mount
[[ $(id -u) -eq 0 ]] || skip "mount(8) needs root"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about the daemon"

wait_no_daemon() {
  local _
  for _ in {1..200}; do
    pgrep -x 'udaxfs|mount.fuse.udax' >/dev/null || return 0  # by the name it was called by, cut to 15 bytes
    sleep 0.05
  done
  fail "a daemon still runs after 10 s"
}
make_pool 64M

# In this mount namespace only: /usr/sbin with more programs.
sbin=$(readlink -f /sbin)
mkdir "$work/upper" "$work/scratch"
overlaid=
if mount -t overlay -o "lowerdir=$sbin,upperdir=$work/upper,workdir=$work/scratch" overlay "$sbin" 2>/dev/null; then
  overlaid=1
  rm -f "$sbin/mount.fuse.udaxfs"
  ln -s "$UDAX_BIN/udaxfs" "$sbin/udaxfs"
fi

ran=
say "by way of mount.fuse"
if [[ -x $sbin/mount.fuse && -n $overlaid ]]; then
  mount -t fuse.udaxfs -o noexec,x-test "$pool" "$mnt"
  [[ $(findmnt -no FSTYPE "$mnt") == fuse.udaxfs ]] || fail "type: $(findmnt -no FSTYPE "$mnt")"
  [[ $(findmnt -no OPTIONS "$mnt") == *noexec* ]] || fail "options: $(findmnt -no OPTIONS "$mnt")"
  echo text >"$mnt/file"
  umount "$mnt"
  wait_no_daemon
  ran=1
else
  say "not run: /sbin/mount.fuse is not installed, or there is no overlayfs to make it find udaxfs"
fi

say "as the helper mount.fuse.udaxfs"
[[ -z $overlaid ]] || ln -s "$UDAX_BIN/udaxfs" "$sbin/mount.fuse.udaxfs"
if [[ -e /sbin/mount.fuse.udaxfs ]]; then
  printf '%s %s fuse.udaxfs noauto,user,nodev,dax=always,x-systemd.automount,_netdev 0 0\n' "$pool" "$mnt" \
    >"$work/fstab"
  mount --fstab "$work/fstab" "$mnt"
  [[ $(findmnt -no FSTYPE "$mnt") == fuse.udaxfs ]] || fail "type: $(findmnt -no FSTYPE "$mnt")"
  [[ $(findmnt -no OPTIONS "$mnt") == *nodev* ]] || fail "options: $(findmnt -no OPTIONS "$mnt")"
  echo more >>"$mnt/file"
  umount "$mnt"
  wait_no_daemon
  say "fake, sloppy, wrong"
  mount -f -t fuse.udaxfs "$pool" "$mnt"
  if is_mounted; then fail "mounted although faked"; fi
  mount -s -t fuse.udaxfs -o strange "$pool" "$mnt"
  umount "$mnt"
  wait_no_daemon
  status=0
  mount -t fuse.udaxfs -o strange "$pool" "$mnt" 2>"$work/error" || status=$?
  [[ $status -eq 1 ]] || fail "status $status for an unknown option"
  grep -q "unknown option 'strange'" "$work/error" || fail "message: $(cat "$work/error")"
  ran=1
else
  say "not run: no helper can be put into /sbin (no overlayfs)"
fi
[[ -n $ran ]] || skip "neither way to be called by mount(8) is there"
check_pool
