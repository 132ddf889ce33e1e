#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What programs may rely on (conformity_tests), as root and as an ordinary user, with each mount option that changes the way
# that calls take. What is skipped is printed, with its reason; see docs/testing.md.
# UDAX_FILTER: only these tests, as --gtest_filter takes them. UDAX_ONLY: only these mount options.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
program=${UDAX_BIN:-}/conformity_tests
[[ -x $program ]] || skip "$program is not built"
need setpriv

user=65534
run_tests() {  # run_tests NAME FOLDER [PREFIX...]
  local name=$1 folder=$2
  shift 2
  "$@" env UDAX_TEST_DIR="$folder" "$program" --gtest_brief=1 --gtest_filter="${UDAX_FILTER:-*}" >"$work/tests.log" 2>&1 ||
    { cat "$work/tests.log"; fail "$name"; }
  # Each reason once.
  grep -A2 -F ': Skipped' "$work/tests.log" | grep -v -e '^--$' -e ': Skipped$' -e '^$' | sort | uniq -c || true
  say "$name: $(tail -n 2 "$work/tests.log" | tr '\n' ' ')"
  [[ -z $(ls -A "$folder") ]] || fail "$name: something is left: $(ls -A "$folder")"
}

for options in ${UDAX_ONLY:-dax=inode dax=always dax=never,threads=1 data=atomic attr_timeout=0,entry_timeout=0,negative_timeout=0,threads=2}; do
  make_pool 256M
  mount_pool -o "$options"
  chmod 755 "$mnt"
  run_tests "$options, as $(id -un)" "$mnt"
  if [[ $(id -u) -eq 0 ]]; then
    chmod 755 "$work"
    mkdir "$mnt/home"
    chown $user:$user "$mnt/home"
    run_tests "$options, as a user" "$mnt/home" setpriv --reuid=$user --regid=$user --clear-groups --inh-caps=-all
    rmdir "$mnt/home"
  fi
  unmount_pool
  check_pool
  [[ -z ${UDAX_PEER:-} ]] || break
done
