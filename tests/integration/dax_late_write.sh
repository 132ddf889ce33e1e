#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A cached write(2) is in the kernel's page before the daemon hears of it, and the page is not locked. mmap(2) of the
# same file, opened for direct access, drops the page meanwhile; a load fills it anew, without what was written: then
# the daemon has to see to it that the page goes. With that taken away (a knob, in test builds) the old bytes are seen.
# Another knob has the daemon sleep over each cached write.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about DAX files, which a peer does not have"
need python3
grep -qaF fuse.write_late "$UDAX_BIN/udaxfs" || skip "this daemon was built without knobs (UDAX_SYNC_POINTS)"

late_write() {  # late_write KNOBS SIZE OFFSET: true if no byte is wrong
  local result=0
  UDAX_KNOBS="fuse.write_late,$1" mount_pool -o dax=inode
  timeout -k 10 60 python3 "$here/dax_late_write.py" "$mnt" "$2" "$3" >"$work/run.log" 2>&1 || result=$?
  rm -f "$mnt/file"
  unmount_pool
  [[ $result -le 1 ]] || fail "$2 bytes, a write at $3: status $result: $(cat "$work/run.log")"
  return "$result"
}

make_pool 64M
for where in "8192 100" "8192 4090" "2000 1998" "2000 2000"; do
  read -r size offset <<<"$where"
  late_write "" "$size" "$offset" || fail "$size bytes, a write at $offset: $(cat "$work/run.log")"
done
check_pool
say "what was written is seen"

for attempt in {1..10}; do
  late_write fs.copies.no_doubt 8192 100 || break
done
[[ -s $work/run.log ]] || fail "negative control: nothing is wrong without the look at the page"
say "negative control, attempt $attempt: $(cat "$work/run.log")"
