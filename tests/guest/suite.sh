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
kind=$1 who=$2
shift 2
place=${UDAX_GUEST_POOLS%% *}
log=$(mktemp)
failed=0

as=()
if [[ $who == user ]]; then
  # fusermount3 is what an ordinary user mounts by.
  [[ -u $(command -v fusermount3) ]] || { echo "RESULT $kind $who all SKIPPED 0 fusermount3 is not setuid root"; exit 0; }
  chown 65534:65534 "$place"
  [[ -z ${UDAX_IN_GUEST:-} || -e /etc/mtab ]] || ln -s /proc/self/mounts /etc/mtab  # fusermount3 reads it
  # The tree may lie where only its owner gets to (/root). What is changed here is dropped with the guest.
  for folder in "$top" "$(realpath "$UDAX_BIN")"; do
    [[ -n ${UDAX_IN_GUEST:-} ]] || break
    while [[ $folder != / ]]; do
      chmod o+rx "$folder"
      folder=$(dirname "$folder")
    done
  done
  as=(setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/)
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
    devdax-2M:direct_late | devdax-2M:direct_storm)
      echo "RESULT $kind $who $script SKIPPED 0 its files are smaller than 2 MiB"
      continue
      ;;
  esac
  begun=$SECONDS
  run_one "$script"
  if [[ $outcome == FAILED ]]; then tail -n 40 "$log"; fi
  echo "RESULT $kind $who $script $outcome $((SECONDS - begun)) $reason"
done
if dmesg | grep -E 'Oops|BUG:|WARNING:'; then
  echo "RESULT $kind $who kernel FAILED 0 the guest's kernel complained"
  failed=1
fi
rm -f "$log"
exit "$failed"
