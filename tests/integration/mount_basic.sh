#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The daemon's own ways: into the background once the mount is live, out of it by umount, by signals and by kill; the
# pool is free again each time.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need findmnt lsattr chattr python3
[[ -z ${UDAX_PEER:-} ]] || skip "it is about the daemon"

udaxfs=$UDAX_BIN/udaxfs
wait_unmounted() {
  local _
  for _ in {1..200}; do
    is_mounted || return 0
    sleep 0.05
  done
  fail "still mounted after 10 s"
}
# The pids of daemons in this process namespace.
daemon_pids() { pgrep -x udaxfs || true; }
wait_no_daemon() {
  local _
  for _ in {1..200}; do
    [[ -n $(daemon_pids) ]] || return 0
    sleep 0.05
  done
  fail "a daemon still runs after 10 s"
}

make_pool 128M
say "background mount"
"$udaxfs" "$pool" "$mnt"
# The parent has returned: the mount must be there now, not soon.
is_mounted || fail "udaxfs returned before the mount was there"
[[ $(findmnt -no FSTYPE "$mnt") == fuse.udaxfs ]] || fail "type: $(findmnt -no FSTYPE "$mnt")"
[[ $(findmnt -no SOURCE "$mnt") == "$pool" ]] || fail "source: $(findmnt -no SOURCE "$mnt")"
df "$mnt" >"$work/df"
grep -q "^$pool " "$work/df" || fail "df: $(cat "$work/df")"
if [[ $(id -u) -eq 0 ]]; then
  # mount(8) leaves suid and dev out as defaults; they must hold all the same.
  [[ $(findmnt -no OPTIONS "$mnt") != *nosuid* ]] || fail "nosuid without being asked: $(findmnt -no OPTIONS "$mnt")"
  [[ $(findmnt -no OPTIONS "$mnt") == *allow_other* ]] || fail "no allow_other for root"
fi
for stream in 0 1 2; do
  [[ $(readlink "/proc/$(daemon_pids)/fd/$stream") == /dev/null ]] || fail "the daemon keeps stream $stream"
done
[[ $(readlink "/proc/$(daemon_pids)/cwd") == / ]] || fail "the daemon keeps its working directory"

say "files, names, flags"
mkdir "$mnt/dir"
echo one >"$mnt/dir/file"
echo two >>"$mnt/dir/file"
ln -s dir/file "$mnt/link"
ln "$mnt/dir/file" "$mnt/hard"
mv "$mnt/hard" "$mnt/dir/moved"
[[ $(cat "$mnt/link") == $'one\ntwo' ]] || fail "content"
[[ $(stat -c %h "$mnt/dir/file") -eq 2 ]] || fail "link count"
[[ $(stat -c %W "$mnt/dir/file") -gt 0 ]] || fail "no birth time"
ctime=$(stat -c %z "$mnt/dir/file")
sleep 0.02
chattr +x "$mnt/dir/file"
[[ $(lsattr "$mnt/dir/file") == *x* ]] || fail "lsattr: $(lsattr "$mnt/dir/file")"
[[ $(stat -c %z "$mnt/dir/file") != "$ctime" ]] || fail "the kernel still shows the ctime of before chattr"
if chattr +c "$mnt/dir/file" 2>/dev/null; then fail "an unknown flag was taken"; fi
echo three >>"$mnt/dir/file"
[[ $(tail -n 1 "$mnt/dir/file") == three ]] || fail "append to a DAX file"

say "shared mapping of a DAX file"
python3 - "$mnt/dir/file" <<'PYTHON'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.ftruncate(fd, 8192)
with mmap.mmap(fd, 8192) as m:
    m[4096:4100] = b"abcd"
    m.flush()
    assert os.pread(fd, 4, 4096) == b"abcd"
    os.pwrite(fd, b"Z", 4097)
    assert m[4096:4100] == b"aZcd", m[4096:4100]
PYTHON

say "umount, and at once mount again: 20 times"
for i in {1..20}; do
  umount_now
  "$udaxfs" "$pool" "$mnt" || fail "re-mount $i"
  [[ $(head -n 1 "$mnt/link") == one ]] || fail "content after re-mount $i"
done
umount_now
wait_no_daemon
check_pool

say "signals unmount"
for signal in TERM INT HUP; do
  "$udaxfs" "$pool" "$mnt"
  echo "$signal" >"$mnt/signal"
  kill -"$signal" "$(daemon_pids)"
  wait_no_daemon
  if is_mounted; then fail "still mounted after SIG$signal"; fi
  check_pool
done

say "a signal while a file is open: what was written stays"
"$udaxfs" "$pool" "$mnt"
exec 5>"$mnt/open"
echo kept >&5
kill -TERM "$(daemon_pids)"
wait_no_daemon
wait_unmounted
if echo lost 2>/dev/null >&5; then fail "a write after the end of the daemon succeeded"; fi
exec 5>&-
check_pool
"$udaxfs" "$pool" "$mnt"
[[ $(cat "$mnt/open") == kept ]] || fail "content of a file that was open"

say "kill -9, and mount again"
echo before >"$mnt/killed"
kill -9 "$(daemon_pids)"
wait_no_daemon
if "$udaxfs" "$pool" "$mnt" 2>"$work/error"; then fail "mounted over a dead mount"; fi
grep -q 'daemon is gone' "$work/error" || fail "message: $(cat "$work/error")"
umount_now -l
"$udaxfs" "$pool" "$mnt"
[[ $(cat "$mnt/killed") == before ]] || fail "content after kill -9"
umount_now
wait_no_daemon
check_pool

say "read-only"
sum=$(sha256sum <"$pool")
"$udaxfs" "$pool" "$mnt" -o ro
[[ $(head -n 1 "$mnt/link") == one ]] || fail "content, read-only"
if touch "$mnt/new" 2>/dev/null; then fail "a file was made on a read-only mount"; fi
umount_now
wait_no_daemon
[[ $(sha256sum <"$pool") == "$sum" ]] || fail "a read-only mount changed the pool"

say "a relative path, and a pool with a comma in its name"
mv "$pool" "$work/a,b"
(cd "$work" && "$udaxfs" a,b mnt)
[[ $(findmnt -no SOURCE "$mnt") == "$work/a,b" ]] || fail "source: $(findmnt -no SOURCE "$mnt")"
[[ $(head -n 1 "$mnt/link") == one ]] || fail "content"
umount_now
wait_no_daemon
mv "$work/a,b" "$pool"
check_pool
