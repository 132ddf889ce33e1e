#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# How costs grow with files, extents and used space, in process and through a mount. Builds what it needs, prints
# tables, writes CSV files. docs/benchmarks.md says what the figures mean. The part through a mount needs root (for
# /proc/sys/vm/drop_caches) and /dev/fuse; without them it is left out, with a word about it.
set -euo pipefail

usage() {
  cat <<'END_USAGE'
Usage: scale.sh [--short] [--out DIR] [--bin DIR] [--in-process | --mounted]
  --short        a tenth of everything: a minute instead of some ten
  --out DIR      where the CSV files go (default: build/scale)
  --bin DIR      use the programs of DIR, build nothing
  --in-process   only the part without FUSE; --mounted: only the part through a mount
Needs up to 8 GiB in /dev/shm (2 GiB with --short), which it gives back.
END_USAGE
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$top/build/scale
bin=
files=1000000
rounds=20
short=()
parts=all
while [[ $# -gt 0 ]]; do
  case $1 in
    --short) short=(--short) files=100000 rounds=5 ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --bin) bin=$(cd "${2:?--bin needs a folder}" && pwd); shift ;;
    --in-process) parts=process ;;
    --mounted) parts=mount ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
mkdir -p "$out"
out=$(cd "$out" && pwd)

say() { printf '\n== %s\n' "$*"; }

if [[ -z $bin ]]; then
  say "building in build/bench"
  launcher=()
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  (cd "$top" && cmake --preset bench "${launcher[@]}" >/dev/null)
  cmake --build "$top/build/bench" --target bench_scale bench_latency udaxfs mkfs.udaxfs
  bin=$top/build/bench/bin
fi

scratch=$(mktemp -d /dev/shm/udax-scale.XXXXXX)
cleanup() {
  local status=$?
  trap - EXIT
  local mnt
  for mnt in "$scratch"/mnt-*; do
    if mountpoint -q "$mnt" 2>/dev/null; then umount "$mnt" 2>/dev/null || umount -l "$mnt" || true; fi
  done
  rm -rf --one-file-system "$scratch"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- in process ----------------------------------------------------------------------------------------------

if [[ $parts != mount ]]; then
  say "in process: cache-line granularity"
  "$bin/bench_scale" "${short[@]}" --folder "$scratch" --csv "$out/scale.csv"
fi
if [[ $parts == process ]]; then exit 0; fi

# ---- through a mount -----------------------------------------------------------------------------------------

if [[ $(id -u) -ne 0 || ! -e /dev/fuse ]]; then
  say "left out: the part through a mount needs root and /dev/fuse"
  exit 0
fi

# Two pools, one with few files and one with many, each with a mount point of its own, so that rounds can go over both
# in turn: a busy moment of the machine falls on the two.
few=10
declare -A daemons
pool_of() { printf '%s/pool-%s' "$scratch" "$1"; }
mnt_of() { printf '%s/mnt-%s' "$scratch" "$1"; }
# Microseconds; bash's own clock, no process.
now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
anon_kib() { awk '/^RssAnon:/ { print $2 }' "/proc/${daemons[$1]}/status"; }
is_running() { [[ -e /proc/$1 && $(awk '{ print $3 }' "/proc/$1/stat" 2>/dev/null) != Z ]]; }

# Mounts in the background as mount(8) does; sets `took_us`.
mount_pool() {
  local start pool mnt
  pool=$(pool_of "$1") mnt=$(mnt_of "$1")
  start=$(now_us)
  PMEM2_FORCE_GRANULARITY=CACHE_LINE "$bin/udaxfs" "$pool" "$mnt" -o loglevel=warning
  took_us=$(($(now_us) - start))
  daemons[$1]=$(pgrep -n -f "^$bin/udaxfs $pool ")
}
unmount_pool() {
  umount "$(mnt_of "$1")"
  while is_running "${daemons[$1]}"; do sleep 0.01; done
}
# As a crash: the daemon dies, then the dead mount is taken away.
kill_pool() {
  kill -9 "${daemons[$1]}"
  while is_running "${daemons[$1]}"; do sleep 0.01; done
  umount "$(mnt_of "$1")" 2>/dev/null || umount -l "$(mnt_of "$1")"
}
# Makes $1 files in its mount, by a tool that makes many in one process.
populate() {
  mkdir "$(mnt_of "$1")/files"
  (cd "$(mnt_of "$1")/files" && seq -f 'file-%08.0f.dat' "$1" | xargs touch)
}
note() {  # note METRIC UNIT COUNT VALUES...: the median, and how far the values go
  local metric=$1 unit=$2 count=$3
  shift 3
  printf '%s\n' "$@" | sort -n | awk -v m="$metric" -v u="$unit" -v c="$count" -v csv="$out/mounted.csv" '
    { v[NR] = $1 }
    END {
      printf "%-28s  %-3s  %8d files  %8d  (%d to %d, %d rounds)\n", m, u, c, v[int((NR + 1) / 2)], v[1], v[NR], NR
      printf "\"%s\",%s,%d,%d,%d,%d,%d\n", m, u, c, v[int((NR + 1) / 2)], v[1], v[NR], NR >>csv
    }'
}

mount_times() {
  local i count
  declare -A clean=() killed=()
  for ((i = 0; i < 11; i++)); do
    for count in "$few" "$files"; do
      unmount_pool "$count"
      mount_pool "$count"
      clean[$count]+=" $took_us"
      touch "$(mnt_of "$count")"/brief-{1..50} && rm "$(mnt_of "$count")"/brief-*
      kill_pool "$count"
      mount_pool "$count"
      killed[$count]+=" $took_us"
    done
  done
  for count in "$few" "$files"; do
    local -a c k
    read -ra c <<<"${clean[$count]}"
    read -ra k <<<"${killed[$count]}"
    note "mount, clean" us "$count" "${c[@]}"
    note "mount after kill -9" us "$count" "${k[@]}"
  done
}

memory() {
  unmount_pool "$1"
  mount_pool "$1"
  note "daemon's memory, mounted" KiB "$1" "$(anon_kib "$1")"
  find "$(mnt_of "$1")/files" -printf '' -size +1G
  note "... after a walk with stat" KiB "$1" "$(anon_kib "$1")"
  echo 2 >/proc/sys/vm/drop_caches
  sleep 2
  note "... after the kernel forgot" KiB "$1" "$(anon_kib "$1")"
}

say "through a mount"
printf 'metric,unit,files,median,min,max,rounds\n' >"$out/mounted.csv"
for count in "$few" "$files"; do
  mkdir "$(mnt_of "$count")"
  "$bin/mkfs.udaxfs" -s 4G "$(pool_of "$count")" >/dev/null
  mount_pool "$count"
  populate "$count"
done
mount_times
for count in "$few" "$files"; do memory "$count"; done

say "latency, beside $files files"
mkdir "$scratch/tmpfs"
"$bin/bench_latency" --rounds "$rounds" --csv "$out/latency.csv" "tmpfs=$scratch/tmpfs" "udaxfs=$(mnt_of "$files")"
for count in "$few" "$files"; do unmount_pool "$count"; done
say "the figures are in $out"
