#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nobody waits for ever (dax_storm): while pages are recalled from the kernel, others store to them, call with buffers that
# are mappings of the same files, sync, cut, flip; with one thread in the daemon and with more, with processes killed,
# with the kernel short of memory, and with the mount going away in the middle, in each way that it can.
# UDAX_SECONDS: how long each of the first runs takes (default 5). UDAX_ROUNDS: how often the mount goes in each way (default 3).
# UDAX_SEED: of the first.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "it is about DAX files, which a peer does not have"
program=${UDAX_BIN:-}/dax_storm
[[ -x $program ]] || skip "$program is not built"
[[ $(id -u) -eq 0 ]] || skip "only root can end a mount whose daemon is stuck (umount -f)"
seconds=${UDAX_SECONDS:-5}
seed=$(new_seed)
say "seed $seed (UDAX_SEED=$seed repeats it)"

# What is stuck would outlive this script, and its namespaces, but for the kernel's ending the connection.
give_up() {
  umount -f "$mnt" 2>/dev/null || true
  fail "$1, seed $seed: $(cat "$work/run.log")"
}
storm() {  # storm WHAT SECONDS WORDS...
  seed=$((seed + 1))
  timeout -s KILL "$(($2 + 200))" "$program" "$mnt" "$seed" "$2" "${@:3}" >"$work/run.log" 2>&1 || give_up "$1: status $?"
  say "$1: $(cat "$work/run.log")"
}

for options in threads=1 threads=2 dax=always,threads=4 dax=never,threads=1; do
  make_pool 64M
  mount_pool -o "$options"
  storm "$options" "$seconds"
  storm "$options, processes killed" "$seconds" kills
  unmount_pool
  check_pool
done

if { : >>/proc/sys/vm/drop_caches; } 2>/dev/null; then
  make_pool 64M
  mount_pool -o threads=1
  (while sleep 0.05; do echo 3 >/proc/sys/vm/drop_caches; done) &
  drops=$!
  storm "pages dropped all the while" "$seconds" kills
  kill "$drops"
  wait "$drops" 2>/dev/null || true
  unmount_pool
  check_pool
else
  say "without dropping pages: this kernel does not let us"
fi

# The mount goes: the daemon ends by itself, and so do those who used it.
end_in_the_middle() {  # end_in_the_middle WHAT COMMAND...
  seed=$((seed + 1))
  make_pool 64M
  mount_pool -o threads=2
  timeout -s KILL 200 "$program" "$mnt" "$seed" 120 until-gone >"$work/run.log" 2>&1 &
  local storms=$! _
  sleep "1.$((RANDOM % 10))"
  "${@:2}"
  wait "$storms" || give_up "$1"
  for _ in {1..600}; do
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.1
  done
  if kill -0 "$daemon" 2>/dev/null; then
    umount -f "$mnt" 2>/dev/null || true
    fail "$1, seed $seed: the daemon is still there"
  fi
  { wait "$daemon" 2>/dev/null || [[ $1 == killed ]]; } || fail "$1, seed $seed: the daemon ended with status $?"
  daemon=
  if is_mounted; then umount_now -l; fi
  mount_pool
  cat "$mnt"/file* >/dev/null
  unmount_pool
  check_pool
  say "$1 in the middle: all have ended"
}
terminate() { kill -TERM "$daemon"; }
abort() { umount -f "$mnt" 2>/dev/null || true; }  # "busy", but the connection is gone
crash() {
  kill -9 "$daemon"
  # Its thread that recalls pages may be in the kernel, waiting for what the others would have served, and keep the
  # connection up: see docs/dax.md.
  sleep 2
  abort
}
for ((round = 0; round < ${UDAX_ROUNDS:-3}; ++round)); do
  end_in_the_middle "SIGTERM" terminate
  end_in_the_middle "killed" crash
  end_in_the_middle "umount -f" abort
  end_in_the_middle "umount -l" umount -l "$mnt"
done
