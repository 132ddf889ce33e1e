#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# udaxfs in a few minutes: builds it, makes a pool in a plain file, mounts it, uses it, crashes it, and shows that
# nothing was lost. Runs as root, or as any user who may use /dev/fuse. Leaves no mount, process or pool behind.
set -euo pipefail

usage() {
  cat <<'END'
Usage: demo.sh [--bin FOLDER] [--tree FOLDER]
  --bin FOLDER   use the programs of FOLDER, build nothing
  --tree FOLDER  the files to copy into the pool (default: /usr/include)
END
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=
tree=/usr/include
while [[ $# -gt 0 ]]; do
  case $1 in
    --bin) bin=$(cd "${2:?--bin needs a folder}" && pwd); shift ;;
    --tree) tree=$(cd "${2:?--tree needs a folder}" && pwd); shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {  # run COMMAND...: shows it, then runs it
  printf '  $ %s\n' "${*/#$bin\//}"
  "$@"
}
fail() {
  printf '\ndemo: %s\n' "$*" >&2
  exit 1
}

[[ -t 1 ]] || say() { printf '\n%s\n' "$*"; }

# ---- what must be there --------------------------------------------------------------------------------------

if [[ ! -e /dev/fuse && $(id -u) -eq 0 ]]; then modprobe fuse 2>/dev/null || true; fi
if [[ ! -e /dev/fuse ]]; then
  fail "/dev/fuse is missing, and with it FUSE, through which udaxfs is mounted. On a host: modprobe fuse.
In a container: start it with --device /dev/fuse --cap-add SYS_ADMIN."
fi
if ! { : <>/dev/fuse; } 2>/dev/null; then
  fail "this user may not open /dev/fuse. Run the demo as root, or let the user: chmod 0666 /dev/fuse."
fi

if [[ -z $bin ]]; then
  say "Building udaxfs (release; the first time takes some minutes)"
  "$top/tools/deps.sh" build
  launcher=()
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  (cd "$top" && cmake --preset release "${launcher[@]}" >/dev/null && cmake --build --preset release \
    --target mkfs.udaxfs udaxfs fsck.udaxfs)
  bin=$top/build/release/bin
fi
for program in mkfs.udaxfs udaxfs fsck.udaxfs; do
  [[ -x $bin/$program ]] || fail "$bin/$program is missing"
done

# ---- places, and how they are tidied up ----------------------------------------------------------------------

room_kib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print $4}'; }
pool_kib=$((1024 * 1024))
where=/dev/shm
if [[ ! -w $where || $(room_kib $where) -lt $((pool_kib * 5 / 4)) ]]; then
  where=$top/build
  mkdir -p "$where"
  [[ $(room_kib "$where") -ge $((pool_kib * 5 / 4)) ]] || fail "neither /dev/shm nor $where has 1.25 GiB of room"
fi
work=$(mktemp -d "$where/udaxfs-demo.XXXXXX")
pool=$work/pool
mnt=$work/mnt
mkdir "$mnt"
foreground=  # pid of a daemon that runs as our child
writer=      # pid of the background writer

is_mounted() { awk -v m="$mnt" '$5 == m {found = 1} END {exit !found}' /proc/self/mountinfo; }
unmount() {  # unmount [-l]: lazily
  if [[ $(id -u) -eq 0 ]]; then
    run umount "$@" "$mnt"
  else
    run fusermount3 -u ${1:+-z} "$mnt"
  fi
}
daemons() {  # the pids of those who were started on our pool, which has a path that nobody else has
  local file
  for file in /proc/[0-9]*/cmdline; do
    if tr '\0' '\n' <"$file" 2>/dev/null | grep -qxF "$pool"; then
      file=${file#/proc/}
      echo "${file%/cmdline}"
    fi
  done 2>/dev/null
}
tidy_up() {
  local status=$?
  trap - EXIT INT TERM
  set +e
  [[ -z $writer ]] || kill "$writer" 2>/dev/null
  if is_mounted; then unmount -l >/dev/null 2>&1; fi
  local pid
  for _ in {1..50}; do
    [[ -n $(daemons) ]] || break
    sleep 0.1
  done
  for pid in $(daemons); do kill -9 "$pid" 2>/dev/null; done
  wait 2>/dev/null
  rm -rf --one-file-system "$work"
  if [[ $status -ne 0 ]]; then printf '\ndemo: failed, in the step above\n' >&2; fi
  exit "$status"
}
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- the demo ------------------------------------------------------------------------------------------------

say "1. Make a pool. A plain file will do (on real hardware: /dev/dax0.0, or a file on ext4/xfs mounted -o dax)"
run "$bin/mkfs.udaxfs" -L demo -s 1G "$pool"

say "2. Mount it (here in the foreground of a background job, so that step 5 knows whom to kill)"
printf '  $ udaxfs -f %s %s &\n' "$pool" "$mnt"
"$bin/udaxfs" -f "$pool" "$mnt" &
foreground=$!
for _ in {1..300}; do
  if is_mounted; then break; fi
  kill -0 "$foreground" 2>/dev/null || fail "the daemon ended instead of mounting"
  sleep 0.1
done
is_mounted || fail "not mounted after 30 seconds"
run df -h "$mnt"

say "3. Copy a tree into it, and compare"
if [[ ! -d $tree || $(du -sk "$tree" | cut -f1) -gt $((pool_kib / 2)) ]]; then tree=$top/src; fi
run cp -a "$tree" "$mnt/tree"
run diff -r --no-dereference "$tree" "$mnt/tree"
echo "  $(find "$mnt/tree" -type f | wc -l) files, all equal"

say "4. Per-file DAX: on for a file that profits, off for the rest; flipped while the file is open"
printf 'written before the flip\n' >"$mnt/file"
if command -v chattr >/dev/null && chattr +x "$mnt/file" 2>/dev/null; then
  exec 9>>"$mnt/file"
  run chattr +x "$mnt/file"
  run lsattr "$mnt/file"
  printf 'written through a descriptor that was open all the time\n' >&9
  exec 9>&-
  run chattr -x "$mnt/file"
  run lsattr "$mnt/file"
  [[ $(wc -l <"$mnt/file") -eq 2 ]] || fail "the file lost a line over the flip"
else
  echo "  (left out: this machine's chattr does not know the DAX flag)"
fi

say "5. Write and fsync, then kill -9 the daemon in the middle of other work"
mkdir "$mnt/safe"
for i in {1..16}; do
  dd if=/dev/urandom of="$mnt/safe/$i" bs=64K count="$i" conv=fsync status=none
done
run sync -f "$mnt"
(cd "$mnt" && find safe file -type f -exec sha256sum {} +) >"$work/sums"
echo "  16 files written and fsynced, the rest synced; the checksums are kept outside of the pool"
(while cp -a "$tree" "$mnt/unfinished" && rm -rf "$mnt/unfinished"; do :; done) 2>/dev/null &
writer=$!
sleep 0.5
printf '  $ kill -9 %s\n' "$foreground"
kill -9 "$foreground"
wait "$foreground" 2>/dev/null || true
foreground=
wait "$writer" 2>/dev/null || true
writer=
unmount -l

say "6. Mount again, in the usual way: the journal is replayed, whatever the pool's size"
run "$bin/udaxfs" "$pool" "$mnt"
is_mounted || fail "udaxfs returned without a mount"
(cd "$mnt" && sha256sum --quiet -c "$work/sums") || fail "data that was synced is damaged"
diff -r --no-dereference "$tree" "$mnt/tree" || fail "the tree has changed"
echo "  every file has its checksum, and the tree of step 3 is whole"

say "7. Unmount and check"
unmount
for _ in {1..100}; do  # the daemon may still be closing the pool
  [[ -n $(daemons) ]] || break
  sleep 0.1
done
run "$bin/fsck.udaxfs" -n "$pool"

say "Done: nothing was lost. To use udaxfs for yourself, install it, and then:"
cat <<END
  mkfs.udaxfs -s 1G /path/to/pool && udaxfs /path/to/pool /mountpoint
END
