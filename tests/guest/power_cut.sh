#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Power cuts: in a guest, workers log each acknowledged operation to a folder of this machine (ack_writer), QEMU is killed at a
# random moment, and the machine boots again on the same image: every acknowledged operation is there, and fsck finds nothing.
# Stores that were not flushed survive here, as the image does: what this shows is that a pool comes back through the real device
# path. That flushes are where they must be, the recording medium shows (docs/testing.md).
#
#   power_cut.sh KIND WHO [ROUNDS]    prints "RESULT KIND WHO power_cut OUTCOME SECONDS [REASON]"; WHO: root, or user (nobody)
#   UDAX_SEED: of the first round
set -euo pipefail
: "${UDAX_BIN:?is the folder of the programs}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/guest/background.sh
source "$here/background.sh"
kind=$1 who=$2
rounds=${3:-1}
workers=2
seed=${UDAX_SEED:-$((RANDOM << 15 | RANDOM))}
RANDOM=$((seed % 32768))

work_in udax-cut
mkdir "$work/share"
chmod 777 "$work/share"

# In the guest, $1 is what to do, $2 the share, $3 the round, $4 the seed, $5 the workers, $6 who, $7 this folder.
cat >"$work/share/inside" <<'END'
set -eu
if [[ $6 == user && $(id -u) -eq 0 ]]; then
  source "$7/user.sh"
  become_user "$UDAX_GUEST_POOLS" "$(dirname "$2")" || { echo "$user_refused"; exit 1; }
  exec "${as[@]}" bash "$0" "$@"
fi
pool=$UDAX_GUEST_POOLS
[[ ! -d $pool ]] || pool=$pool/pool
mnt=$(mktemp -d)
logs=$2/logs$3
case $1 in
  cut)
    if [[ $3 -eq 1 ]]; then
      size=()
      [[ -c $pool ]] || size=(-s 512M)
      "$UDAX_BIN/mkfs.udaxfs" -q "${size[@]}" "$pool"
    fi
    "$UDAX_BIN/udaxfs" "$pool" "$mnt"
    mkdir "$mnt/r$3" "$logs"
    touch "$2/go$3"
    "$UDAX_BIN/ack_writer" run "$mnt/r$3" "$logs" "$5" "$4"
    ;;
  verify)
    "$UDAX_BIN/udaxfs" "$pool" "$mnt"
    "$UDAX_BIN/ack_writer" verify "$mnt/r$3" "$logs" "$5" "$4"
    if [[ $(id -u) -eq 0 ]]; then umount "$mnt"; else fusermount3 -u "$mnt"; fi
    # It waits for the daemon to let go.
    "$UDAX_BIN/fsck.udaxfs" -n "$pool"
    ;;
esac
END

result() { echo "RESULT $kind $who power_cut $1 $SECONDS $2"; }
boot() {  # boot OPTIONS... -- ACTION ROUND: sets status
  local options=()
  while [[ $1 != -- ]]; do options+=("$1"); shift; done
  local _
  for _ in 1 2; do
    start "$here/run.sh" -t 300 -d "$kind:$work/image" -w "$work/share" "${options[@]}" \
      bash "$work/share/inside" "$2" "$work/share" "$3" "$((seed + $3))" "$workers" "$who" "$here"
    finish
    died_booting || break
  done
}

truncate -s 768M "$work/image"
: "${UDAX_CUT_MS_MAX:=6000}"
for ((round = 1; round <= rounds; round++)); do
  delay=$((RANDOM % UDAX_CUT_MS_MAX + 300))
  boot -c "$work/share/go$round:$delay" -- cut "$round"
  if [[ $status -eq 77 ]]; then cat "$work/log"; exit 77; fi
  if [[ $status -ne 137 ]]; then
    cat "$work/log"
    result FAILED "round $round, seed $seed: the machine ended by itself, status $status"
    exit 1
  fi
  boot -- verify "$round"
  cat "$work/log"
  if [[ $status -ne 0 ]]; then
    result FAILED "round $round, cut after $delay ms, seed $seed: status $status"
    exit 1
  fi
done
result PASSED "$rounds cuts, seed $seed"
