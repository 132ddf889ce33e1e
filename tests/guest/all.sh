#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The tests on emulated persistent memory, and the table of their results.
#
#   all.sh [--short] [KIND]...    KIND: devdax-2M, devdax-4K, ext4-dax, xfs-dax (all, if none is given)
#   --short: devdax-2M and ext4-dax, and of each what takes seconds
#
# Status 77, after a line that says why: there can be no guest here. Guests run on emulated processors, twenty times slower than
# this machine: the rounds are few. UDAX_GUEST_SCRIPTS="a b" and UDAX_GUEST_USER_SCRIPTS="c" run these integration scripts instead, as
# root and as an ordinary user; UDAX_GUEST_CUTS=N makes so many power cuts of each kind.
set -euo pipefail
: "${UDAX_BIN:?is the folder of the programs}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/guest/background.sh
source "$here/background.sh"

short=false
kinds=()
for argument in "$@"; do
  case $argument in
    --short) short=true ;;
    devdax-2M | devdax-4K | ext4-dax | xfs-dax) kinds+=("$argument") ;;
    *)
      sed -n '5,7s/^# *//p' "$0" >&2
      exit 2
      ;;
  esac
done
if $short; then
  [[ ${#kinds[@]} -gt 0 ]] || kinds=(devdax-2M ext4-dax)
  as_root=(kill9)
  as_user=(dax_lost_update)
  cuts=1
else
  [[ ${#kinds[@]} -gt 0 ]] || kinds=(devdax-2M devdax-4K ext4-dax xfs-dax)
  as_root=(kill9 mount_basic fsck_modes dax_flag dax_mmap dax_lost_update dax_late_write dax_late_return dax_flip_live dax_storm udax_fsx udax_storm sqlite archive
    full_pool udaxctl_commands options_errors media_errors mount_helper mount_user kill_stuck transports direct_huge direct_kill
    direct_late direct_flip direct_hostile direct_io direct_programs direct_storm)
  as_user=(kill9 dax_flag dax_lost_update dax_flip_live udax_fsx)
  cuts=2
fi
if [[ -n ${UDAX_GUEST_SCRIPTS:-} ]]; then
  read -r -a as_root <<<"$UDAX_GUEST_SCRIPTS"
  read -r -a as_user <<<"${UDAX_GUEST_USER_SCRIPTS:-}"
fi
cuts=${UDAX_GUEST_CUTS:-$cuts}

# What the scripts take from their environment: few rounds.
export UDAX_ROUNDS=${UDAX_ROUNDS:-1} UDAX_WORKERS=${UDAX_WORKERS:-2} UDAX_SECONDS=${UDAX_SECONDS:-3}

work_in udax-guests
: >"$work/results"
failed=0

# run COMMAND...: shows what it prints; sets status.
run() {
  : >"$work/log"
  start "$@"
  tail -n +1 -s 0.2 -f --pid="$running" "$work/log" &
  local show=$!
  finish
  wait "$show" || true
}

# guest NAME COMMAND...: keeps its results. 77 ends all.
guest() {
  local name=$1 status
  shift
  echo "== $name"
  run "$@"
  if died_booting; then
    echo "== $name, once more"
    run "$@"
  fi
  grep '^RESULT ' "$work/log" >>"$work/results" || true
  if [[ $status -eq 77 ]] && grep -q '^SKIPPED guest' "$work/log"; then exit 77; fi
  if [[ $status -ne 0 ]]; then
    failed=1
    grep -q '^RESULT .* FAILED ' "$work/log" || echo "RESULT ${name% *} - ${name##* } FAILED 0 status $status" >>"$work/results"
  fi
}

guest "namespaces list" "$here/run.sh" -t 300 -m 2048 -d devdax-2M -d ext4-dax -d sector -d raw "$here/list.sh"
for kind in "${kinds[@]}"; do
  guest "$kind counters" "$here/run.sh" -t 300 -d "$kind" "$here/counters.sh" "$kind" adr
  guest "$kind counters" "$here/run.sh" -t 300 -p eadr -d "$kind" "$here/counters.sh" "$kind" eadr
  guest "$kind media_errors" "$here/run.sh" -t 600 -d "$kind" "$here/media_errors.sh" "$kind"
  guest "$kind root" "$here/run.sh" -t 14400 -m 2048 -d "$kind" "$here/suite.sh" "$kind" root "${as_root[@]}"
  if [[ ${#as_user[@]} -gt 0 ]]; then
    guest "$kind user" "$here/run.sh" -t 14400 -m 2048 -d "$kind" "$here/suite.sh" "$kind" user "${as_user[@]}"
  fi
  guest "$kind power_cut" "$here/power_cut.sh" "$kind" root "$cuts"
  if [[ ${#as_user[@]} -gt 0 ]]; then guest "$kind power_cut-user" "$here/power_cut.sh" "$kind" user "$cuts"; fi
done

echo
printf '%-11s %-5s %-17s %-8s %8s  %s\n' kind who test outcome seconds remark
while read -r _ kind who name outcome seconds remark; do
  printf '%-11s %-5s %-17s %-8s %8s  %s\n' "$kind" "$who" "$name" "$outcome" "$seconds" "$remark"
done <"$work/results"
printf '%s passed, %s skipped, %s failed\n' "$(grep -c ' PASSED ' "$work/results")" \
  "$(grep -c ' SKIPPED ' "$work/results")" "$(grep -c ' FAILED ' "$work/results")"
exit "$failed"
