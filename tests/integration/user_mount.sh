#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# An ordinary user mounts a pool of his own through fusermount3. Root runs this as `nobody`, in namespaces where
# /dev/fuse has the mode that distributions give it (0666), if this machine's is narrower.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "a peer has no user mounts"
need fusermount3 setpriv
helper=$(command -v fusermount3)
[[ -u $helper ]] || skip "$helper is not setuid root"

if [[ $(id -u) -eq 0 ]]; then
  user=$(id -u nobody 2>/dev/null) || skip "there is no user nobody"
  if [[ $(stat -c %a /dev/fuse) != 666 ]]; then
    mknod "$work/fuse" c 10 229 && chmod 666 "$work/fuse" || skip "/dev/fuse is not open to users"
    mount --bind "$work/fuse" /dev/fuse
  fi
  chmod 755 "$work"
  as_user() { setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="$home" "$@"; }
else
  user=$(id -u)
  as_user() { env HOME="$home" "$@"; }
fi
home=$work/home
mkdir "$home" "$home/mnt"
pool=$home/pool
mnt=$home/mnt
if [[ $(id -u) -eq 0 ]]; then chown -R "$user:$user" "$home"; fi
as_user bash -c ': <>/dev/fuse' 2>"$work/open.log" || skip "users cannot open /dev/fuse: $(cat "$work/open.log")"
as_user test -x "$UDAX_BIN/udaxfs" || skip "$UDAX_BIN is not open to users"

as_user "$UDAX_BIN/mkfs.udaxfs" -q -s 64M "$pool"
as_user "$UDAX_BIN/udaxfs" -f "$pool" "$mnt" >>"$work/daemon.log" 2>&1 &
daemon=$!
for _ in {1..200}; do
  if is_mounted || ! kill -0 "$daemon" 2>/dev/null; then break; fi
  sleep 0.05
done
is_mounted || fail "not mounted"
options=$(awk -v m="$mnt" '$5 == m {print $6}' /proc/self/mountinfo)
[[ $options == *nosuid* && $options == *nodev* ]] || fail "a user's mount must be nosuid,nodev: $options"
say "user $user mounted it, as $options"

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
for _ in {1..200}; do  # the daemon lets go of the pool when it has closed it
  if as_user "$UDAX_BIN/udaxfs" "$pool" "$mnt" >"$work/third.log" 2>&1; then break; fi
  sleep 0.05
done
is_mounted || fail "not mounted a third time: $(cat "$work/third.log")"
as_user fusermount3 -u "$mnt"
