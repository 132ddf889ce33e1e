#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A flip of the DAX flag reaches every client before the call returns: nothing of the pool is left in the place of a mapping that was
# direct, by the word of /proc; it becomes the kernel's mapping of the file, in its place, and nothing that is stored meanwhile is
# lost, or missed by read(2) (direct_flip). A control leaves the mappings direct, and must show. UDAX_ROUNDS: flips there and back
# (default 6).
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3 chattr
[[ -x $UDAX_BIN/direct_flip ]] || skip "direct_flip is not built"
rounds=${UDAX_ROUNDS:-6}

# Bytes of a mapping that lie in a file: shown PID ADDRESS LENGTH PATH. (By inode: names differ with mount namespaces.)
cat >"$work/shown.py" <<'END_OF_PROGRAM'
import os, sys
pid, address, length, path = sys.argv[1], int(sys.argv[2], 16), int(sys.argv[3], 16), sys.argv[4]
inode, total = os.stat(path).st_ino, 0
for line in open("/proc/%s/smaps" % pid):
    part = line.split()
    if "-" not in part[0]:
        continue
    begin, end = (int(x, 16) for x in part[0].split("-"))
    if int(part[4]) == inode and part[5:] == [path]:
        total += max(0, min(end, address + length) - max(begin, address))
print(total)
END_OF_PROGRAM

start_program() {  # start_program FILE api|mmap; tell COMMAND then sets `answer`
  local runner=(env)
  [[ $2 == api ]] || runner=("$UDAX_BIN/udaxctl" run --)
  rm -f "$work/to" "$work/from"
  mkfifo "$work/to" "$work/from"
  "${runner[@]}" "$UDAX_BIN/direct_flip" "$mnt/$1" "$2" <"$work/to" >"$work/from" 2>"$work/errors" &
  program=$!
  exec 7>"$work/to" 8<"$work/from"
}
tell() {
  echo "$1" >&7 || fail "$1: direct_flip has ended: $(cat "$work/errors")"
  read -r -t 60 answer <&8 || fail "$1: no answer: $(cat "$work/errors")"
}
shown() {  # shown "PID ADDRESS LENGTH" PATH: bytes of it there
  local place
  read -ra place <<<"$1"
  python3 "$work/shown.py" "${place[@]}" "$2"
}
all() { echo $((16#${1##* })); }  # all "PID ADDRESS LENGTH": the length, in decimal
has() { [[ $(shown "$1" "$2") -eq $(all "$1") ]]; }
has_some() { [[ $(shown "$1" "$2") -gt 0 ]]; }

one_round() {  # one_round FILE HOW: to cached, and back
  local one place
  tell where
  place=$answer
  wait_for "the mapping is direct" has_some "$place" "$pool"
  chattr -x "$mnt/$1"
  for one in "$place" "$child"; do
    [[ $(shown "$one" "$pool") -eq 0 ]] || fail "the pool is still mapped after the flip"
  done
  for one in "$place" "$child"; do
    wait_for "the mapping is the kernel's" has "$one" "$mnt/$1"
    [[ $(shown "$one" "$pool") -eq 0 ]] || fail "the pool is mapped again after the flip"
  done
  if [[ $2 == api ]]; then
    tell query
    [[ $answer == "0 $(all "$place")" ]] || fail "udax_query says '$answer' (direct, unmapped) of a mapping of the kernel's"
  fi
  if ((RANDOM % 2)); then tell change; fi
  chattr +x "$mnt/$1"
  tell remap
}

start_direct 64M direct=owner,dax=inode
for how in api mmap; do
  start_program "$how" "$how"
  tell child
  child=$answer  # its mapping becomes the kernel's in the first round, and stays so
  tell lock
  for ((i = 0; i < rounds; ++i)); do
    one_round "$how" "$how"
    tell locked
    [[ $answer == yes ]] || fail "the program's lock is gone after $((i + 1)) rounds"
  done
  # As fast as it goes: mappings are made, and handed over, in any order.
  for ((i = 0; i < 4 * rounds; ++i)); do
    chattr -x "$mnt/$how"
    if ((RANDOM % 2)); then tell remap; fi
    chattr +x "$mnt/$how"
    if ((RANDOM % 3 == 0)); then tell change; fi
  done
  exec 7>&-
  read -r -t 60 answer <&8 || fail "$how: no last answer: $(cat "$work/errors")"
  status=0
  wait "$program" || status=$?
  exec 8<&-
  [[ $status -eq 0 ]] || fail "$how: $answer; $(cat "$work/errors")"
  say "$how: $answer"
done
[[ $(direct_counter cut_offs) -eq 0 ]] || fail "a client was cut off"
say "$(direct_counter handovers) mappings have become the kernel's; late $(direct_counter late) times"
no_clients() { [[ $(direct_counter clients) -eq 0 && $(direct_counter regions) -eq 0 ]]; }
wait_for "the daemon has forgotten the clients" no_clients
if grep -q 'cannot map inode' "$work/daemon.log"; then fail "$(grep -m1 'cannot map inode' "$work/daemon.log")"; fi
unmount_pool
check_pool

has_knobs || { say "built without knobs: no controls"; exit 0; }
UDAX_KNOBS=direct.flip.stays start_direct 64M direct=owner,dax=inode
start_program control api
tell where
place=$answer
wait_for "the mapping is direct" has_some "$place" "$pool"
chattr -x "$mnt/control"
wait_for "the pool is mapped again" has_some "$place" "$pool"
if has_some "$place" "$mnt/control"; then fail "control: the mapping has become the kernel's"; fi
exec 7>&-
wait "$program" || fail "control: $(cat "$work/errors")"
say "control direct.flip.stays is found out: the pool stays mapped"
unmount_pool

# What the kernel cannot map is SIGBUS, and the daemon says so.
start_direct 64M direct=owner,dax=inode
UDAX_KNOBS=client.fail_kernel_map start_program failing api
tell where
place=$answer
wait_for "the mapping is direct" has_some "$place" "$pool"
chattr -x "$mnt/failing"
status=0
wait "$program" || status=$?
[[ $status -eq 135 ]] || fail "whose mapping the kernel cannot make ended with $status, not by SIGBUS"
is_said() { grep -q 'cannot map inode' "$work/daemon.log"; }
wait_for "the daemon says so" is_said
say "without the kernel's mapping: SIGBUS, and a line in the log"
exec 7>&- 8<&-
unmount_pool
check_pool
