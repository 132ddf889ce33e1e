#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Reads and writes under the shim are as they are through the kernel (tests/direct/direct_io.cc), and do not go there; each step
# that makes it so is taken away by a knob, and it must show.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3
program=$UDAX_BIN/direct_io
[[ -x $program ]] || skip "$program is not built"
seed=$(new_seed)
seconds=${UDAX_SECONDS:-3}
say "seed $seed (UDAX_SEED=$seed repeats it)"

patience=100  # seconds
[[ -z ${UDAX_IN_GUEST:-} ]] || patience=600  # emulated processors
by_itself() {  # by_itself COMMAND...: under the shim, whatever is read and written is taken on at once
  UDAX_READS_AND_WRITES=on:0 timeout -s KILL "$patience" "$UDAX_BIN/udaxctl" run -- "$@"
}
requests() {  # requests OP: that the kernel has made
  "$UDAX_BIN/udaxctl" stat --json "$mnt" | python3 -c "
import json, sys
print(json.load(sys.stdin)['ops'].get('$1', {}).get('count', 0))"
}
must_fail() {  # must_fail KNOB COMMAND...: what the knob takes away is missed, in one of a few runs
  has_knobs || return 0
  local _
  for _ in {1..8}; do
    if ! UDAX_KNOBS=$1 by_itself "${@:2}" >"$work/control.log" 2>&1; then
      say "without it ($1): $(tail -n 1 "$work/control.log")"
      return 0
    fi
  done
  fail "$1: nothing was noticed"
}

start_direct 128M direct=owner
by_itself "$program" random "$mnt/random" "$seed" || fail "random calls, seed $seed"
"$program" random "$mnt/kernels" "$seed" || fail "random calls through the kernel: the test is wrong"
cmp "$mnt/random" "$mnt/kernels" || fail "random calls leave different files"
by_itself "$program" times "$mnt/times" || fail "times"
must_fail client.io.no_times "$program" times "$mnt/times"
by_itself "$program" appends "$mnt/appends" || fail "appends"
by_itself "$program" numbers "$mnt/one" "$mnt/two" || fail "numbers"
must_fail client.io.no_proof "$program" numbers "$mnt/one" "$mnt/two"
by_itself "$program" forks "$mnt/forks" || fail "forks"
by_itself "$program" locks "$mnt/locks" || fail "locks"
by_itself "$program" threads "$mnt/one" "$mnt/two" "$seconds" || fail "threads"
[[ $(direct_counter connects) -gt 4 ]] || fail "nothing was taken on"
say "random calls, times, appends, numbers, forks, locks, threads: as through the kernel"

# None of these is a request.
by_itself "$program" fill "$mnt/many"
before=$(requests read)
times=$(stat -c '%y %z' "$mnt/many")
by_itself python3 -c "
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for i in range(20000):
    assert os.pread(fd, 4096, i % 64 * 4096) == b'a' * 4096
    assert len(os.read(fd, 10)) == 10
os.fsync(fd)" "$mnt/many" || fail "many reads"
[[ $(stat -c '%y %z' "$mnt/many") == "$times" ]] || fail "reads of a file that is open for writing mark it as written"
count=$(($(requests read) - before))
[[ $count -lt 2000 ]] || fail "of 40,000 reads $count were requests"
before=$(requests write)
by_itself python3 -c "
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for i in range(40000): os.pwrite(fd, b'b' * 4096, i % 64 * 4096)" "$mnt/many" || fail "many writes"
writes=$(($(requests write) - before))
[[ $writes -lt 8000 ]] || fail "of 40,000 writes $writes were requests"
[[ $(tr -d b <"$mnt/many" | wc -c) -eq 0 ]] || fail "many writes: other bytes"
say "of 40,000 reads $count were requests, of 40,000 writes $writes"

# A reader while the file is cut short and made long again.
"$program" cutter "$mnt/cut" "$((seconds + 3))" &
cutter=$!
sleep 0.3
by_itself "$program" cut_reader "$mnt/cut" "$seconds" || fail "a reader of a file that is cut short"
wait "$cutter" || fail "the cutter"
if has_knobs; then
  caught=
  for _ in {1..10}; do
    "$program" cutter "$mnt/cut" 3 &
    cutter=$!
    UDAX_KNOBS=client.io.no_second_look by_itself "$program" cut_reader "$mnt/cut" 2 >"$work/control.log" 2>&1 || caught=yes
    wait "$cutter"
    [[ -z $caught ]] || break
  done
  [[ -n $caught ]] || fail "without the second look: nothing was noticed"
  grep -q 'never written' "$work/control.log" || fail "without the second look: $(cat "$work/control.log")"
  say "without the second look: $(tail -n 1 "$work/control.log")"
fi

# Two processes and the kernel, all in the same pages, while the file becomes cached and DAX again.
by_itself "$program" fill "$mnt/shared"
pids=()
for part in 0 1; do
  by_itself "$program" own_part "$mnt/shared" "$part" "$((seconds + 2))" &
  pids+=($!)
done
end=$((SECONDS + seconds))
flips=0
while [[ $SECONDS -lt $end ]]; do
  "$UDAX_BIN/udaxctl" dax off "$mnt/shared" >/dev/null
  sleep 0.05
  "$UDAX_BIN/udaxctl" dax on "$mnt/shared" >/dev/null
  sleep 0.2
  flips=$((flips + 2))
done
for pid in "${pids[@]}"; do wait "$pid" || fail "two writers and flips"; done
say "two writers, $flips flips"

# The exerciser's calls, but for mappings: alone, and with others and flips.
fsx=$UDAX_BIN/udax-fsx
if [[ -x $fsx ]]; then
  by_itself "$fsx" --save "$work" -d "$seconds" --no-mmap "$mnt/fsx" >"$work/fsx.log" 2>&1 || fail "udax-fsx: $(tail -n 40 "$work/fsx.log")"
  by_itself "$fsx" --save "$work" -d "$seconds" --no-mmap -j 3 --flipper "$mnt/fsx" >"$work/fsx.log" 2>&1 ||
    fail "udax-fsx, three processes: $(tail -n 40 "$work/fsx.log")"
  say "udax-fsx: $(tail -n 1 "$work/fsx.log")"
fi

# What is removed and closed gives its space back at once.
by_itself python3 -c "
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for i in range(160): os.pwrite(fd, b'x' * 65536, i * 65536)
for i in range(160): os.pread(fd, 65536, i * 65536)
os.unlink(sys.argv[1])
before = os.statvfs(sys.argv[2]).f_bfree
os.close(fd)
assert os.statvfs(sys.argv[2]).f_bfree >= before + 2560" "$mnt/removed" "$mnt" || fail "a removed file keeps its space"

# Programs that know nothing of it.
if command -v fio >/dev/null; then
  for engine in psync sync pvsync; do
    by_itself fio --name=job --directory="$mnt" --ioengine="$engine" --rw=randwrite --bsrange=512-64k --size=12M --numjobs=2 \
      --verify=crc32c --verify_fatal=1 --verify_state_save=0 --fallocate=none --output="$work/fio.log" || fail "fio $engine: $(cat "$work/fio.log")"
    rm "$mnt"/job.*
  done
  say "fio verifies what it has written"
fi
if command -v sqlite3 >/dev/null; then
  for mode in DELETE WAL; do
    by_itself sqlite3 "$mnt/db" "PRAGMA journal_mode=$mode; PRAGMA cache_size=20; CREATE TABLE t$mode(a INTEGER PRIMARY KEY, b BLOB);
      WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 5000) INSERT INTO t$mode SELECT x, randomblob(300) FROM c;
      UPDATE t$mode SET b = randomblob(400) WHERE a % 3 = 0; DELETE FROM t$mode WHERE a % 7 = 0;
      SELECT count(*), sum(length(b)) FROM t$mode; PRAGMA integrity_check;" >"$work/sql.log" || fail "sqlite3, $mode"
    grep -qx ok "$work/sql.log" || fail "sqlite3, $mode: $(cat "$work/sql.log")"
    [[ $(sqlite3 "$mnt/db" "SELECT count(*), sum(length(b)) FROM t$mode; PRAGMA integrity_check;") = "$(tail -n 2 "$work/sql.log")" ]] ||
      fail "sqlite3, $mode: something else is found without the shim"
  done
  say "sqlite3 finds what it has written"
fi

# Whoever may not keep setuid by writing does not.
if command -v setpriv >/dev/null; then
  by_itself "$program" fill "$mnt/setuid"
  chmod 6755 "$mnt/setuid"
  by_itself setpriv --bounding-set=-fsetid "$program" byte "$mnt/setuid" || fail "a write to a setuid file"
  [[ $(stat -c %a "$mnt/setuid") = 755 ]] || fail "setuid stays: $(stat -c %a "$mnt/setuid")"
fi

# A limit of the file's size, below what it has.
by_itself bash -c "ulimit -f 64; trap '' XFSZ; exec '$program' byte '$mnt/many'" || fail "a write below the limit of sizes"
if errors=$(by_itself bash -c "ulimit -f 0; trap '' XFSZ; exec '$program' byte '$mnt/many'" 2>&1); then fail "no limit of sizes"; fi
[[ $errors = *'File too large'* ]] || fail "a write above the limit of sizes: $errors"

rm -f "$mnt"/*
truncate -s 100M "$mnt/holes"
# On a device a pool is as large as that. 10 MiB are left.
fallocate -l "$(($(stat -f -c '%a * %S' "$mnt") - (10 << 20)))" "$mnt/filler"
by_itself "$program" no_room "$mnt/holes" || fail "no room"
rm "$mnt/filler" "$mnt/holes"
gone() { [[ $(direct_counter clients) -eq 0 ]]; }
wait_for "the clients have gone" gone
unmount_pool
check_pool
say "setuid, limits, no room"

# The daemon dies in the middle.
: >"$work/said"
mount_pool -o direct=owner
by_itself "$program" until_error "$mnt/dies" >"$work/said" 2>&1 &
runner=$!
wait_for "it reads and writes" grep -q begun "$work/said"
sleep 0.5
kill_daemon
status=0
wait "$runner" || status=$?
[[ $status -eq 0 ]] || fail "the daemon died: $status, $(cat "$work/said")"
say "the daemon died: $(tail -n 1 "$work/said")"

# It is unmounted in the middle: the same.
ended() { ! kill -0 "$daemon" 2>/dev/null; }
end_in_the_middle() {  # end_in_the_middle: status is the program's
  by_itself "$program" until_error "$mnt/ends" reads >"$work/said" 2>&1 &
  runner=$!
  wait_for "it reads and writes" grep -q begun "$work/said"
  sleep 0.3
  kill -TERM "$daemon"
  status=0
  wait "$runner" || status=$?
  wait_for "the daemon has ended" ended
  wait "$daemon" || fail "the daemon ended with $?"
  daemon=
}
mount_pool -o direct=owner
end_in_the_middle
[[ $status -eq 0 ]] || fail "unmounted: $status, $(cat "$work/said")"
say "unmounted in the middle: $(tail -n 1 "$work/said")"
if has_knobs; then
  for _ in {1..8}; do
    UDAX_KNOBS=direct.board.no_retirement mount_pool -o direct=owner
    end_in_the_middle
    [[ $status -eq 0 ]] || break
  done
  [[ $status -ne 0 ]] || fail "without memory in place of views: nothing was noticed"
  if grep '^error' "$work/said"; then fail "without memory in place of views: an error"; fi
  say "without memory in place of views: a signal"
fi
