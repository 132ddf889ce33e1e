#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# An ordinary user mounts a pool of his own, by way of fusermount3. Root runs this as `nobody`, in namespaces where
# /dev/fuse has the mode that distributions give it (0666), if this machine's is narrower.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need fusermount3 setpriv findmnt
[[ -e /etc/mtab ]] || skip "there is no /etc/mtab, which fusermount3 reads (ln -s /proc/self/mounts /etc/mtab)"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about the daemon"
helper=$(command -v fusermount3)
[[ -u $helper ]] || skip "$helper is not setuid root"

home=$work/home
pool=$home/pool
mnt=$home/mnt
mkdir "$home" "$mnt"
if [[ $(id -u) -eq 0 ]]; then
  user=$(id -u nobody 2>/dev/null) || skip "there is no user nobody"
  as_user() {
    setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all env HOME="$home" "$@"
  }
  if ! as_user test -w /dev/fuse; then
    # In this mount namespace only: a device that everybody may open, as udev makes it.
    mknod "$work/fuse" c 10 229 && chmod 666 "$work/fuse" && mount --bind "$work/fuse" /dev/fuse ||
      skip "ordinary users may not open /dev/fuse, and no other can be put in its place"
  fi
  chmod 755 "$work"
  chown -R "$user:$user" "$home"
else
  user=$(id -u)
  as_user() { env HOME="$home" "$@"; }
fi
as_user bash -c ': <>/dev/fuse' 2>"$work/open.log" || skip "users cannot open /dev/fuse: $(cat "$work/open.log")"
as_user test -x "$UDAX_BIN/udaxfs" || skip "$UDAX_BIN is not open to users"

wait_no_daemon() {
  local _
  for _ in {1..600}; do
    pgrep -u "$user" -x udaxfs >/dev/null || return 0
    sleep 0.05
  done
  fail "a daemon still runs after 30 s"
}

as_user "$UDAX_BIN/mkfs.udaxfs" -q -s 64M "$pool"
as_user "$UDAX_BIN/udaxfs" -f "$pool" "$mnt" >>"$work/daemon.log" 2>&1 &
daemon=$!
for _ in {1..200}; do
  if is_mounted || ! kill -0 "$daemon" 2>/dev/null; then break; fi
  sleep 0.05
done
is_mounted || fail "not mounted"
[[ $(findmnt -no FSTYPE "$mnt") == fuse.udaxfs ]] || fail "type: $(findmnt -no FSTYPE "$mnt")"
flags=$(findmnt -no OPTIONS "$mnt")
[[ $flags == *nosuid* && $flags == *nodev* ]] || fail "a user's mount must be nosuid,nodev: $flags"
say "user $user mounted it, as $flags"

as_user bash -eu -c '
  cd "$1"
  echo hello >file
  mkdir folder
  ln file folder/other
  mv file renamed
  ln -s renamed link
  [[ $(cat link) == hello && $(stat -c %h renamed) == 2 && $(stat -c %u .) == "$2" ]]
  chmod 4755 renamed
  ! chown 0 renamed 2>/dev/null
  dd if=/dev/urandom of=data bs=1M count=8 conv=fsync status=none
  cmp data data
' _ "$mnt" "$user"
say "names, links, modes and data work; chown to root is refused"
if [[ $(id -u) -eq 0 ]]; then
  if ls "$mnt" 2>/dev/null; then fail "another user, root, may look into it without allow_other"; fi
  if setpriv --reuid=1 --regid=1 --clear-groups ls "$mnt" 2>/dev/null; then
    fail "another user was let in without allow_other"
  fi
  say "others are kept out"
fi

as_user fusermount3 -u "$mnt"
for _ in {1..600}; do
  kill -0 "$daemon" 2>/dev/null || break
  sleep 0.05
done
status=0
wait "$daemon" || status=$?
daemon=
[[ $status -eq 0 ]] || fail "the daemon ended with status $status"

# In the background, as users start it.
as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt"
is_mounted || fail "the daemon went to the background without a mount"
[[ $(as_user cat "$mnt/link") == hello ]] || fail "the file is not there after a re-mount"
if as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt" >"$work/second.log" 2>&1; then fail "a pool was mounted twice"; fi
say "mounted again, in the background; a second mount of the pool is refused: $(tail -n 1 "$work/second.log")"

as_user fusermount3 -u "$mnt"
as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt" || fail "a mount right after an unmount does not wait for the old daemon"
[[ $(as_user cat "$mnt/link") == hello ]] || fail "content"
pkill -TERM -u "$user" -x udaxfs
wait_no_daemon
if is_mounted; then fail "still mounted after SIGTERM"; fi
check_pool
say "mounted again at once; SIGTERM unmounted it"

chmod 0000 "$pool"
if as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt" 2>"$work/error"; then fail "mounted an unreadable pool"; fi
grep -qi 'permission denied\|may not be' "$work/error" || fail "message: $(cat "$work/error")"
chmod 0600 "$pool"
if [[ $(id -u) -eq 0 && -e $work/fuse ]]; then
  chmod 0600 "$work/fuse"
  if as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt" 2>"$work/error"; then fail "mounted without /dev/fuse"; fi
  grep -q '^udaxfs: /dev/fuse: permission denied; ' "$work/error" || fail "message: $(cat "$work/error")"
fi
say "a pool, or a /dev/fuse, that may not be opened is refused by name"
