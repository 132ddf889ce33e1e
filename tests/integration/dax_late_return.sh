#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A page of a DAX file is on its way back to the daemon when a write(2) to it has it dropped. Until Linux 6.16 the kernel does
# not wait for such a page: it comes when the write is over, and must not bring the old bytes back. With that taken away (a knob,
# in test builds) the write is lost; on newer kernels nothing can be.
# Other knobs have the daemon sleep over direct writes and over pages that come back.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about DAX files, which a peer does not have"
need python3
grep -qaF fuse.write_back_late "$UDAX_BIN/udaxfs" || skip "this daemon was built without knobs (UDAX_SYNC_POINTS)"

late_return() {  # late_return KNOBS: true if no byte is wrong
  local result=0
  UDAX_KNOBS="fuse.write_late,fuse.write_back_late,$1" mount_pool -o dax=inode
  timeout -k 10 60 python3 "$here/dax_late_return.py" "$mnt" >"$work/run.log" 2>&1 || result=$?
  rm -f "$mnt/file"
  unmount_pool
  [[ $result -le 1 ]] || fail "status $result: $(cat "$work/run.log")"
  return "$result"
}

make_pool 64M
late_return "" || fail "$(cat "$work/run.log")"
check_pool
say "what was written is there"

IFS=.- read -r major minor _ <<<"$(uname -r)"
if ((major > 6 || (major == 6 && minor >= 16))); then
  say "no negative control: Linux $major.$minor waits for what is on its way"
  exit 0
fi
for attempt in {1..10}; do
  late_return fuse.nothing_returns_late || break
done
[[ -s $work/run.log ]] || fail "negative control: nothing is wrong although nothing is known to return late"
say "negative control, attempt $attempt: $(cat "$work/run.log")"
