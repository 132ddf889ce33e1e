#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Installs what udaxfs needs on Debian 12 and what is not there yet. Where all is there it does nothing, and
# needs no network and no privileges.
set -euo pipefail

usage() {
  cat <<'END'
Usage: deps.sh [--check] [build] [test] [stress] [bench] [direct] [guest]
  build    compiler, CMake, and the libraries that udaxfs is made of (the default)
  test     what the tests, the linters and the stress programs use in addition
  stress   what tests/integration/everything.sh runs beside that, where it is there
  bench    the peers that tools/bench.sh measures beside udaxfs, and gnuplot
  direct   what the tests of direct mapping run beside that, where it is there
  guest    an emulated machine with persistent memory (tests/guest), and the tools for its namespaces
  --check  install nothing: name what is missing, and fail if anything is
END
}

build_packages=(
  g++ cmake ninja-build pkg-config
  libfuse3-dev fuse3 libpmem2-dev libndctl-dev libdaxctl-dev libisal-dev liburing-dev
  libblkid-dev libspdlog-dev libcli11-dev nlohmann-json3-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  util-linux procps
)
test_packages=(
  clang-14 clang-format clang-tidy lld libclang-rt-14-dev
  python3 git attr acl sqlite3 rsync xfsprogs e2fsprogs fio stress-ng
)
stress_packages=(dbench fio stress-ng)
bench_packages=(fuse2fs e2fsprogs git sqlite3 fio gnuplot-nox python3)
direct_packages=(lmdb-utils libpmemobj-dev libpmem2-dev sqlite3 fio git python3)
guest_packages=(qemu-system-x86 xz-utils zstd ndctl daxctl python3 e2fsprogs xfsprogs)

check_only=false
packages=()
for argument in "$@"; do
  case $argument in
    build) packages+=("${build_packages[@]}") ;;
    test) packages+=("${test_packages[@]}") ;;
    stress) packages+=("${stress_packages[@]}") ;;
    bench) packages+=("${bench_packages[@]}") ;;
    direct) packages+=("${direct_packages[@]}") ;;
    guest) packages+=("${guest_packages[@]}") ;;
    --check) check_only=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[[ ${#packages[@]} -gt 0 ]] || packages=("${build_packages[@]}")

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "deps.sh: this is not a Debian system; see to it yourself that there is: ${packages[*]}" >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if $check_only; then
  echo "deps.sh: missing: ${missing[*]}" >&2
  exit 1
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if command -v sudo >/dev/null && { sudo -n true || true >/dev/tty; } 2>/dev/null; then
    as_root=(sudo)
  else
    {
      echo "deps.sh: these packages are missing, and installing them takes root (there is no usable sudo here)."
      echo "As root, run:  apt-get update && apt-get install ${missing[*]}"
    } >&2
    exit 1
  fi
fi
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

echo "deps.sh: installing ${missing[*]}"
# A package list that is there may do; if it does not, it is too old.
if ! apt install -y --no-install-recommends "${missing[@]}"; then
  apt update
  apt install -y --no-install-recommends "${missing[@]}"
fi
