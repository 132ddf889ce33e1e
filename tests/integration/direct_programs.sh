#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Programs that know nothing of udaxfs, under the preload shim: they do what they do without it, their mappings are direct, and
# what they leave is whole after a re-mount. Those that are not installed are left out, with a word.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3

here_is() {  # here_is PROGRAM: or it is left out
  command -v "$1" >/dev/null || { say "without $1, which is not installed"; return 1; }
}
was_direct() {  # was_direct WHAT MAPS-BEFORE
  maps_less_than_2m || return 0  # these files are small
  [[ $(direct_counter maps) -gt $2 ]] || fail "$1: nothing was mapped directly"
}

patience=200  # seconds
[[ -z ${UDAX_IN_GUEST:-} ]] || patience=800  # emulated processors

start_direct 256M direct=owner

before=$(direct_counter maps)
under python3 - "$mnt/py" <<'END_OF_PROGRAM'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, 1 << 20)
m = mmap.mmap(fd, 1 << 20)
m[5:10] = b"hello"
assert os.pread(fd, 5, 5) == b"hello"
os.pwrite(fd, b"there", 9000)
assert m[9000:9005] == b"there"
os.ftruncate(fd, 2 << 20)
m.resize(2 << 20)
m[(1 << 20) + 3] = 7
child = os.fork()
if child == 0:
    m[100:103] = b"kid"
    os._exit(0 if m[5:10] == b"hello" else 1)
assert os.waitpid(child, 0)[1] == 0 and m[100:103] == b"kid"
m.flush()
m.close()
END_OF_PROGRAM
was_direct python3 "$before"
[[ $(dd if="$mnt/py" bs=1 skip=5 count=5 status=none) == hello ]] || fail "python3: the store is not in the file"
say "python3: mmap, resize, fork"

if [[ -x $UDAX_BIN/mixed_mappings ]]; then
  before=$(direct_counter maps)
  "$UDAX_BIN/mixed_mappings" "$mnt/mixed" || fail "mixed_mappings, by the kernel"
  under "$UDAX_BIN/mixed_mappings" "$mnt/mixed" || fail "mixed_mappings"
  was_direct mixed_mappings "$before"
  say "mixed_mappings: a part is the file's, the rest is not"
fi

if here_is sqlite3; then
  for mode in delete wal; do
    before=$(direct_counter maps)
    for _ in 1 2; do
      result=$(under sqlite3 "$mnt/$mode.db" "PRAGMA mmap_size = 67108864; PRAGMA journal_mode = $mode;
        CREATE TABLE IF NOT EXISTS t (a, b);
        WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 5000) INSERT INTO t SELECT x, hex(randomblob(40)) FROM c;
        UPDATE t SET b = b || 'x' WHERE a % 3 = 0; PRAGMA integrity_check;" | tail -n 1)
      [[ $result == ok ]] || fail "sqlite3 $mode: $result"
    done
    was_direct "sqlite3 $mode" "$before"
    result=$(sqlite3 "$mnt/$mode.db" 'PRAGMA integrity_check; SELECT count(*), sum(a) FROM t;' | tr '\n' ' ')
    [[ $result == 'ok 10000|25005000 ' ]] || fail "sqlite3 $mode, without the shim: $result"
  done
  say "sqlite3 with mmap_size: delete, wal"
fi

if here_is fio; then
  for engine in mmap psync; do
    before=$(direct_counter maps)
    under fio --name=v --ioengine=$engine --rw=randwrite --size=16m --bs=4k --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 \
      --filename="$mnt/fio.$engine" >"$work/fio.log" 2>&1 || fail "fio $engine: $(tail -n 20 "$work/fio.log")"
    [[ $engine != mmap ]] || was_direct "fio $engine" "$before"
    fio --name=v --ioengine=psync --rw=randwrite --size=16m --bs=4k --verify=crc32c --verify_fatal=1 --verify_only --verify_state_save=0 \
      --filename="$mnt/fio.$engine" >"$work/fio.log" 2>&1 || fail "fio $engine, without the shim: $(tail -n 20 "$work/fio.log")"
  done
  say "fio: mmap and psync, verified with and without the shim"
fi

if here_is mdb_load; then
  mkdir "$mnt/lmdb" "$work/lmdb"
  {
    printf 'VERSION=3\nformat=print\ntype=btree\nmapsize=33554432\nHEADER=END\n'
    for ((n = 100000; n < 102000; n++)); do printf ' key%d\n value%d\n' "$n" $((n * 7)); done
    printf 'DATA=END\n'
  } >"$work/dump"
  under mdb_load -f "$work/dump" "$mnt/lmdb" || fail "mdb_load"
  mdb_load -f "$work/dump" "$work/lmdb"
  mdb_dump -p "$work/lmdb" >"$work/expected"
  before=$(direct_counter maps)
  under mdb_dump -p "$mnt/lmdb" | diff -q - "$work/expected" >/dev/null || fail "mdb_dump under the shim differs"
  was_direct mdb_dump "$before"
  mdb_dump -p "$mnt/lmdb" | diff -q - "$work/expected" >/dev/null || fail "mdb_dump differs"
  say "lmdb: $(grep -c '^ key' "$work/expected") records"
fi

if here_is git; then
  export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
  under git -c init.defaultBranch=main init -q "$mnt/git"
  cp "$here"/*.sh "$mnt/git"
  under git -C "$mnt/git" add .
  under git -C "$mnt/git" commit -qm one
  under git -C "$mnt/git" gc -q
  git -C "$mnt/git" fsck --strict >"$work/git.log" 2>&1 || fail "git fsck: $(cat "$work/git.log")"
  [[ -z $(git -C "$mnt/git" status --porcelain) ]] || fail "git status is not clean"
  say "git: add, commit, gc, fsck"
fi

# Nobody syncs: the times tell all the same.
head -c 65536 /dev/urandom >"$mnt/unsynced"  # no holes: stores to these are faults
touch -d @1000000000 "$mnt/unsynced"
[[ $(stat -c %Y "$mnt/unsynced") -eq 1000000000 ]] || fail "touch has no effect"
under python3 -c '
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 65536)
m[5] = 1
m.close()' "$mnt/unsynced"
[[ $(stat -c %Y "$mnt/unsynced") -gt 1000000000 ]] || fail "what was stored to a mapping that was only unmapped does not show in mtime"
say "times of a mapping that nobody synced"

conformity() {  # conformity FILTER [OPTION OF udaxctl run]: what programs may rely on, under the shim
  mkdir "$mnt/conformity"
  UDAX_TEST_DIR=$mnt/conformity timeout -s KILL "$patience" "$UDAX_BIN/udaxctl" run "${@:2}" -- "$UDAX_BIN/conformity_tests" \
    --gtest_brief=1 --gtest_filter="$1" >"$work/conformity.log" 2>&1
}
if [[ -x $UDAX_BIN/conformity_tests ]]; then
  but_lists='-*NamespacesOfXattrs:*TrustedXattrsAreRootsOwn'  # DAX files show an xattr more
  for how in "" --reads-and-writes; do
    before=$(direct_counter maps)
    # shellcheck disable=SC2086  # nothing, or an option
    conformity "$but_lists" $how || fail "conformity $how: $(cat "$work/conformity.log")"
    was_direct conformity "$before"
    rmdir "$mnt/conformity"
  done
  say "conformity: $(grep -o '[0-9]* tests' "$work/conformity.log" | tail -n 1), with reads and writes and without"
fi

if [[ -x $UDAX_BIN/udax-fsx ]]; then
  for how in "" --reads-and-writes; do
    before=$(direct_counter maps)
    # shellcheck disable=SC2086  # nothing, or an option
    timeout -s KILL "$patience" "$UDAX_BIN/udaxctl" run $how -- "$UDAX_BIN/udax-fsx" -f -d 4 -s "$RANDOM" --dax-flip ${msync_seek:+--msync-seek} \
      --save "$work" "$mnt/fsx" >"$work/fsx.log" 2>&1 || fail "udax-fsx $how: $(cat "$work/fsx.log")"
    was_direct udax-fsx "$before"
    say "udax-fsx $how: $(tail -n 1 "$work/fsx.log")"
  done
fi

[[ $(direct_counter cut_offs) -eq 0 ]] || fail "a client was cut off"
find "$mnt" -type f ! -path '*/.git/*' -exec md5sum {} + | sort >"$work/sums"
remount_pool
find "$mnt" -type f ! -path '*/.git/*' -exec md5sum {} + | sort | diff -q - "$work/sums" >/dev/null || fail "files differ after a re-mount"
unmount_pool
check_pool

if has_knobs && maps_less_than_2m && [[ -x $UDAX_BIN/conformity_tests ]]; then
  UDAX_KNOBS=fs.attributes.tell_nobody start_direct 64M direct=owner
  if conformity '*StoresToMappingsMarkTimes'; then fail "control: stat(2) finds new times without being told"; fi
  say "control tell_nobody is found out: stat(2) finds old times"
  unmount_pool
fi
