# SPDX-License-Identifier: BSD-3-Clause
#
# What the scripts of the exercisers, udax-fsx and udax-storm, share beside common.sh; they source this one instead of it.
#
# Defines: seed, of the last run (UDAX_SEED: of the first); tool; seconds, which each run takes (UDAX_SECONDS); as_user, what a
# run is begun with.

# shellcheck shell=bash
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
as_user=()

take_exerciser() {  # take_exerciser NAME SECONDS: or the test is skipped
  tool=${UDAX_BIN:-}/$1
  [[ -x $tool ]] || skip "$tool is not built"
  seconds=${UDAX_SECONDS:-$2}
  seed=$(new_seed)
  mkdir "$work/save"
  say "seed $seed (UDAX_SEED=$seed repeats it)"
}
run() {  # run WHAT OPTIONS...: with a seed of its own; it must find nothing
  local what=$1 status=0
  shift
  seed=$((seed + 1))
  "${as_user[@]}" "$tool" -s "$seed" -d "$seconds" --save "$work/save" "$@" >"$work/run.log" 2>&1 || status=$?
  if [[ $status -ne 0 ]]; then
    cat "$work/run.log"
    [[ -z ${UDAX_SAVE:-} ]] || cp "$work/save/"* "$UDAX_SAVE"
    fail "$what, $*: status $status"
  fi
  say "$what: $(tail -n 1 "$work/run.log")"
}
expect() {  # expect STATUS COMMAND...
  local wanted=$1 status=0
  shift
  "$@" >"$work/tool.log" 2>&1 || status=$?
  [[ $status -eq $wanted ]] || { cat "$work/tool.log"; fail "$* ended with $status instead of $wanted"; }
}
need_knob() {  # need_knob KNOB: or the script ends here, and has passed
  grep -qaF "$1" "$UDAX_BIN/udaxfs" && return
  say "no negative control: this daemon was built without knobs (UDAX_SYNC_POINTS)"
  exit 0
}
