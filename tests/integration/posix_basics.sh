#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What programs may rely on (posix_tests), on cached and on DAX files.
# UDAX_FILTER: only these tests, as --gtest_filter takes them.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -x ${UDAX_BIN:-}/posix_tests ]] || skip "${UDAX_BIN:-}/posix_tests is not built"

for dax in never always; do
  make_pool 256M
  mount_pool -o dax=$dax
  chmod 755 "$mnt"
  UDAX_TEST_DIR=$mnt "$UDAX_BIN/posix_tests" --gtest_brief=1 --gtest_filter="${UDAX_FILTER:-*}" >"$work/tests.log" 2>&1 ||
    { cat "$work/tests.log"; fail "dax=$dax"; }
  grep -A1 -F '[  SKIPPED ]' "$work/tests.log" || true
  say "dax=$dax: $(tail -n 2 "$work/tests.log" | tr '\n' ' ')"
  [[ -z $(ls -A "$mnt") ]] || fail "something is left: $(ls -A "$mnt")"
  unmount_pool
  check_pool
  [[ -z ${UDAX_PEER:-} ]] || break
done
