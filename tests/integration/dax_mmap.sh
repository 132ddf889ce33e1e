#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Mappings through the mount (dax_tests): of DAX files, of cached ones, and of files open in both ways; with each mount
# option that changes the way they take. Then the daemon is killed right after msync(2), fsync(2) and udaxctl sync: what was
# stored by then is there. Root runs the tests as an ordinary user as well.
# UDAX_FILTER: only these tests, as --gtest_filter takes them.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about DAX files, which a peer does not have"
[[ -x ${UDAX_BIN:-}/dax_tests ]] || skip "${UDAX_BIN:-}/dax_tests is not built"
need xfs_io chattr cmp setpriv python3

as_nobody() {  # the same, as an ordinary user
  chmod 755 "$mnt"
  mkdir -m 777 "$mnt/users"
  local user
  user=$(id -u nobody) || return 0
  local run=(setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all)
  if ! UDAX_TEST_DIR=$mnt/users "${run[@]}" "$UDAX_BIN/dax_tests" --gtest_brief=1 >"$work/tests.log" 2>&1; then
    cat "$work/tests.log"
    fail "as an ordinary user"
  else
    say "as an ordinary user: $(tail -n 1 "$work/tests.log")"
  fi
  rmdir "$mnt/users"
}

every=(dax=inode "dax=inode,threads=1" dax=always "dax=never,threads=2")
[[ -z ${UDAX_IN_GUEST:-} ]] || every=(dax=inode "dax=always,threads=1")  # a minute each on emulated processors
for options in "${every[@]}"; do
  make_pool 256M
  mount_pool -o "$options"
  UDAX_TEST_DIR=$mnt "$UDAX_BIN/dax_tests" --gtest_brief=1 --gtest_filter="${UDAX_FILTER:-*}" >"$work/tests.log" 2>&1 ||
    { cat "$work/tests.log"; fail "$options"; }
  grep -A1 -F '[  SKIPPED ]' "$work/tests.log" || true
  say "$options: $(tail -n 2 "$work/tests.log" | tr '\n' ' ')"
  if [[ $(id -u) -eq 0 && $options == dax=inode ]]; then
    as_nobody
  fi
  [[ -z $(ls -A "$mnt") ]] || fail "something is left: $(ls -A "$mnt")"
  unmount_pool
  check_pool
done

# 1 MiB is stored through a mapping, over data, a hole and an allocated range; then the daemon is killed.
xfs_io -f -c 'pwrite -q -S 0x41 0 1m' -c 'pwrite -q -S 0x42 5000 300000' "$work/wanted"
make_file() {  # make_file NAME KIND: sets file
  file=$mnt/$1-$2
  : >"$file"
  [[ $2 == cached ]] || chattr +x "$file"
  xfs_io -c 'pwrite -q -S 0x30 0 300k' -c 'truncate 1m' -c 'falloc 600k 200k' "$file"
}
is_there_after_kill() {
  kill_daemon
  mount_pool
  cmp -s "$file" "$work/wanted"
}
synced() {  # synced NAME KIND XFS-IO-COMMAND
  make_file "$1" "$2"
  xfs_io -c 'mmap -rw 0 1m' -c 'mwrite -S 0x41 0 1m' -c 'mwrite -S 0x42 5000 300000' -c "$3" "$file" >/dev/null
  is_there_after_kill || fail "$1 of a $2 file, then kill -9: other bytes after the re-mount"
}
survives() {  # survives NAME KIND COMMAND...: which somebody else does while the file is mapped
  make_file "$1" "$2"
  rm -f "$work/stored"
  python3 - "$file" "$work" <<'END' &
import mmap, os, sys, time
view = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 1 << 20)
view[:] = open(sys.argv[2] + "/wanted", "rb").read()
open(sys.argv[2] + "/stored", "w").close()
time.sleep(100)
END
  local holder=$! status=0 _
  for _ in {1..600}; do
    [[ ! -e $work/stored ]] || break
    sleep 0.05
  done
  "${@:3}"
  is_there_after_kill || status=1
  kill "$holder"
  wait "$holder" 2>/dev/null || true
  return "$status"
}
make_pool 64M
mount_pool
for kind in cached dax; do
  synced msync $kind 'msync -s'
  synced fsync $kind 'fsync'
  synced fdatasync $kind 'fdatasync'
  survives sync $kind "$UDAX_BIN/udaxctl" sync "$mnt" || fail "udaxctl sync, then kill -9: other bytes in a $kind file after the re-mount"
  if survives nothing $kind true; then fail "control: nothing is synced, and all is there after kill -9"; fi
done
say "stored, synced, killed: all is there; not synced: not all"

# O_SYNC and O_DSYNC need no call.
for flag in sync dsync; do
  file=$mnt/o-$flag
  : >"$file"
  chattr +x "$file"
  if [[ $flag == sync ]]; then
    xfs_io -s -c 'pwrite -q -S 0x41 0 1m' -c 'pwrite -q -S 0x42 5000 300000' "$file"
  else
    dd if="$work/wanted" of="$file" bs=64k oflag=dsync status=none
  fi
  kill_daemon
  mount_pool
  cmp "$file" "$work/wanted" || fail "O_${flag^^}, then kill -9: other bytes after the re-mount"
done
say "written with O_SYNC and O_DSYNC, killed: all is there"
unmount_pool
check_pool
