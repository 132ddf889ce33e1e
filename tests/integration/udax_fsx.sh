#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# udax-fsx on a mount of each kind: alone, with its DAX flag flipped, and two processes on one file; the same bytes after
# a re-mount. Then the tool itself: on other filesystems it finds nothing either, a log replays, and a failure is told with
# its exit status and shrinks. At the end the negative control: with a bug in the daemon (a knob, in test builds) it fails
# within a minute, and shrinks that to a few operations.
# UDAX_SECONDS: for each run (default 3). UDAX_SEED: of the first.
set -euo pipefail
# shellcheck source=tests/integration/exerciser_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/exerciser_common.sh"
take_exerciser udax-fsx 3

fuse=(${msync_seek:+--msync-seek})
# A cached file that grows in a page to which others store through mappings may lose bytes: see docs/testing.md, "What the
# kernel's FUSE makes impossible".
cached=(--no-truncate --no-append)
for dax in inode always never; do
  make_pool 128M
  mount_pool -o dax=$dax
  run "dax=$dax" "${fuse[@]}" --keep "$mnt/alone"
  run "dax=$dax, over 2 MiB" "${fuse[@]}" --keep --max-size 5M --max-op 1M "$mnt/long"
  run "dax=$dax, flips" "${fuse[@]}" --dax-flip --keep "$mnt/flips"
  run "dax=$dax, flipper" "${fuse[@]}" --flipper "$mnt/flipper"
  mixed=("${fuse[@]}" -j 2)
  [[ $dax == always ]] || mixed+=("${cached[@]}")
  run "dax=$dax, two processes" "${mixed[@]}" --unit 100 "$mnt/shared"
  run "dax=$dax, two processes and flips" "${mixed[@]}" --unit 1000 --dax-flip --flipper "$mnt/shared"
  run "dax=$dax, three processes, no mappings" -j 3 --unit 64 --dax-flip --no-mmap "$mnt/shared"
  sums=$(cd "$mnt" && sha256sum alone long flips)
  remount_pool -o dax=$dax
  (cd "$mnt" && sha256sum --quiet -c <<<"$sums") || fail "dax=$dax: other bytes after a re-mount"
  unmount_pool
  check_pool
done

if [[ -z ${UDAX_IN_GUEST:-} ]]; then  # it is the pool that is another one there
  # The tool: no false alarm elsewhere ($work is on tmpfs for root).
  here=$work/elsewhere
  seconds=2
  run "elsewhere" --dax-flip "$here"
  run "elsewhere, two processes" -j 2 "$here"

  # Same seed, same operations.
  expect 0 "$tool" -q -s 5 -n 400 -o "$work/first.log" "$here"
  expect 0 "$tool" -q -s 5 -n 400 -o "$work/second.log" "$here"
  cmp "$work/first.log" "$work/second.log" || fail "one seed, two logs"
  expect 0 "$tool" -q --replay "$work/first.log" "$here"
  expect 0 "$tool" -q --shrink "$work/first.log" "$here"

  # A filesystem that stops growing is not to blame; wrong usage; no log; what is there is not overwritten.
  expect 3 "$tool" -q -n 100 "$work/none/file"
  expect 2 "$tool" -q --nonsense "$here"
  expect 2 "$tool" -q --replay /dev/null "$here"
  echo mine >"$here"
  expect 2 "$tool" -q -n 1 "$here"
  [[ $(cat "$here") == mine ]] || fail "a file of somebody's is gone"
  expect 2 "$tool" -q -n 1 "$work"

  # A failure: somebody else writes into the file. Status 1, the range and the bytes, the log, the copy of the file.
  "$tool" -f -q -s 9 -d 60 --max-size 64K --save "$work/save" --no-rename "$here" >"$work/tool.log" 2>&1 &
  victim=$!
  sleep 0.5
  for _ in {1..50}; do
    [[ ! -e $here ]] || printf 'not yours' | dd of="$here" bs=1 seek=5000 conv=notrunc status=none
    kill -0 "$victim" 2>/dev/null || break
    sleep 0.1
  done
  status=0
  wait "$victim" || status=$?
  [[ $status -eq 1 ]] || { cat "$work/tool.log"; fail "strange bytes in the file: status $status"; }
  grep -q 'FAILED: seed 9' "$work/tool.log" || fail "no seed in the report"
  [[ -s $work/save/elsewhere.fsxlog && -e $work/save/elsewhere.fsxbad ]] || fail "no log or no copy of the file"
  expect 0 "$tool" -f -q --replay "$work/save/elsewhere.fsxlog" "$here"
fi

# The negative control.
need_knob fs.skip_zero_partial
for dax in always never; do
  make_pool 64M
  UDAX_KNOBS=fs.skip_zero_partial mount_pool -o dax=$dax
  expect 1 "$tool" -s "$seed" -d 60 "${fuse[@]}" --save "$work/save" "$mnt/file"
  expect 1 "$tool" -f --save "$work/save" --shrink-time 60 --shrink "$work/save/file.fsxlog" "$mnt/file"
  short=$work/save/file.fsxshort
  count=$(grep -cv '^#\|^setup' "$short")
  [[ $count -lt 20 ]] || { cat "$short"; fail "dax=$dax: $count operations are left of what fails"; }
  expect 1 "$tool" -f --replay "$short" "$mnt/file"
  unmount_pool
  # The bug went with the knob, not with the operations.
  make_pool 64M
  mount_pool -o dax=$dax
  expect 0 "$tool" --replay "$short" "$mnt/file"
  unmount_pool
  check_pool
  say "negative control, dax=$dax: bytes that are not zeroed are found, and shrink to $count operations"
done
