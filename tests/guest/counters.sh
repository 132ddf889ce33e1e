#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# In a guest: what is flushed for a megabyte that is written and synced. With ADR its cache lines, and those of the metadata; with
# eADR none. The medium says what it is durable by.
#
#   counters.sh KIND adr|eadr    prints "RESULT KIND DOMAIN counters OUTCOME SECONDS REASON"
set -euo pipefail
: "${UDAX_BIN:?is the folder of the programs}" "${UDAX_GUEST_POOLS:?is set by run.sh}"
kind=$1 domain=$2
ctl=$UDAX_BIN/udaxctl
pool=$UDAX_GUEST_POOLS
size=()
[[ ! -d $pool ]] || pool=$pool/pool size=(-s 256M)
mnt=$(mktemp -d)
fail() {
  umount "$mnt" 2>/dev/null || true
  echo "RESULT $kind $domain counters FAILED $SECONDS $*"
  exit 1
}
counter() { "$ctl" stat --json "$mnt" | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" | head -n 1; }

"$UDAX_BIN/mkfs.udaxfs" -q "${size[@]}" "$pool"
"$UDAX_BIN/udaxfs" -o dax=always "$pool" "$mnt"
: >"$mnt/file"
lines=$(counter flushed_lines) drains=$(counter drains) bytes=$(counter stored_bytes)
dd if=/dev/zero of="$mnt/file" bs=1M count=1 conv=notrunc,fsync status=none
lines=$(($(counter flushed_lines) - lines)) drains=$(($(counter drains) - drains)) bytes=$(($(counter stored_bytes) - bytes))
said=$("$ctl" info "$mnt" | sed -n 's/^durable by  *//p')
umount "$mnt"
[[ $bytes -ge 1048576 && $drains -ge 1 ]] || fail "$bytes bytes stored, $drains drains"
case $domain in
  adr)
    # 16384 lines of data; of metadata some, and a small part of that.
    [[ $lines -ge 16384 && $lines -le 17408 ]] || fail "$lines lines"
    [[ $said == "cache line"* ]] || fail "durable by $said"
    ;;
  eadr)
    [[ $lines -eq 0 ]] || fail "$lines lines"
    [[ $said == byte* ]] || fail "durable by $said"
    ;;
esac
echo "RESULT $kind $domain counters PASSED $SECONDS $lines lines flushed, $drains fences, for $bytes bytes; $said"
