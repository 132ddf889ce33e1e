#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# In a guest with a devdax, an fsdax (ext4), a sector and a raw namespace: udaxctl list tells what ndctl and daxctl tell; pools
# are named in every way; what cannot be a pool is refused with the sentence that helps.
set -euo pipefail
: "${UDAX_BIN:?is the folder of the programs}" "${UDAX_GUEST_POOLS:?is set by run.sh}"
ctl=$UDAX_BIN/udaxctl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "FAILED list: $*"
  echo "RESULT namespaces root list FAILED $SECONDS"
  exit 1
}
# shellcheck disable=SC2086  # they are words
set -- $UDAX_GUEST_POOLS
devdax=$1 folder=$2 sector=$3 raw=$4

refused() {  # refused TEXT COMMAND...
  local said
  if said=$("${@:2}" 2>&1); then fail "not refused: ${*:2}"; fi
  [[ $said == *"$1"* ]] || fail "${*:2}: '$said' instead of $1"
}

"$UDAX_BIN/mkfs.udaxfs" -q -L first namespace0.0
uuid=$("$ctl" info --json "$devdax" | sed -n 's/^ *"uuid": "\([^"]*\)".*/\1/p')
[[ -n $uuid ]] || fail "no uuid"
for name in LABEL=first "UUID=$uuid" "UUID=${uuid^^}" namespace0.0 "$devdax"; do
  "$ctl" info "$name" | grep -q "^uuid  *$uuid" || fail "$name is not found"
  "$UDAX_BIN/fsck.udaxfs" -n "$name" >"$work/out" || fail "fsck of $name: $(cat "$work/out")"
done
refused "there is no namespace9.9" "$UDAX_BIN/mkfs.udaxfs" namespace9.9
refused "LABEL=second" "$ctl" info LABEL=second
echo "names: done"

refused "is fsdax: put ext4 or xfs on" "$UDAX_BIN/mkfs.udaxfs" namespace1.0
refused "is fsdax: put ext4 or xfs on" "$UDAX_BIN/mkfs.udaxfs" "/dev/$(basename "$folder")"
refused "sector mode" "$UDAX_BIN/mkfs.udaxfs" "$sector"
refused "is raw" "$UDAX_BIN/mkfs.udaxfs" "$raw"
refused "already holds a udaxfs pool" "$UDAX_BIN/mkfs.udaxfs" "$devdax"
echo "refusals: done"

mkdir "$work/mnt"
"$UDAX_BIN/udaxfs" LABEL=first "$work/mnt"
"$ctl" list
"$ctl" list --json >"$work/ours"
ndctl list -BNR >"$work/ndctl"
daxctl list >"$work/daxctl"
/usr/bin/python3 "$(dirname "$0")/list_compare.py" "$work/ours" "$work/ndctl" "$work/daxctl" || fail "other facts"
refused "is in use by udaxfs (pid" "$UDAX_BIN/mkfs.udaxfs" -f namespace0.0
umount "$work/mnt"
# The daemon ends a little later; list says so when it has.
for _ in {1..100}; do
  "$ctl" list --json | grep -q '"used_by": "udaxfs' || break
  sleep 0.1
done
if "$ctl" list --json | grep -q '"used_by": "udaxfs'; then fail "in use by a daemon that is gone"; fi
echo "RESULT namespaces root list PASSED $SECONDS"
