# SPDX-License-Identifier: BSD-3-Clause
#
# What the scripts of direct mapping share beside common.sh; they source this one instead of it. A script is skipped where there
# can be no direct mapping.

# shellcheck shell=bash
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "a peer has no direct mapping"
if grep -qs '^UDAX_SANITIZE:STRING=.' "$UDAX_BIN/../CMakeCache.txt"; then skip "programs cannot preload what is built with a sanitizer"; fi
[[ $(id -u) -eq 0 ]] || skip "it takes root, whose userfaultfds see the kernel's faults"
[[ -e $UDAX_BIN/../lib/libudax_preload.so ]] || skip "the shim is not built"

start_direct() {  # start_direct SIZE MOUNT-OPTIONS: a new pool, mounted; its files are DAX files
  make_pool "$1"
  mount_pool -o "$2"
  setfattr -n user.udax.dax -v 1 "$mnt"
}
maps_less_than_2m() { [[ ! -c $pool || $(cat "/sys/bus/dax/devices/${pool##*/}/align") -lt $((2 << 20)) ]]; }  # directly
direct_counter() {  # direct_counter NAME; takes python3
  "$UDAX_BIN/udaxctl" stat --json "$mnt" | python3 -c "import json,sys; print(json.load(sys.stdin)['direct']['$1'])"
}
under() { timeout -s KILL 100 "$UDAX_BIN/udaxctl" run -- "$@"; }  # under COMMAND...: with the shim
wait_for() {  # wait_for WHAT COMMAND...
  local _
  for _ in {1..300}; do
    if "${@:2}"; then return 0; fi
    sleep 0.1
  done
  fail "not after 30 s: $1"
}
