# SPDX-License-Identifier: BSD-3-Clause
#
# What a guest is booted from, fetched once from Debian's packages into a cache and never installed: the 6.1 kernel (not the
# cloud flavour, which lacks 9p) and a static busybox. Sourced by run.sh.
#
#   UDAX_GUEST_CACHE   the cache's folder; $XDG_CACHE_HOME/udaxfs or ~/.cache/udaxfs if not set

# shellcheck shell=bash disable=SC2154
guest_cache=${UDAX_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/udaxfs}/guest-1

# Downloads and unpacks into the current folder; what went wrong is on standard error.
fetch_packages() {
  local kernel
  kernel=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-6/ && !/cloud/ {print $2; exit}')
  [[ -n $kernel ]] || { echo "apt knows no linux-image-amd64" >&2; return 1; }
  apt-get -qq -o APT::Sandbox::User=root download busybox-static "$kernel" || return 1
  local deb
  for deb in *.deb; do dpkg -x "$deb" . || return 1; done
  rm -f -- *.deb
}

# Makes vmlinux, busybox and modules/VERSION, with its table of dependencies, of what was unpacked.
prepare_cache() {
  local image version
  image=$(echo boot/vmlinuz-*)
  version=${image#boot/vmlinuz-}
  [[ -r $image && -x bin/busybox ]] || { echo "the packages lack a kernel or busybox" >&2; return 1; }
  python3 "$guest_here/unpack_kernel.py" "$image" vmlinux || return 1
  bin/busybox depmod -b . "$version" || return 1
  rm -rf usr boot
}

# Fails, with the reason on standard error, where the packages cannot be had.
fetch_guest() {
  [[ ! -e $guest_cache/vmlinux ]] || return 0
  mkdir -p "${guest_cache%/*}" || return 1
  (
    flock 9
    [[ ! -e $guest_cache/vmlinux ]] || exit 0
    new=$(mktemp -d "$guest_cache.XXXXXX") || exit 1
    trap 'rm -rf "$new"' EXIT
    trap 'exit 143' INT TERM
    cd "$new" || exit 1
    fetch_packages || exit 1
    prepare_cache || exit 1
    rm -rf "$guest_cache"
    mv -T "$new" "$guest_cache"
  ) 9>"$guest_cache.lock"
}
