# SPDX-License-Identifier: BSD-3-Clause
#
# What the scripts of this folder share; a script sources it right after `set -euo pipefail`.
#
# - Root runs in mount and PID namespaces of its own, and works on a tmpfs that only these see: whatever ends the
#   script, even SIGKILL, its daemon, its mounts and its pool are gone with the namespaces. Other users get a folder that is
#   removed at exit.
# - exit 77 is "skipped", after a line that says why.
# - UDAX_BIN          the folder of the programs
#   UDAX_MOUNT_OPTIONS  more mount options for every mount ("dax=always")
#   UDAX_POOL_PLACE   where pools are made instead of in memory: a folder (of a DAX filesystem), or a devdax device, on which
#                     they have the device's size. The guest's tests set it
#   UDAX_SEED         where scripts draw random numbers: the seed to take instead of a new one
#   UDAX_PEER=DIR     a control run: "mounts" are a folder of DIR, on another filesystem, and there are no daemon and
#                     no pool. What fails there is wrong in the script.
#
# Defines: work (scratch folder), pool, mnt, daemon (its pid, or empty); msync_seek: not empty where stores through mappings must be
# synced for SEEK_DATA to find them (Linux before 6.16 sends pages back after the daemon has taken them back).

# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # for the scripts
top=$(cd "$here/../.." && pwd)
script=$(basename "$0" .sh)

say() { printf '== %s: %s\n' "$script" "$*"; }
skip() {
  printf 'SKIPPED %s: %s\n' "$script" "$*"
  exit 77
}
fail() {
  printf 'FAILED %s: %s\n' "$script" "$*" >&2
  exit 1
}
has_knobs() { grep -qs UDAX_SYNC_POINTS:BOOL=ON "$UDAX_BIN/../CMakeCache.txt"; }  # for controls
need() {  # need PROGRAM...: or the test is skipped
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || skip "$program is not installed"
  done
}

PATH=$PATH:/usr/sbin:/sbin
if [[ $(id -u) -eq 0 && -z ${UDAX_PRIVATE:-} ]]; then
  unshare --mount --pid --fork true 2>/dev/null || skip "root may not make namespaces here (a container without CAP_SYS_ADMIN?)"
  UDAX_PRIVATE=1 exec unshare --mount --propagation slave --pid --fork --kill-child --mount-proc "$BASH" "$0" "$@"
fi
unset UDAX_PRIVATE

if [[ -z ${UDAX_PEER:-} ]]; then
  : "${UDAX_BIN:?is the folder of the programs}"
  for program in mkfs.udaxfs udaxfs; do
    [[ -x $UDAX_BIN/$program ]] || skip "$UDAX_BIN/$program is not built"
  done
  [[ -e /dev/fuse ]] || skip "there is no /dev/fuse"
  { : <>/dev/fuse; } 2>/dev/null || skip "this user may not open /dev/fuse"
fi

if [[ $(id -u) -eq 0 ]]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/udax-$script.XXXXXX")
  mount -t tmpfs -o mode=0755 udax-test "$work"
  if [[ -n ${UDAX_BIN:-} ]]; then
    # The programs may lie where only root gets to (/root); scripts run them as other users, too. With the folder above them: it has
    # the libraries, and CMakeCache.txt says what was built.
    mkdir "$work/build"
    mount --bind "$UDAX_BIN/.." "$work/build"
    UDAX_BIN=$work/build/$(basename "$UDAX_BIN")
  fi
else
  scratch=/dev/shm
  [[ -w $scratch ]] || scratch=${TMPDIR:-/tmp}
  work=$(mktemp -d "$scratch/udax-$script.XXXXXX")
fi
pool=$work/pool
if [[ -d ${UDAX_POOL_PLACE:-} ]]; then
  pool=$(mktemp -d "$UDAX_POOL_PLACE/udax-$script.XXXXXX")/pool
elif [[ -n ${UDAX_POOL_PLACE:-} ]]; then
  [[ -c $UDAX_POOL_PLACE ]] || fail "UDAX_POOL_PLACE=$UDAX_POOL_PLACE is neither a folder nor a devdax device"
  pool=$UDAX_POOL_PLACE
fi
mnt=$work/mnt
daemon=
peer=
msync_seek=
# shellcheck disable=SC2034  # for the scripts
[[ $(printf '%s\n' 6.16 "$(uname -r)" | sort -V | head -n 1) == 6.16 ]] || msync_seek=yes
mkdir "$mnt"

is_mounted() { awk -v m="$mnt" '$5 == m {found = 1} END {exit !found}' /proc/self/mountinfo; }

# Ends what is still there: lazily, since something may be stuck.
tidy_up() {
  local status=$?
  trap - EXIT INT TERM
  set +e
  if [[ $status -ne 0 && $status -ne 77 && -s $work/daemon.log ]]; then
    printf -- '-- the daemon said:\n' >&2
    tail -n 60 "$work/daemon.log" >&2
  fi
  local job
  for job in $(jobs -p); do
    [[ $job == "$daemon" ]] || kill -9 "$job" 2>/dev/null
  done
  [[ -z $daemon ]] || kill -9 "$daemon" 2>/dev/null
  if is_mounted; then umount_now -l; fi
  wait 2>/dev/null
  [[ -z $peer ]] || rm -rf --one-file-system "$peer"
  [[ ! -d ${UDAX_POOL_PLACE:-} ]] || rm -rf --one-file-system "${pool%/pool}"
  if [[ $(id -u) -eq 0 ]]; then
    umount -l "$work" && rmdir "$work"
  else
    rm -rf --one-file-system "$work"
  fi
  [[ $status -ne 0 ]] || printf 'PASSED %s in %s s\n' "$script" "$SECONDS"
  exit "$status"
}
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
set -E

umount_now() {  # umount_now [-l]
  if [[ $(id -u) -eq 0 ]]; then
    umount "$@" "$mnt"
  else
    fusermount3 -u ${1:+-z} "$mnt"
  fi
}

make_pool() {  # make_pool SIZE [MKFS-OPTIONS...]
  [[ -z ${UDAX_PEER:-} ]] || return 0
  if [[ -c $pool ]]; then
    "$UDAX_BIN/mkfs.udaxfs" -q -f "${@:2}" "$pool"
    return
  fi
  rm -f "$pool"
  "$UDAX_BIN/mkfs.udaxfs" -q -s "$1" "${@:2}" "$pool"
}

mount_pool() {  # mount_pool [DAEMON-OPTIONS...]
  if [[ -n ${UDAX_PEER:-} ]]; then
    peer=${peer:-$(mktemp -d "$UDAX_PEER/udax-$script.XXXXXX")}
    mount --bind "$peer" "$mnt"
    return
  fi
  local options=()
  [[ -z ${UDAX_MOUNT_OPTIONS:-} ]] || options=(-o "$UDAX_MOUNT_OPTIONS")
  "$UDAX_BIN/udaxfs" -f "${options[@]}" "$@" "$pool" "$mnt" >>"$work/daemon.log" 2>&1 &
  daemon=$!
  local _
  for _ in {1..1200}; do
    if is_mounted; then return 0; fi
    if ! kill -0 "$daemon" 2>/dev/null; then
      wait "$daemon" || true
      daemon=
      fail "the daemon ended instead of mounting"
    fi
    sleep 0.05
  done
  fail "not mounted after 60 s"
}

unmount_pool() {  # the daemon must end by itself, with status 0
  local _ status=0
  for _ in {1..50}; do  # somebody may be closing a file still
    if umount_now 2>"$work/umount.log"; then break; fi
    sleep 0.1
  done
  if is_mounted; then fail "cannot unmount: $(cat "$work/umount.log")"; fi
  [[ -n $daemon ]] || return 0
  for _ in {1..1200}; do
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.05
  done
  if kill -0 "$daemon" 2>/dev/null; then fail "the daemon still runs 60 s after the unmount"; fi
  wait "$daemon" || status=$?
  daemon=
  [[ $status -eq 0 ]] || fail "the daemon ended with status $status"
}

remount_pool() {
  unmount_pool
  mount_pool "$@"
}

kill_daemon() {  # as a crash would; the mount is gone afterwards
  kill -9 "$daemon"
  wait "$daemon" 2>/dev/null || true
  daemon=
  umount_now -l
}

check_pool() {  # REQUIRES: not mounted
  [[ -z ${UDAX_PEER:-} ]] || return 0
  if [[ ! -x $UDAX_BIN/fsck.udaxfs ]]; then
    say "not checked: $UDAX_BIN/fsck.udaxfs is not built"
    return 0
  fi
  "$UDAX_BIN/fsck.udaxfs" -n "$pool" >"$work/fsck.log" 2>&1 || {
    local status=$?
    cat "$work/fsck.log" >&2
    fail "fsck.udaxfs -n: status $status"
  }
  if grep -qi 'corrupt' "$work/daemon.log" 2>/dev/null; then
    fail "the daemon speaks of corruption: $(grep -im3 'corrupt' "$work/daemon.log")"
  fi
}

new_seed() { echo "${UDAX_SEED:-$((RANDOM << 15 | RANDOM))}"; }
