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
mnt=$scratch/mnt
pool=$scratch/pool
daemon=
cleanup() {
  local status=$?
  trap - EXIT
  if mountpoint -q "$mnt" 2>/dev/null; then umount "$mnt" 2>/dev/null || umount -l "$mnt" || true; fi
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

# Microseconds; bash's own clock, no process.
now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
anon_kib() { awk '/^RssAnon:/ { print $2 }' "/proc/$daemon/status"; }

# Mounts in the background as mount(8) does; sets `daemon` and `took_us`.
mount_pool() {
  local start
  start=$(now_us)
  PMEM2_FORCE_GRANULARITY=CACHE_LINE "$bin/udaxfs" "$pool" "$mnt" -o loglevel=warning
  took_us=$(($(now_us) - start))
  daemon=$(pgrep -n -f "^$bin/udaxfs $pool ")
}
unmount_pool() {
  umount "$mnt"
  while [[ -e /proc/$daemon ]]; do sleep 0.01; done
}
# As a crash: the daemon dies, then the dead mount is taken away.
kill_pool() {
  kill -9 "$daemon"
  while [[ -e /proc/$daemon && $(awk '{ print $3 }' "/proc/$daemon/stat" 2>/dev/null) != Z ]]; do sleep 0.01; done
  umount "$mnt" 2>/dev/null || umount -l "$mnt"
}
# Makes files 1...$1 in the mount, by a tool that makes many in one process.
populate() {
  mkdir "$mnt/files"
  (cd "$mnt/files" && seq -f 'file-%08.0f.dat' "$1" | xargs touch)
}
note() {  # note METRIC UNIT PARAMETER VALUE
  printf '%-40s  %-6s  %-10s  %s\n' "$1" "$2" "$3" "$4"
  printf '"%s",%s,%s,%s\n' "$1" "$2" "$3" "$4" >>"$out/mounted.csv"
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

mount_times() {  # mount_times PARAMETER
  local clean=() killed=() i
  for ((i = 0; i < 7; i++)); do
    unmount_pool
    mount_pool
    clean+=("$took_us")
    touch "$mnt"/brief-{1..50} && rm "$mnt"/brief-*
    kill_pool
    mount_pool
    killed+=("$took_us")
  done
  note "mount, clean" us "$1" "$(printf '%s\n' "${clean[@]}" | median)"
  note "mount after kill -9" us "$1" "$(printf '%s\n' "${killed[@]}" | median)"
}

memory() {  # memory PARAMETER
  unmount_pool
  mount_pool
  note "daemon's memory, mounted" KiB "$1" "$(anon_kib)"
  find "$mnt/files" -printf '' -size +1G
  note "... after a walk with stat" KiB "$1" "$(anon_kib)"
  echo 2 >/proc/sys/vm/drop_caches
  sleep 2
  note "... after the kernel forgot" KiB "$1" "$(anon_kib)"
}

say "through a mount"
printf 'metric,unit,parameter,value\n' >"$out/mounted.csv"
mkdir "$mnt"
for count in 10 "$files"; do
  rm -f "$pool"
  "$bin/mkfs.udaxfs" -s 4G "$pool" >/dev/null
  mount_pool
  populate "$count"
  mount_times "$count files"
  memory "$count files"
  if [[ $count -eq 10 ]]; then unmount_pool; fi
done

say "latency, beside $files files"
mkdir "$scratch/tmpfs"
"$bin/bench_latency" --rounds "$rounds" --csv "$out/latency.csv" "tmpfs=$scratch/tmpfs" "udaxfs=$mnt"
unmount_pool
say "the figures are in $out"
