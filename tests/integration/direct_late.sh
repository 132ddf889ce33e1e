#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A client takes its time to give views back. A punch waits for it: what is stored after the punch has returned is there. The
# control: who does not wait for longer than a truncation does leaves the client a view of freed blocks, and the store is lost.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3 fallocate
has_knobs || skip "built without knobs"
client=$(
  cat <<'END_OF_PROGRAM'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 16)
m = mmap.mmap(fd, 1 << 16)
m[5 * 4096] = 1
print("ready", flush=True)
sys.stdin.readline()
m[5 * 4096 + 8] = 66
print("stored", flush=True)
sys.stdin.readline()
END_OF_PROGRAM
)

store_after_punch() {  # sets found, the byte that was stored after the punch, and took, the punch's milliseconds
  local begun line
  rm -f "$mnt/file"
  coproc late { UDAX_KNOBS=client.late_hole under python3 -c "$client" "$mnt/file"; }
  local pid=$!
  read -r -t 60 line <&"${late[0]}" && [[ $line == ready ]] || fail "the client does not map: $line"
  [[ $(direct_counter maps) -gt 0 ]] || fail "this is no direct mapping"
  begun=$(date +%s%3N)
  fallocate -p -o $((4 * 4096)) -l $((3 * 4096)) "$mnt/file"
  took=$(($(date +%s%3N) - begun))
  echo go >&"${late[1]}"
  read -r -t 60 line <&"${late[0]}" && [[ $line == stored ]] || fail "the client does not store: $line"
  sleep 1.5  # the view is back by now in any case
  found=$(od -An -tu1 -j $((5 * 4096 + 8)) -N 1 "$mnt/file" | tr -d ' ')
  echo end >&"${late[1]}"
  wait "$pid" || fail "the client ended with $?"
}

start_direct 64M direct=owner
store_after_punch
[[ $found -eq 66 ]] || fail "stored after the punch, and found: $found"
[[ $took -ge 500 ]] || fail "the punch took $took ms: the client was not late"
say "the punch waits, $took ms; what is stored after it is there"
unmount_pool
check_pool

UDAX_KNOBS=direct.hold.is_short start_direct 64M direct=owner
store_after_punch
[[ $found -ne 66 ]] || fail "control: who does not wait loses nothing"
say "control is_short is found out: the punch took $took ms, and the store is lost"
