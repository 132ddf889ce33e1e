#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# An ordinary user mounts a pool of his own, by way of fusermount3.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need fusermount3 setpriv findmnt
[[ -z ${UDAX_PEER:-} ]] || skip "it is about the daemon"
[[ -u $(command -v fusermount3) ]] || skip "fusermount3 is not setuid root"

if [[ $(id -u) -eq 0 ]]; then
  as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"; }
  if ! as_user test -w /dev/fuse; then
    # In this mount namespace only: a device that everybody may open, as udev makes it.
    mknod "$work/fuse" c 10 229 && chmod 0666 "$work/fuse" && mount --bind "$work/fuse" /dev/fuse ||
      skip "ordinary users may not open /dev/fuse, and no other can be put in its place"
    as_user test -w /dev/fuse || skip "ordinary users may not open /dev/fuse"
  fi
  as_user test -x "$UDAX_BIN/udaxfs" || skip "ordinary users cannot reach $UDAX_BIN"
  chown 65534:65534 "$work" "$mnt"
else
  as_user() { "$@"; }
fi

as_user "$UDAX_BIN/mkfs.udaxfs" -q -s 64M "$pool"
say "mount and use"
as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt"
[[ $(findmnt -no FSTYPE "$mnt") == fuse.udaxfs ]] || fail "type: $(findmnt -no FSTYPE "$mnt")"
[[ $(findmnt -no OPTIONS "$mnt") == *nosuid*nodev* ]] || fail "options: $(findmnt -no OPTIONS "$mnt")"
as_user sh -c "echo text >'$mnt/file' && test \"\$(cat '$mnt/file')\" = text"
if [[ $(id -u) -eq 0 ]] && setpriv --reuid=1 --regid=1 --clear-groups ls "$mnt" >/dev/null 2>&1; then
  fail "another user was let in without allow_other"
fi
as_user fusermount3 -u "$mnt"

say "mount again at once; SIGTERM unmounts"
as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt"
[[ $(as_user cat "$mnt/file") == text ]] || fail "content"
pkill -TERM -x udaxfs
for _ in {1..200}; do
  pgrep -x udaxfs >/dev/null || break
  sleep 0.05
done
if is_mounted; then fail "still mounted after SIGTERM"; fi
check_pool

say "what an ordinary user may not"
chmod 0000 "$pool"
if as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt" 2>"$work/error"; then fail "mounted an unreadable pool"; fi
grep -qi 'permission denied\|may not be' "$work/error" || fail "message: $(cat "$work/error")"
chmod 0600 "$pool"
if [[ $(id -u) -eq 0 ]]; then
  chmod 0600 "$work/fuse" 2>/dev/null || true
  if ! as_user test -w /dev/fuse; then
    if as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt" 2>"$work/error"; then fail "mounted without /dev/fuse"; fi
    grep -q '^udaxfs: /dev/fuse: permission denied; ' "$work/error" || fail "message: $(cat "$work/error")"
  fi
fi
