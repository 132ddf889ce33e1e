#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# udax-storm on a mount of each kind, as root and as a user, with the DAX flag flipped; the same trees after a re-mount, by
# its own record of them. Then the tool itself: it finds nothing on another filesystem either, a log replays, what was
# changed behind its back is found, and exit statuses are as documented. At the end the negative control: with a bug
# in the daemon (a knob, in test builds) it fails within a minute, and shrinks that to a few operations.
# UDAX_SECONDS: for each run (default 4). UDAX_SEED: of the first.
set -euo pipefail
# shellcheck source=tests/integration/exerciser_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/exerciser_common.sh"
take_exerciser udax-storm 4

for dax in inode always never; do
  make_pool 256M
  mount_pool -o dax=$dax
  run "dax=$dax" -j 3 --dax-flip --save-model "$work/model" "$mnt/storm"
  # Deep in the tree, files of many blocks, long values, all the names in one place.
  run "dax=$dax, large" -j 2 --shared 5 --entries 3000 --file-size 1M --xattr-size 3000 --round 20000 "$mnt/large"
  run "dax=$dax, one tree" -j 4 --shared 100 "$mnt/shared"
  if [[ $(id -u) -eq 0 ]] && command -v setpriv >/dev/null; then
    mkdir -m 777 "$mnt/user"
    as_user=(setpriv --reuid=12345 --regid=12345 --clear-groups)
    run "dax=$dax, a user" -j 2 --dax-flip "$mnt/user/storm"
    as_user=()
  fi
  "$tool" --verify "$work/model" "$mnt/storm" >"$work/run.log" || fail "dax=$dax: $(cat "$work/run.log")"
  remount_pool -o dax=$dax
  "$tool" --verify "$work/model" "$mnt/storm" >"$work/run.log" || fail "dax=$dax, re-mounted: $(cat "$work/run.log")"
  say "dax=$dax, re-mounted: $(tail -n 1 "$work/run.log")"
  unmount_pool
  check_pool
done

if [[ -z ${UDAX_IN_GUEST:-} ]]; then  # it is the pool that is another one there
  # The tool, elsewhere ($work is on tmpfs for root, whose listings skip and repeat names when entries are renamed).
  there=$work/elsewhere
  run "elsewhere" -j 2 --dax-flip -w scan=0 "$there"

  # Same seed, same operations.
  expect 0 "$tool" -q -j 1 -s 5 -n 800 -w scan=0 -o "$work/first.log" "$there"
  expect 0 "$tool" -q -j 1 -s 5 -n 800 -w scan=0 -o "$work/second.log" "$there"
  cmp "$work/first.log.p0" "$work/second.log.p0" || fail "one seed, two logs"
  expect 0 "$tool" -q --replay "$work/first.log.p0" "$there"
  expect 0 "$tool" -q --shrink "$work/first.log.p0" "$there"

  # Wrong usage; no log; what is there is not touched; the environment.
  expect 2 "$tool" -q --nonsense "$there"
  expect 2 "$tool" -q -w nonsense=1 "$there"
  expect 2 "$tool" -q --replay /dev/null "$there"
  expect 2 "$tool" -q --verify /dev/null "$there"
  expect 3 "$tool" -q -n 10 "$work/none/storm"
  echo mine >"$there/mine"
  expect 2 "$tool" -q -n 10 "$there"
  [[ $(cat "$there/mine") == mine ]] || fail "a file of somebody's is gone"
  expect 2 "$tool" -q -n 10 "$there/mine"

  # What somebody else changes is found, by --verify and by a storm.
  expect 0 "$tool" -f -q -j 1 -s 6 -n 300 -w scan=0 --save-model "$work/model" "$there"
  expect 0 "$tool" -q --verify "$work/model" "$there"
  touch "$there/p0/strange"
  expect 1 "$tool" -q --verify "$work/model" "$there"
  grep -q 'strange' "$work/tool.log" || fail "--verify does not say what differs"
  rm "$there/p0/strange"
  # It may come before the first operation: then there is nothing to log.
  for _ in {1..5}; do
    "$tool" -f -q -j 1 -s 9 -d 60 -w scan=0 --round 1000000 --save "$work/save" "$there" >"$work/tool.log" 2>&1 &
    victim=$!
    for _ in {1..300}; do
      sleep 0.1
      mkdir "$there/p0/strange" 2>/dev/null || true
      kill -0 "$victim" 2>/dev/null || break
    done
    status=0
    wait "$victim" || status=$?
    [[ $status -eq 1 ]] || { cat "$work/tool.log"; fail "a strange name in the tree: status $status"; }
    grep -q 'FAILED: seed 9' "$work/tool.log" || fail "no seed in the report"
    [[ ! -s $work/save/elsewhere.stormlog ]] || break
  done
  [[ -s $work/save/elsewhere.stormlog ]] || fail "no log"
  expect 0 "$tool" -f -q --replay "$work/save/elsewhere.stormlog" "$there"
fi

# The negative controls.
need_knob fs.rename_keeps_counts
for knob in fs.rename_keeps_counts fs.skip_zero_partial; do
  make_pool 64M
  UDAX_KNOBS=$knob mount_pool -o dax=always
  expect 1 "$tool" -s "$seed" -d 60 --save "$work/save" "$mnt/storm"
  expect 1 "$tool" -f --save "$work/save" --shrink-time 60 --shrink "$work/save/storm.stormlog" "$mnt/storm"
  short=$work/save/storm.stormshort
  count=$(grep -cv '^#\|^setup' "$short")
  # A slow machine gets less far in the time that there is.
  [[ $count -lt 20 || -n ${UDAX_IN_GUEST:-} ]] || { cat "$short"; fail "$knob: $count operations are left of what fails"; }
  expect 1 "$tool" -f --replay "$short" "$mnt/storm"
  unmount_pool
  rm "$work/daemon.log"  # it speaks of corruption, as it must
  # The bug went with the knob, not with the operations.
  make_pool 64M
  mount_pool -o dax=always
  expect 0 "$tool" --replay "$short" "$mnt/storm"
  unmount_pool
  check_pool
  say "negative control: $knob is found, and shrinks to $count operations"
done
