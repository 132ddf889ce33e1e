#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Everything at once on one mount: udax-storm, udax-fsx (alone, and two processes on one file), fio with its checksums,
# stress-ng's stressors of filesystems, dbench, DAX flags flipped under all of them, and `udaxctl stat --json` sampled. All
# pass, the daemon's memory does not grow, fsck finds nothing. Then the same load again and again while the daemon is
# killed with -9: what ack_writer was told is done is there after the next mount, and fsck finds nothing.
# fio, stress-ng and dbench are left out, and said to be, where they are not installed.
# UDAX_SECONDS: of each of the two parts (default 40 and 20). UDAX_KILL_EVERY: seconds (default 5; 60 if UDAX_SECONDS is
# 600 or more). UDAX_SEED.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "a peer has no daemon to sample or to kill"
need python3
for program in udax-storm udax-fsx ack_writer udaxctl; do
  [[ -x $UDAX_BIN/$program ]] || skip "$UDAX_BIN/$program is not built"
done
seconds=${UDAX_SECONDS:-40}
kill_seconds=${UDAX_SECONDS:-20}
kill_every=${UDAX_KILL_EVERY:-$((kill_seconds >= 600 ? 60 : 5))}
seed=$(new_seed)
say "seed $seed (UDAX_SEED=$seed repeats it, but for the order of what happens at the same time)"
RANDOM=$((seed % 32768))

# Those of `stress-ng --class filesystem` that work on files of one's own.
stressors=(access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fcntl file-ioctl
  filename flock fpunch fsize fstat getdent handle hdd inode-flags inotify io iomix lease link locka lockf lockofd mknod
  open rename symlink sync-file touch utime xattr)
sizes=(--copy-file-bytes 128m --fallocate-bytes 32m --hdd-bytes 32m --iomix-bytes 16m)
has_fio=false has_stress=false has_dbench=false
if command -v fio >/dev/null; then has_fio=true; else say "left out: fio is not installed"; fi
if command -v stress-ng >/dev/null; then has_stress=true; else say "left out: stress-ng is not installed"; fi
if command -v dbench >/dev/null; then has_dbench=true; else say "left out: dbench is not installed"; fi

# The load: jobs that run until $work/stop is there, each with a log, and a file "failed" if it must not end like that.

load=$mnt/load
going() { [[ ! -e $work/stop ]]; }
job() {  # job NAME FUNCTION ARGUMENTS...
  local name=$1
  shift
  (
    trap - EXIT ERR
    set +e
    "$@" >"$work/jobs/$name.log" 2>&1
    status=$?
    [[ $status -eq 0 ]] || echo "status $status" >"$work/jobs/$name.failed"
  ) &
  jobs_started+=($!)
}

storms() {  # storms SECONDS
  "$UDAX_BIN/udax-storm" -f -s "$seed" -d "$1" -j 2 --dax-flip --save "$work/save" "$load/storm"
}
fsx_alone() { "$UDAX_BIN/udax-fsx" -f -s "$seed" -d "$1"${msync_seek:+ --msync-seek} --dax-flip --save "$work/save" "$load/alone"; }
fsx_shared() {  # without what the kernel loses by itself: docs/testing.md
  "$UDAX_BIN/udax-fsx" -f -s "$seed" -d "$1" -j 2 --unit 100${msync_seek:+ --msync-seek} --flipper --no-truncate --no-append \
    --save "$work/save" "$load/shared"
}
fios() {
  local engines=("--ioengine=psync --bsrange=512-64k" "--ioengine=mmap --bsrange=4k-64k" "--ioengine=psync --direct=1 --bs=4k")
  local round engine
  for ((round = 0; ; ++round)); do
    going || return 0
    engine=${engines[round % 3]}
    # shellcheck disable=SC2086  # words
    fio --name="round$round" --directory="$load/fio" --size=8M --numjobs=2 --rw=randwrite $engine --verify=crc32c \
      --verify_fatal=1 --verify_state_save=0 --do_verify=1 --fsync=64 --unlink=1 --randseed=$((seed + round)) \
      >"$work/jobs/fio.one" 2>&1 || {
      cat "$work/jobs/fio.one"
      return 1
    }
    printf '%s ' "$round"
  done
}
stresses() {
  local one status
  while going; do
    one=${stressors[RANDOM % ${#stressors[@]}]}
    status=0
    timeout -k 5 600 stress-ng --"$one" 1 -t 2s "${sizes[@]}" --temp-path "$load/stress" >"$work/jobs/stress-ng.one" 2>&1 ||
      status=$?
    # 3: it lacks memory, space or the like; 4: this system does not have it.
    if [[ $status -ne 0 && $status -ne 3 && $status -ne 4 ]] || grep -q ' fail: ' "$work/jobs/stress-ng.one"; then
      cat "$work/jobs/stress-ng.one"
      return 1
    fi
    printf '%s ' "$one"
  done
}
dbenches() { dbench -t "$1" -D "$load/dbench" 2; }
flips() {  # of what others have open; it may be gone by then
  local files
  while going; do
    mapfile -t files < <(find "$load/fio" "$load/stress" "$load/dbench" -type f 2>/dev/null | shuf -n 20)
    if [[ ${#files[@]} -gt 0 ]]; then
      "$UDAX_BIN/udaxctl" dax on "${files[@]}" >/dev/null 2>&1
      "$UDAX_BIN/udaxctl" dax off "${files[@]:0:10}" >/dev/null 2>&1
    fi
    sleep 0.1
  done
}
# A line each time: the daemon's own memory in KiB, which is not the pool's.
samples() {
  local rss
  while going; do
    "$UDAX_BIN/udaxctl" stat --json "$mnt" >"$work/stat.json" || return 1
    python3 -c '
import json, sys
media = json.load(open(sys.argv[1]))["media"]
sys.exit(any(media[key] for key in ("corruptions", "faults", "lost_pages")))' "$work/stat.json" || {
      cat "$work/stat.json"
      return 1
    }
    rss=$(awk '/^RssAnon/ {print $2}' "/proc/$daemon/status") || return 1
    echo "$rss" >>"$work/samples"
    sleep 0.5
  done
}

start_load() {  # start_load SECONDS
  jobs_started=()
  rm -rf "$work/stop" "$work/jobs" "$load"
  mkdir -p "$work/jobs" "$work/save" "$load"/{fio,stress,dbench}
  job storm storms "$1"
  job fsx fsx_alone "$1"
  job fsx-shared fsx_shared "$1"
  if $has_fio; then job fio fios; fi
  if $has_stress; then job stress-ng stresses; fi
  if $has_dbench; then job dbench dbenches "$1"; fi
  job flips flips
}
end_load() {
  touch "$work/stop"
  wait "${jobs_started[@]}" || true
}

# Part 1: all of it.
# On average no more than in the second quarter of the time, but for a quarter and 16 MiB.
check_memory() {
  if grep -qaE '__(asan|tsan)_init' "$UDAX_BIN/udaxfs"; then
    say "memory is not compared: this daemon is built with a sanitizer"
    return
  fi
  python3 - "$work/samples" <<'END' || fail "the daemon's memory grows"
import sys
kib = [int(line) for line in open(sys.argv[1])]
n = len(kib) // 4
assert n > 0, "no samples"
early, late = sum(kib[n:2 * n]) / n, sum(kib[-n:]) / n
print(f"   memory of the daemon: {early / 1024:.1f} MiB in the second quarter, {late / 1024:.1f} in the last")
sys.exit(late > early * 1.25 + 16 * 1024)
END
}
make_pool 1G
mount_pool
start_load "$seconds"
job samples samples
for ((n = 0; n < seconds; ++n)); do
  sleep 1
  if compgen -G "$work/jobs/*.failed" >/dev/null; then break; fi
done
((n < seconds)) || end_load
for failed in "$work/jobs"/*.failed; do
  [[ -e $failed ]] || continue
  name=$(basename "$failed" .failed)
  tail -n 60 "$work/jobs/$name.log"
  [[ -z ${UDAX_SAVE:-} ]] || cp -r "$work/save" "$work/jobs" "$UDAX_SAVE"
  fail "$name: $(cat "$failed")"
done
check_memory
flipped=$("$UDAX_BIN/udaxctl" stat --json "$mnt" | python3 -c 'import json, sys; print(json.load(sys.stdin)["dax"]["flips"])')
for name in storm fsx fsx-shared fio stress-ng dbench; do
  [[ ! -s $work/jobs/$name.log ]] || say "$name: $(tail -n 1 "$work/jobs/$name.log" | cut -c 1-400)"
done
say "$seconds s of everything at once, with $flipped flips of DAX flags, and nothing is wrong"
rm -rf "$load"
unmount_pool
check_pool

# Part 2: and the daemon is killed.
make_pool 1G
mount_pool
kept=2  # rounds whose trees stay
for ((round = 1, left = kill_seconds; left > 0; ++round, left -= kill_every)); do
  mkdir "$mnt/r$round" "$work/logs$round"
  start_load 100000
  "$UDAX_BIN/ack_writer" run "$mnt/r$round" "$work/logs$round" 4 $((seed + round)) >"$work/run.log" 2>&1 &
  run=$!
  sleep $((kill_every - 1)).$((RANDOM % 1000))
  kill -0 "$run" 2>/dev/null || fail "round $round: the workers ended too early: $(cat "$work/run.log")"
  touch "$work/stop"
  kill_daemon
  wait "$run" || fail "round $round: $(cat "$work/run.log")"
  end_load
  mount_pool
  for ((r = round > kept ? round - kept + 1 : 1; r <= round; ++r)); do
    "$UDAX_BIN/ack_writer" verify "$mnt/r$r" "$work/logs$r" 4 $((seed + r)) >"$work/verify.log" 2>&1 ||
      fail "round $round, tree of round $r: $(cat "$work/verify.log")"
  done
  say "kill $round: $(cat "$work/verify.log")"
  unmount_pool
  check_pool
  mount_pool
  if ((round > kept)); then rm -rf "$mnt/r$((round - kept))" "$work/logs$((round - kept))"; fi
done
rm -rf "${mnt:?}"/*
unmount_pool
check_pool
