#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Ends of one side of direct mapping: a client that is killed leaves nothing at the daemon; a daemon that is killed leaves
# SIGBUS, and no hang; what was synced before everything is killed is there afterwards. And users whom the daemon refuses
# have the kernel's mappings.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3

# Stores, syncs, says so, and goes on touching new pages until it ends.
cat >"$work/toucher.py" <<'END_OF_PROGRAM'
import mmap, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, 16 << 20)
m = mmap.mmap(fd, 16 << 20)
for page in range(256):
    m[page * 4096:page * 4096 + 8] = b"%08d" % page
m.flush() if sys.argv[2] == "msync" else os.fsync(fd)
print("synced", flush=True)
page = 256
while True:
    m[(page % 4096) * 4096 + 16] = 1
    page += 1
    time.sleep(0.001)
END_OF_PROGRAM
touch_by() {  # touch_by FILE HOW: in the background; sets toucher
  : >"$work/said"  # not what the one before has said
  rm -f "$work/said"  # of the last one
  "$UDAX_BIN/udaxctl" run -- python3 "$work/toucher.py" "$mnt/$1" "$2" >"$work/said" 2>"$work/errors" &
  toucher=$!
  wait_for "the stores are synced" grep -q synced "$work/said"
}
no_clients() { [[ $(direct_counter clients) -eq 0 && $(direct_counter regions) -eq 0 ]]; }
synced_is_there() {  # synced_is_there FILE
  python3 -c "
import sys
data = open(sys.argv[1], 'rb').read()
bad = [p for p in range(256) if data[p * 4096:p * 4096 + 8] != b'%08d' % p]
sys.exit('lost: pages %s' % bad if bad else 0)" "$mnt/$1" || fail "$1: stores are lost"
}

start_direct 64M direct=owner
touch_by client fsync
[[ $(direct_counter clients) -eq 1 ]] || fail "there is no client: these are no direct mappings"
kill -9 "$toucher"
wait "$toucher" 2>/dev/null || true
wait_for "the daemon has forgotten the client" no_clients
synced_is_there client
rm "$mnt/client"
say "a client killed: nothing is left of it"

touch_by daemon msync
kill_daemon
ended() { ! kill -0 "$toucher" 2>/dev/null; }
wait_for "the client has ended" ended
status=0
wait "$toucher" || status=$?
[[ $status -eq 135 ]] || fail "the client ended with $status, not by SIGBUS: $(cat "$work/errors")"
mount_pool -o direct=owner
synced_is_there daemon
say "the daemon killed: SIGBUS, and what was synced is there"

for how in fsync msync; do
  touch_by "all-$how" $how
  kill -9 "$toucher" "$daemon"
  wait "$toucher" "$daemon" 2>/dev/null || true
  daemon=
  umount_now -l
  mount_pool -o direct=owner
  synced_is_there "all-$how"
done
say "$how, then all killed: what was synced is there"
unmount_pool
check_pool

# Refused: off, and another user. The same program has the kernel's mapping.
chmod 755 "$work"
for options in direct=off direct=uid:4711; do
  start_direct 64M "$options"
  touch_by refused fsync
  kill "$toucher"
  wait "$toucher" 2>/dev/null || true
  [[ $options == direct=off || $(direct_counter clients) -eq 0 ]] || fail "$options: there is a client"
  synced_is_there refused
  unmount_pool
  check_pool
  say "$options: the kernel's mapping"
done
