#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What programs may rely on (posix_tests), with each mount option that changes the way it takes.
# UDAX_FILTER: only these tests, as --gtest_filter takes them.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -x ${UDAX_BIN:-}/posix_tests ]] || skip "${UDAX_BIN:-}/posix_tests is not built"

for options in dax=inode dax=always dax=never,threads=1 attr_timeout=0,entry_timeout=0,negative_timeout=0,threads=2; do
  make_pool 256M
  mount_pool -o "$options"
  chmod 755 "$mnt"
  UDAX_TEST_DIR=$mnt "$UDAX_BIN/posix_tests" --gtest_brief=1 --gtest_filter="${UDAX_FILTER:-*}" >"$work/tests.log" 2>&1 ||
    { cat "$work/tests.log"; fail "$options"; }
  grep -A1 -F '[  SKIPPED ]' "$work/tests.log" || true
  say "$options: $(tail -n 2 "$work/tests.log" | tr '\n' ' ')"
  [[ -z $(ls -A "$mnt") ]] || fail "something is left: $(ls -A "$mnt")"
  unmount_pool
  check_pool
  [[ -z ${UDAX_PEER:-} ]] || break
done
