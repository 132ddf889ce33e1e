#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Mixed load for a while, and whether anything drifts: latency percentiles of several operations and the daemon's memory
# over time, as CSV and as plots. Files come and go beside what is measured, so that caches and tables turn over. As root.
set -euo pipefail

usage() {
  cat <<'END'
Usage: sustain.sh [options]
  --seconds=N   how long (default 600)
  --bin=DIR     programs that are built already
  --out=DIR     where results go (default build/bench/sustained)
  --no-deps     install nothing
END
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=600 bin='' out='' deps=true
while [[ $# -gt 0 ]]; do
  case $1 in
    --seconds=*) seconds=${1#*=} ;;
    --bin=*) bin=${1#*=} ;;
    --out=*) out=${1#*=} ;;
    --no-deps) deps=false ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[[ $(id -u) -eq 0 && -e /dev/fuse ]] || { echo "sustain.sh: needs root and /dev/fuse" >&2; exit 1; }

if [[ -z ${UDAX_SUSTAIN_PRIVATE:-} ]]; then
  cd "$top"
  if $deps; then tools/deps.sh build bench; fi
  if [[ -z $bin ]]; then
    bin=$top/build/bench/bin
    cmake --preset bench >/dev/null
    cmake --build --preset bench --target udaxfs mkfs.udaxfs udaxctl udax-storm bench_mounted
  fi
  out=${out:-$top/build/bench/sustained}
  mkdir -p "$out"
  UDAX_SUSTAIN_PRIVATE=1 exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    "$BASH" "$0" --seconds="$seconds" --bin="$bin" --out="$out" --no-deps
fi

scratch=$(mktemp -d /tmp/udax-sustain.XXXXXX)
mount -t tmpfs udax-sustain "$scratch"
mnt=$scratch/mnt
cleanup() {
  local status=$?
  trap - EXIT
  umount -l "$mnt" 2>/dev/null || true
  umount -l "$scratch" && rmdir "$scratch"
  exit "$status"
}
trap cleanup EXIT

mkdir "$mnt"
"$bin/mkfs.udaxfs" -q -s 2G "$scratch/pool"
PMEM2_FORCE_GRANULARITY=CACHE_LINE "$bin/udaxfs" "$scratch/pool" "$mnt" -f -o loglevel=warning &
daemon=$!
for _ in {1..200}; do mountpoint -q "$mnt" && break; sleep 0.05; done
mountpoint -q "$mnt"
mkdir "$mnt/measured"
"$bin/udax-storm" -q -s 1 -d "$((seconds + 60))" --dax-flip "$mnt/storm" >"$out/storm.log" 2>&1 &
storm=$!

echo "seconds,operation,p50_us,p99_us,p999_us,per_second" >"$out/latency.csv"
echo "seconds,anon_kib,inodes" >"$out/memory.csv"
while ((SECONDS < seconds)); do
  "$bin/bench_mounted" --subject "udaxfs=$mnt/measured" --clients 1 --rounds 1 --time-ms 400 --csv "$out/window.csv" \
    --operations stat-asked,create-unlink,rename,read-4k,write-4k,append-4k,write-fsync,mmap-store 2>/dev/null
  awk -F, -v now="$SECONDS" 'NR > 1 { printf "%d,%s,%s,%s,%s,%s\n", now, $2, $5, $6, $7, $8 }' "$out/window.csv" \
    >>"$out/latency.csv"
  printf '%d,%s,%s\n' "$SECONDS" "$(awk '/^RssAnon:/ { print $2 }' "/proc/$daemon/status")" \
    "$("$bin/udaxctl" stat --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["inodes"]["cached"])' \
      2>/dev/null || echo 0)" >>"$out/memory.csv"
  kill -0 "$storm" || { echo "sustain.sh: udax-storm ended early: $(tail -n 3 "$out/storm.log")" >&2; exit 1; }
done
rm -f "$out/window.csv"
kill "$storm"
wait "$storm" || true

# Drift: the last third beside the first, medians of windows. Memory in KiB.
python3 - "$out" <<'END'
import csv, pathlib, statistics, sys
out = pathlib.Path(sys.argv[1])
rows = list(csv.DictReader((out / "latency.csv").open()))
memory = list(csv.DictReader((out / "memory.csv").open()))
lines = ["| | first third | last third | ratio |", "|---|---|---|---|"]
def add(name, values):
    third = max(1, len(values) // 3)
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    lines.append(f"| {name} | {first:.1f} | {last:.1f} | {last / first if first else 0:.2f} |")
for operation in dict.fromkeys(row["operation"] for row in rows):
    for column in ("p50_us", "p99_us"):
        add(f"{operation}, {column[:-3]} us", [float(r[column]) for r in rows if r["operation"] == operation])
add("daemon's memory, KiB", [float(r["anon_kib"]) for r in memory])
text = "\n".join(lines) + "\n"
(out / "drift.md").write_text(text)
print(text)
END
if command -v gnuplot >/dev/null; then
  gnuplot <<END
set terminal pngcairo size 1300,900
set output '$out/sustained.png'
set datafile separator ','
set key outside
set multiplot layout 3,1
set ylabel 'p50, us'; set logscale y
operations = 'stat-asked create-unlink rename read-4k write-4k append-4k write-fsync mmap-store'
plot for [o in operations] '$out/latency.csv' using (strcol(2) eq o ? \$1 : NaN):3 with linespoints pt 7 ps 0.4 title o
set ylabel 'p99, us'
plot for [o in operations] '$out/latency.csv' using (strcol(2) eq o ? \$1 : NaN):4 with linespoints pt 7 ps 0.4 title o
unset logscale y; set yrange [0:*]; set ylabel "daemon's memory, MiB"; set xlabel 'seconds'
plot '$out/memory.csv' using 1:(\$2 / 1024) with lines lw 2 title 'anonymous memory'
END
fi
echo "written to $out"
