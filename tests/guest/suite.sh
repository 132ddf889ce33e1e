#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# In a guest: runs integration scripts with their pools on the first of UDAX_GUEST_POOLS.
#
#   suite.sh KIND WHO SCRIPT...    KIND is for the result; WHO: root, or user (nobody, to whom the device or folder is given)
#
# For each script prints "RESULT KIND WHO SCRIPT OUTCOME SECONDS [REASON]"; after a failure also what it said.
set -euo pipefail
: "${UDAX_BIN:?is the folder of the programs}" "${UDAX_GUEST_POOLS:?is set by run.sh}"
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/guest/user.sh
source "$top/tests/guest/user.sh"
kind=$1 who=$2
shift 2
place=${UDAX_GUEST_POOLS%% *}
log=$(mktemp)
failed=0

as=()
if [[ $who == user ]] && ! become_user "$place"; then
  echo "RESULT $kind $who all SKIPPED 0 $user_refused"
  exit 0
fi

run_one() {  # run_one SCRIPT: sets outcome and reason
  local status=0
  if [[ -e $top/tests/integration/$1.sh ]]; then
    timeout 5400 "${as[@]}" env UDAX_POOL_PLACE="$place" bash "$top/tests/integration/$1.sh" >"$log" 2>&1 || status=$?
  else
    timeout 5400 "${as[@]}" "$UDAX_BIN/$1" >"$log" 2>&1 || status=$?
  fi
  reason=''
  case $status in
    0) outcome=PASSED ;;
    77) outcome=SKIPPED reason=$(sed -n 's/^SKIPPED [a-z0-9_]*: //p' "$log" | tail -n 1) ;;
    *) outcome=FAILED reason="status $status" failed=1 ;;
  esac
}

for script in "$@"; do
  # These take the pool's file apart, or rely on its size: a device cannot be treated so.
  case $kind:$script in
    devdax*:fsck_modes | devdax*:media_errors | devdax*:mount_basic | devdax*:options_errors | devdax*:full_pool | \
      devdax*:udaxctl_commands)
      echo "RESULT $kind $who $script SKIPPED 0 it works on a pool's file"
      continue
      ;;
    # Of these nothing would be mapped directly (docs/direct.md).
    devdax-2M:direct_late | devdax-2M:direct_flip | devdax-2M:direct_io | devdax-2M:direct_storm)
      echo "RESULT $kind $who $script SKIPPED 0 its files are smaller than 2 MiB"
      continue
      ;;
  esac
  begun=$SECONDS
  run_one "$script"
  if [[ $outcome == FAILED ]]; then tail -n 40 "$log"; fi
  echo "RESULT $kind $who $script $outcome $((SECONDS - begun)) $reason"
done
# Not that one: after a write(2) that failed, as those do whose daemon is killed, fs/fuse/file.c (fuse_send_write_pages) takes pages
# for not up to date that are mapped still, and the next store to one warns. No byte is lost by that.
if dmesg | grep -E 'Oops|BUG:|WARNING:' | grep -v 'WARNING: .* __folio_mark_dirty'; then
  echo "RESULT $kind $who kernel FAILED 0 the guest's kernel complained"
  failed=1
fi
rm -f "$log"
exit "$failed"
