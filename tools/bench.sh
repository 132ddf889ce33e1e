#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Measures udaxfs side by side with its peers in one run, as root: libfuse's passthrough_ll over tmpfs, fuse2fs, ext4 on a
# loop device over tmpfs, tmpfs itself, and a FUSE daemon with nothing behind it. Writes CSV files, a table in words
# and plots to a folder. Rounds go over all subjects in turn; figures are medians of rounds.
set -euo pipefail

usage() {
  cat <<'END'
Usage: bench.sh [options]
  --short            2 rounds of 60 ms, fewer clients: under 3 minutes (default: 7 rounds of 200 ms)
  --operations=LIST  only these (see --list)
  --clients=LIST     how many at once (default 1,2,4)
  --rounds=N, --time-ms=N
  --no-workloads     operations only
  --direct           only what direct mappings take, beside tmpfs: under two minutes
  --bin=DIR          programs that are built already
  --out=DIR          where results go (default build/bench/results)
  --no-deps          install nothing
END
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rounds=7 time_ms=200 clients=1,2,4 operations='' workloads=true bin='' out='' deps=true direct=false size_mib=1024
while [[ $# -gt 0 ]]; do
  case $1 in
    --short) rounds=2 time_ms=60 clients=1,2 size_mib=256 ;;
    --operations=*) operations=${1#*=} ;;
    --clients=*) clients=${1#*=} ;;
    --rounds=*) rounds=${1#*=} ;;
    --time-ms=*) time_ms=${1#*=} ;;
    --no-workloads) workloads=false ;;
    --direct) direct=true ;;
    --bin=*) bin=${1#*=} ;;
    --size-mib=*) size_mib=${1#*=} ;;  # of the file that is mapped directly
    --out=*) out=${1#*=} ;;
    --no-deps) deps=false ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[[ $(id -u) -eq 0 ]] || { echo "bench.sh: mounting the peers takes root" >&2; exit 1; }
[[ -e /dev/fuse ]] || { echo "bench.sh: there is no /dev/fuse" >&2; exit 1; }

if [[ -z ${UDAX_BENCH_PRIVATE:-} ]]; then
  cd "$top"
  if $deps; then tools/deps.sh build bench; fi
  if [[ -z $bin ]]; then
    bin=$top/build/bench/bin
    cmake --preset bench >/dev/null
    targets=(udaxfs mkfs.udaxfs bench_mounted bench_null_fuse)
    ! $direct || targets=(udaxfs mkfs.udaxfs udaxctl libudax_preload bench_direct_bench)
    cmake --build --preset bench --target "${targets[@]}"
  fi
  out=${out:-$top/build/bench/results}
  mkdir -p "$out"
  arguments=(--rounds="$rounds" --time-ms="$time_ms" --clients="$clients" --bin="$bin" --out="$out" --no-deps)
  [[ -z $operations ]] || arguments+=(--operations="$operations")
  $workloads || arguments+=(--no-workloads)
  ! $direct || arguments+=(--direct --size-mib="$size_mib")
  # Mounts, daemons and pools go with the namespaces, however this ends.
  UDAX_BENCH_PRIVATE=1 exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    "$BASH" "$0" "${arguments[@]}"
fi

scratch=$(mktemp -d /tmp/udax-bench.XXXXXX)
mount -t tmpfs -o mode=0755 udax-bench "$scratch"
switch=/sys/module/fuse/parameters/enable_uring
switch_before=$(cat "$switch" 2>/dev/null || true)
loop=
cleanup() {
  local status=$?
  trap - EXIT
  set +e
  [[ -z $switch_before ]] || echo "$switch_before" >"$switch"
  local dir
  for dir in "$scratch"/mnt/*; do umount -l "$dir" 2>/dev/null; done
  [[ -z $loop ]] || losetup -d "$loop"
  umount -l "$scratch" && rmdir "$scratch"
  exit "$status"
}
trap cleanup EXIT

subjects=()
wait_mounted() {
  local _
  for _ in {1..200}; do
    if mountpoint -q "$1"; then return 0; fi
    sleep 0.05
  done
  return 1
}
add() { subjects+=("$1"); }
folder() { printf '%s/mnt/%s' "$scratch" "$1"; }
left_out() { echo "left out: $1 ($2)"; }

mount_udaxfs() {  # mount_udaxfs NAME OPTIONS [SIZE]
  local dir
  dir=$(folder "$1")
  mkdir -p "$dir"
  "$bin/mkfs.udaxfs" -q -s "${3:-1G}" "$scratch/pool-$1"
  # As on persistent memory: flushes and drains are executed.
  PMEM2_FORCE_GRANULARITY=CACHE_LINE "$bin/udaxfs" "$scratch/pool-$1" "$dir" -o "loglevel=warning,$2"
  wait_mounted "$dir" && add "$1"
}

machine() {  # machine WHAT-WAS-DONE
  echo "kernel $(uname -r), $(nproc) CPUs, $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)"
  echo "load before: $load_before; $1; pools in tmpfs, granularity cache line"
}
load_before=$(cut -d' ' -f1-3 /proc/loadavg)

if $direct; then
  mkdir -p "$(folder tmpfs)"
  mount -t tmpfs tmpfs "$(folder tmpfs)"
  mount_udaxfs udaxfs-direct dax=always,direct=owner "$((size_mib * 2 + 256))M"
  "$bin/udaxctl" run --reads-and-writes -- "$bin/bench_direct_bench" --rounds "$rounds" --size-mib "$size_mib" --csv "$out/direct.csv" \
    "tmpfs=$(folder tmpfs)" "udaxfs-direct=$(folder udaxfs-direct)"
  maps=$("$bin/udaxctl" stat --json "$(folder udaxfs-direct)" | python3 -c 'import json,sys; print(json.load(sys.stdin)["direct"]["maps"])')
  [[ $maps -gt 0 ]] || { echo "bench.sh: nothing was mapped directly" >&2; exit 1; }
  machine "$rounds rounds, a file of $size_mib MiB, $maps ranges mapped" | tee "$out/direct-machine.txt"
  exit 0
fi

if [[ -w $switch ]] && echo Y >"$switch" 2>/dev/null; then
  mount_udaxfs udaxfs-ring dax=always,transport=uring
  mount_udaxfs udaxfs-ring-cached dax=never,transport=uring
else
  left_out udaxfs-ring "this kernel has no FUSE over io_uring, or it cannot be switched on"
fi
mount_udaxfs udaxfs-dev dax=always,transport=dev
mount_udaxfs udaxfs-dev-cached dax=never,transport=dev

# passthrough_ll keeps a descriptor for every file that the kernel knows. Not everybody may have that many.
ulimit -n 1048576 2>/dev/null || ulimit -n "$(ulimit -Hn)"
mkdir -p "$(folder tmpfs)"
mount -t tmpfs tmpfs "$(folder tmpfs)"
add tmpfs

source_of_peer=/usr/share/doc/libfuse3-dev/examples
if [[ -e $source_of_peer/passthrough_ll.c || -e $source_of_peer/passthrough_ll.c.gz ]]; then
  mkdir -p "$scratch/src"
  cp "$source_of_peer"/passthrough_helpers.h* "$source_of_peer"/passthrough_ll.c* "$scratch/src/"
  gunzip -qf "$scratch"/src/*.gz 2>/dev/null || true
  # shellcheck disable=SC2046
  cc -O2 -w -o "$scratch/passthrough_ll" "$scratch/src/passthrough_ll.c" $(pkg-config --cflags --libs fuse3)
  for mode in never always; do
    name=passthrough_ll
    [[ $mode == never ]] || name=passthrough_ll-cached
    mkdir -p "$(folder "$name")" "$scratch/under-$name"
    "$scratch/passthrough_ll" -o "source=$scratch/under-$name,cache=$mode,allow_other" "$(folder "$name")"
    if wait_mounted "$(folder "$name")"; then add "$name"; else left_out "$name" "it did not mount"; fi
  done
else
  left_out passthrough_ll "its source is not in $source_of_peer"
fi

ext4_image() {
  truncate -s 1G "$1"
  mkfs.ext4 -q -F "$1"
}
if command -v fuse2fs >/dev/null; then
  ext4_image "$scratch/fuse2fs.img"
  mkdir -p "$(folder fuse2fs)"
  fuse2fs "$scratch/fuse2fs.img" "$(folder fuse2fs)" -o fakeroot,allow_other >/dev/null 2>&1 || true
  if wait_mounted "$(folder fuse2fs)"; then add fuse2fs; else left_out fuse2fs "it did not mount"; fi
else
  left_out fuse2fs "not installed"
fi
ext4_image "$scratch/ext4.img"
mkdir -p "$(folder ext4)"
if loop=$(losetup --find --show "$scratch/ext4.img" 2>/dev/null) && mount "$loop" "$(folder ext4)" 2>/dev/null; then
  add ext4
else
  left_out ext4 "there is no loop device, or no ext4, here"
fi
mkdir -p "$(folder null)"
"$bin/bench_null_fuse" "$(folder null)" &
if wait_mounted "$(folder null)"; then has_null=true; else has_null=false; left_out null "it did not mount"; fi

echo "== operations"
arguments=(--clients "$clients" --rounds "$rounds" --time-ms "$time_ms")
for name in "${subjects[@]}"; do arguments+=(--subject "$name=$(folder "$name")"); done
[[ -z $operations ]] || arguments+=(--operations "$operations")
"$bin/bench_mounted" "${arguments[@]}" --csv "$out/operations.csv"
if $has_null; then
  "$bin/bench_mounted" --subject "null=$(folder null)" --operations stat-asked,open-close,read-4k,write-4k \
    --clients "$clients" --rounds "$rounds" --time-ms "$time_ms" --csv "$out/null.csv"
  tail -n +2 "$out/null.csv" >>"$out/operations.csv"
  rm "$out/null.csv"
fi

# Whole programs, by the clock. Each gets a fresh folder.
workload_tree() { cp -a /usr/include "$1/tree" && sync -f "$1" && rm -r "$1/tree"; }
workload_sqlite() {  # sqlite MODE
  sqlite3 "$1/db" >/dev/null <<END
PRAGMA journal_mode=$2; PRAGMA synchronous=FULL;
CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);
$(for i in {1..300}; do echo "INSERT INTO t(v) VALUES(hex(randomblob(100)));"; done)
END
}
workload_sqlite_rollback() { workload_sqlite "$1" DELETE; }
workload_sqlite_wal() { workload_sqlite "$1" WAL; }
workload_git() { git clone -q "$scratch/repository" "$1/clone" && git -C "$1/clone" status >/dev/null; }
workload_compile() {
  local i jobs_=()
  for i in 1 2 3 4 5 6; do
    printf '#include <vector>\nint f%s() { std::vector<int> v(9); return v[%s]; }\n' "$i" "$i" >"$1/f$i.cc"
  done
  for i in 1 2 3 4 5 6; do
    c++ -O0 -c -o "$1/f$i.o" "$1/f$i.cc" &
    jobs_+=($!)
    [[ $((i % 2)) -ne 0 ]] || wait "${jobs_[@]}"
  done
  wait "${jobs_[@]}"
}
workload_fio() {
  fio --name=randrw --directory="$1" --rw=randrw --bs=4k --size=32m --numjobs=2 --ioengine=psync --output=/dev/null
}
if $workloads; then
  echo "== workloads"
  git init -q "$scratch/repository"
  cp -r /usr/include/linux "$scratch/repository/"
  git -C "$scratch/repository" add . && git -C "$scratch/repository" -c user.name=b -c user.email=b@localhost \
    -c commit.gpgsign=false commit -qm all
  echo "subject,workload,round,seconds" >"$out/workloads.csv"
  for ((round = 1; round <= (rounds > 3 ? 3 : rounds); round++)); do
    for work in tree sqlite_rollback sqlite_wal git compile fio; do
      if [[ $work == fio ]] && ! command -v fio >/dev/null; then continue; fi
      if [[ $work == sqlite* ]] && ! command -v sqlite3 >/dev/null; then continue; fi
      for name in "${subjects[@]}"; do
        dir=$(folder "$name")/work
        mkdir -p "$dir"
        start=${EPOCHREALTIME/[.,]/}
        if (cd "$dir" && "workload_$work" "$dir") >/dev/null 2>&1; then
          took=$(($(printf '%s' "${EPOCHREALTIME/[.,]/}") - start))
          printf '%s,%s,%s,%s\n' "$name" "$work" "$round" "$(awk "BEGIN { print $took / 1e6 }")" >>"$out/workloads.csv"
        else
          echo "not measured: $work in $name"
        fi
        rm -rf "$dir"
      done
    done
  done
fi

machine "$rounds rounds of $time_ms ms" >"$out/machine.txt"
python3 "$top/tools/bench_report.py" "$out"
