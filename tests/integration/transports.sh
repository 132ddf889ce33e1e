#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The ways that requests come: by /dev/fuse and by io_uring. The same work is done on both, and the choice between them, the
# fallback and the errors are as the manual says. The kernel's switch for FUSE over io_uring is put back as it was.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
switch=/sys/module/fuse/parameters/enable_uring
[[ $(id -u) -eq 0 ]] || skip "only root may switch FUSE over io_uring on"
[[ -w $switch ]] || skip "this kernel has no FUSE over io_uring, or its switch cannot be written here"
need xfs_io chattr

before=$(cat "$switch")
put_back() { echo "$before" >"$switch"; }
trap 'put_back; tidy_up' EXIT

said() { grep -q "$1" "$work/daemon.log" || fail "the log does not say '$1'"; }

work_on_it() {
  mkdir "$mnt/tree"
  local i
  for i in {1..300}; do echo "$i" >"$mnt/tree/file-$i"; done
  [[ $(cat "$mnt"/tree/file-* | sort -n | md5sum) == $(seq 300 | md5sum) ]] || fail "files do not hold what was written"
  dd if=/dev/urandom of="$work/random" bs=1M count=12 status=none
  cp "$work/random" "$mnt/large"
  cmp "$work/random" "$mnt/large"
  chattr +x "$mnt/large"
  cmp "$work/random" "$mnt/large"
  xfs_io -c 'mmap -rw 0 1m' -c 'mwrite -S 0x5a 100 5000' -c 'msync -s' -c 'pwrite -q -S 0x61 3000 10' \
    -c 'fsync' "$mnt/large" >/dev/null
  [[ $(dd if="$mnt/large" bs=1 skip=2999 count=12 status=none) == ZaaaaaaaaaaZ ]] || fail "mapping and write disagree"
  local jobs_=()
  for i in 1 2 3 4; do
    (for _ in {1..150}; do
      echo x >"$mnt/tree/own-$i" && mv "$mnt/tree/own-$i" "$mnt/tree/moved-$i" && rm "$mnt/tree/moved-$i"
    done) &
    jobs_+=($!)
  done
  wait "${jobs_[@]}"
  truncate -s 1000 "$mnt/large"
  rm -r "$mnt/tree"
}

make_pool 128M

echo Y >"$switch"
say "by io_uring"
mount_pool -o transport=uring
said 'requests come by io_uring'
work_on_it
"$UDAX_BIN/udaxctl" stat "$mnt" >/dev/null
# Somebody has a file open and more to say when the daemon is told to go.
exec 8>"$mnt/held"
echo kept >&8
kill -TERM "$daemon"
for _ in {1..200}; do kill -0 "$daemon" 2>/dev/null || break; sleep 0.1; done
if kill -0 "$daemon" 2>/dev/null; then fail "the daemon does not end"; fi
exec 8>&-
wait "$daemon" || fail "the daemon ended with status $?"
daemon=

say "killed with requests under way"
mount_pool -o transport=auto
[[ $(cat "$mnt/held") == kept ]] || fail "what was written before the unmount is not there"
(while :; do echo x >"$mnt/a" && rm "$mnt/a"; done) 2>/dev/null &
writer=$!
sleep 0.5
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
daemon=
kill "$writer" 2>/dev/null || true
wait "$writer" 2>/dev/null || true
umount_now
mount_pool -o transport=auto
unmount_pool
"$UDAX_BIN/fsck.udaxfs" -n "$pool" >/dev/null

if [[ -x $UDAX_BIN/lost_update ]] && has_knobs; then
  # What the daemon asks for comes by the ring as a request that has no reply; its entry must come back all the same, also where such
  # requests take long. The control: it does not, and when all are gone, nobody is served.
  ask_for_pages() { timeout -k 10 30 "$UDAX_BIN/lost_update" "$mnt/asked" 1 20 pages=3 beside mixed >"$work/asked.log" 2>&1; }
  UDAX_KNOBS=fuse.notify_reply_late mount_pool -o transport=uring
  ask_for_pages || fail "pages that are asked for: status $?: $(cat "$work/asked.log")"
  unmount_pool
  UDAX_KNOBS=fuse.notify_reply_late,fuse.ring.forget_entries mount_pool -o transport=uring
  if ask_for_pages; then fail "control: entries do not get lost"; fi
  kill -9 "$daemon"
  wait "$daemon" 2>/dev/null || true
  daemon=
  umount_now -l
  rm -f "$work/asked.log"
  say "entries of requests without a reply come back; the control is found out"
fi

say "switched off"
echo N >"$switch"
: >"$work/daemon.log"
mount_pool
said 'requests come by /dev/fuse'
work_on_it
unmount_pool
if "$UDAX_BIN/udaxfs" -o transport=uring "$pool" "$mnt" 2>"$work/said"; then fail "mounted without the transport asked for"; fi
grep -q 'echo Y > /sys/module/fuse/parameters/enable_uring' "$work/said" || fail "it does not say what to do: $(cat "$work/said")"

say "/dev/fuse although there is the other"
echo Y >"$switch"
: >"$work/daemon.log"
mount_pool -o transport=dev
echo N >"$switch"
if grep -q 'io_uring' "$work/daemon.log"; then fail "it speaks of io_uring"; fi
work_on_it
unmount_pool
"$UDAX_BIN/fsck.udaxfs" -n "$pool" >/dev/null
