# SPDX-License-Identifier: BSD-3-Clause
#
# What scripts that start guests share; sourced. A signal ends such a script at once, and what it runs: commands run in the
# background, since bash would wait for one in the foreground first.
#
#   work_in NAME        makes the folder `work`; it goes, and what runs is ended, with the script
#   start COMMAND...    its output goes to $work/log; sets `running`
#   finish              waits for it; sets `status`
#   died_booting        after finish, of run.sh: QEMU's emulation, seldom, runs code that the booting kernel is patching; nothing of
#                       ours has run yet, and it may be started once more

# shellcheck shell=bash disable=SC2034  # what is set is for who sources this
running=''

tidy_up() {
  trap - EXIT
  if [[ -n $running ]]; then
    kill "$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
  fi
  rm -rf "$work"
}

work_in() {
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/$1.XXXXXX")
  trap tidy_up EXIT
  trap 'exit 143' INT TERM HUP
  # Who reads what this prints may be gone first; that must not keep it from tidying up.
  trap '' PIPE
}

start() {
  "$@" </dev/null >"$work/log" 2>&1 &
  running=$!
}

finish() {
  status=0
  wait "$running" || status=$?
  running=''
}

died_booting() { [[ $status -eq 125 ]] && grep -q 'Oops: int3' "$work/log"; }
