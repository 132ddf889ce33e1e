#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Installs what is missing, builds udaxfs with its assertions on, and runs the tests. The last line is CTest's
# closing line of the main run. Fails if anything failed; tests that this machine cannot run are named as skipped.
set -euo pipefail

usage() {
  cat <<'END'
Usage: test.sh [options] [-- CTEST-OPTIONS]
  --quick               leave out the stress and integration tests
  --sanitizers[=LIST]   before the main run, the same tests under asan-ubsan and then tsan (or those of LIST,
                        comma-separated)
  --san-labels=LABELS   what to run there: a CTest label pattern ('unit|races|crash|integration')
  --crash               only the crash states, all of them, and the mutations; the tables are the last that is printed
  --guest               only the tests on emulated persistent memory: devdax of 2 MiB and of 4 KiB pages, ext4 and xfs with DAX; the
                        table of results is the last that is printed. It takes hours; with --short (what the main
                        run has, as guest/short) minutes
  --lint                formatting, clang-tidy, shellcheck (if there), and a build by clang as well as by GCC
  --no-deps             install nothing
  --help                this text
The builds go to build/<preset>; with ccache if it is there, with precompiled headers if not.
END
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
quick=false
crash=false
guest=false
guest_options=()
lint=false
deps=true
sanitizers=()
san_labels='unit|races|crash|integration'
ctest_options=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick) quick=true ;;
    --sanitizers) sanitizers=(asan-ubsan tsan) ;;
    --sanitizers=*) IFS=, read -r -a sanitizers <<<"${1#*=}" ;;
    --san-labels=*) san_labels=${1#*=} ;;
    --crash) crash=true ;;
    --guest) guest=true ;;
    --short) guest_options=(--short) ;;
    --lint) lint=true ;;
    --no-deps) deps=false ;;
    --help | -h) usage; exit 0 ;;
    --) shift; ctest_options=("$@"); break ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
cd "$top"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { printf '\n== %s\n' "$*"; }

faster=(-DUDAX_PCH=ON)  # ccache would not keep what was compiled with precompiled headers
if command -v ccache >/dev/null; then faster=(-DUDAX_PCH=OFF -DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi

build() {  # build PRESET [TARGETS...]: all, if none are given
  say "building $1 in build/$1"
  local options=("${faster[@]}")
  if [[ $1 == clang ]]; then options+=(-DUDAX_PCH=OFF); fi  # a forgotten #include is found here
  cmake --preset "$1" "${options[@]}" >"$log" 2>&1 || { cat "$log"; return 1; }
  if [[ $# -eq 1 ]]; then cmake --build --preset "$1"; else cmake --build --preset "$1" --target "${@:2}"; fi
}

run_ctest() {  # run_ctest PRESET OPTIONS...
  local preset=$1
  shift
  say "testing $preset"
  local wrapper=()
  # Thread sanitizer's shadow memory does not fit around every address-space layout that newer kernels draw.
  if [[ $preset == tsan ]] && setarch -R true 2>/dev/null; then wrapper=(setarch -R); fi
  ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
    UBSAN_OPTIONS=print_stacktrace=1 \
    TSAN_OPTIONS=second_deadlock_stack=1 \
    "${wrapper[@]}" ctest --test-dir "$top/build/$preset" -j2 --output-on-failure --no-label-summary "$@"
}

run_lint() {
  say "formatting"
  local code=()
  mapfile -d '' code < <(find src include tests tools \( -name '*.cc' -o -name '*.h' -o -name '*.c' \) -print0)
  clang-format --dry-run -Werror "${code[@]}"
  if command -v shellcheck >/dev/null; then
    say "shell scripts"
    local scripts=()
    mapfile -d '' scripts < <(find tools tests -name '*.sh' -print0)
    shellcheck -S warning .ci/run "${scripts[@]}"
  fi
  build clang
  say "clang-tidy"
  local units=()
  mapfile -d '' units < <(find src tests tools -name '*.cc' -not -path 'tests/fuzz/*' -not -path 'tests/bench/*' -print0)
  printf '%s\0' "${units[@]}" | xargs -0 -n 4 -P 2 clang-tidy -p build/clang --quiet
}

if $deps; then
  tools/deps.sh build test
  if ! $quick && ! $crash; then tools/deps.sh guest || echo "test.sh: the tests on emulated persistent memory will be skipped"; fi
fi
exec </dev/null
if $lint; then run_lint; fi
for preset in "${sanitizers[@]}"; do
  targets=()
  if [[ $san_labels == '^unit$' ]]; then targets=(unit_programs); fi
  build "$preset" "${targets[@]}"
  run_ctest "$preset" -L "$san_labels"
done

if $crash; then
  build test udax-crash
  status=0
  say "crash states"
  "$top/build/test/bin/udax-crash" --jobs "$(nproc)" || status=1
  say "mutations"
  "$top/build/test/bin/udax-crash" --mutate --jobs "$(nproc)" || status=1
  exit "$status"
fi
if $guest; then
  build test
  say "emulated persistent memory"
  UDAX_BIN=$top/build/test/bin tests/guest/all.sh "${guest_options[@]}"
  exit 0
fi
build test
if $quick; then ctest_options+=(-LE 'stress|integration|guest'); fi
status=0
run_ctest test "${ctest_options[@]}" 2>&1 | tee "$log" || status=$?
# Skipped tests are listed after the closing line: say it again, for who looks at the end only.
grep -E '^[0-9]+% tests passed' "$log" | tail -n 1 || true
exit "$status"
