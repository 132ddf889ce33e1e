#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Builds a part of this project on the mount, by two compilers at a time; a program built there must run from there, and
# a second run must find nothing to do, before and after a re-mount.
# UDAX_TARGETS: what to build (default udax_base udax_format; "all" for everything but the tests).
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need cmake ninja g++

read -r -a targets <<<"${UDAX_TARGETS:-udax_base udax_format}"
export CCACHE_DISABLE=1
make_pool 2G
mount_pool -o dev,exec

mkdir "$mnt/source"
for part in CMakeLists.txt CMakePresets.json LICENSE include src tools tests docs; do
  [[ ! -e $top/$part ]] || cp -a "$top/$part" "$mnt/source/"
done
# No debugging information and no optimization: it is the files that matter here.
cmake -S "$mnt/source" -B "$mnt/build" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O0 -DUDAX_TESTS=OFF \
  >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log" >&2; fail "cmake"; }
start=$SECONDS
ninja -C "$mnt/build" -j2 "${targets[@]}" >"$work/ninja.log" 2>&1 || { tail -n 40 "$work/ninja.log" >&2; fail "ninja"; }
say "built ${targets[*]} in $((SECONDS - start)) s: $(find "$mnt/build" -name '*.o' | wc -l) objects"

read -r -a libraries <<<"$(pkg-config --libs spdlog libisal)"
(cd "$mnt/source" && g++ -std=c++20 -O0 -Isrc -I. tests/stress/ack_writer*.cc "$mnt/build/libudax_base.a" "${libraries[@]}" \
  -pthread -o "$mnt/program") || fail "g++"

nothing_to_do() {
  local output
  output=$(ninja -C "$mnt/build" "${targets[@]}" | tail -n 1)
  [[ $output == *'no work to do'* ]] || fail "$1: ninja did more: $output"
}
runs() {
  rm -rf "$mnt/files" "$work/logs"
  mkdir "$mnt/files" "$work/logs"
  "$mnt/program" run "$mnt/files" "$work/logs" 2 1 200 && "$mnt/program" verify "$mnt/files" "$work/logs" 2 1 ||
    fail "$1: the program that was built does not work"
}
nothing_to_do "at once"
runs "at once"
remount_pool -o dev,exec
nothing_to_do "after a re-mount"
runs "after a re-mount"
say "what was built is complete and runs, also after a re-mount"
unmount_pool
check_pool
