#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# SQLite with several writers at once, in WAL mode (shared memory, mapped) and rollback modes, on cached and on DAX
# files; a re-mount, and a crash of the daemon in the middle, after which every commit that was reported is there.
# UDAX_SECONDS: how long each of the writers' runs takes (default 3).
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need sqlite3 setfattr

writers=3
seconds=${UDAX_SECONDS:-3}
make_pool 512M
mount_pool

sql() { sqlite3 -batch -bail -cmd '.timeout 60000' "$@"; }

# One writer: transactions of an insert and an update, each number printed after its commit; until the clock says so or
# the filesystem is gone.
writer() {  # writer DB NUMBER LOG
  local n=0 end=$((SECONDS + seconds))
  while ((SECONDS < end)); do
    n=$((n + 1))
    sql "$1" "PRAGMA synchronous = FULL; BEGIN IMMEDIATE;
      INSERT INTO entry VALUES ($2, $n, hex(randomblob(abs(random()) % 2000)));
      UPDATE total SET count = count + 1; COMMIT; SELECT $n;" >>"$3" 2>>"$3.errors" || return 1
  done
}

check_db() {  # check_db DB LOG-PREFIX exact|least
  local result n last
  result=$(sql "$1" 'PRAGMA integrity_check;')
  [[ $result == ok ]] || fail "$1: integrity_check: $result"
  result=$(sql "$1" 'SELECT (SELECT count FROM total) - (SELECT count(*) FROM entry);')
  [[ $result == 0 ]] || fail "$1: the counter and the rows differ by $result"
  for ((n = 1; n <= writers; n++)); do
    last=$(tail -n 1 "$2.$n" 2>/dev/null || true)
    last=${last:-0}
    result=$(sql "$1" "SELECT count(*), coalesce(max(n), 0) FROM entry WHERE writer = $n;")
    if [[ $result == "$last|$last" ]]; then continue; fi
    # The commit that was not reported may have happened.
    [[ $3 == least && $result == "$((last + 1))|$((last + 1))" ]] || fail "$1: writer $n has $result, reported $last"
  done
}

run_writers() {  # run_writers DB LOG-PREFIX: in the background; sets pids
  local n
  pids=()
  for ((n = 1; n <= writers; n++)); do
    writer "$1" "$n" "$2.$n" &
    pids+=($!)
  done
}

make_db() {  # make_db DB MODE
  local mode
  mode=$(sql "$1" "PRAGMA journal_mode = $2;")
  [[ ${mode,,} == "${2,,}" ]] || fail "journal mode is $mode, not $2"
  sql "$1" 'CREATE TABLE entry (writer INTEGER, n INTEGER, data TEXT, PRIMARY KEY (writer, n));
    CREATE TABLE total (count INTEGER); INSERT INTO total VALUES (0);'
}

for dax in 0 1; do
  mkdir "$mnt/dax$dax"
  if ! setfattr -n user.udax.dax -v $dax "$mnt/dax$dax" 2>"$work/setfattr.log"; then
    say "no user.udax.dax here ($(cat "$work/setfattr.log")): DAX files are left out"
    continue
  fi
  for mode in wal delete truncate; do
    db=$mnt/dax$dax/$mode.db
    log=$work/$dax-$mode
    make_db "$db" "$mode"
    run_writers "$db" "$log"
    for pid in "${pids[@]}"; do wait "$pid" || fail "a writer failed: $(cat "$log".*.errors)"; done
    check_db "$db" "$log" exact
    remount_pool
    check_db "$db" "$log" exact
    say "dax=$dax $mode: $writers writers, $(sql "$db" 'SELECT count FROM total;') commits, whole, also after a re-mount"
  done
done

if [[ -z ${UDAX_PEER:-} ]]; then
  for mode in wal delete; do
    db=$mnt/dax0/crash-$mode.db
    log=$work/crash-$mode
    make_db "$db" "$mode"
    run_writers "$db" "$log"
    sleep 1.5
    kill_daemon
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    mount_pool
    check_db "$db" "$log" least
    say "$mode: the daemon killed under the writers, $(sql "$db" 'SELECT count FROM total;') commits, none is lost"
  done
fi
unmount_pool
check_pool
