# SPDX-License-Identifier: BSD-3-Clause
#
# What a guest is booted from, fetched once from Debian's packages into a cache and never installed: a kernel (6.12 of
# bookworm-backports, as shared mappings of DAX files through FUSE take Linux 6.6; else the one that apt knows. Not the cloud flavour,
# which lacks 9p) and a static busybox. Sourced by run.sh.
#
#   UDAX_GUEST_CACHE    the cache's folder; $XDG_CACHE_HOME/udaxfs or ~/.cache/udaxfs if not set
#   UDAX_GUEST_KERNEL   backports (the default), or stable

# shellcheck shell=bash disable=SC2154
guest_kernel=${UDAX_GUEST_KERNEL:-backports}
guest_cache=${UDAX_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/udaxfs}/guest-$guest_kernel-2

# Names the newest ordinary kernel that apt, with these options, knows.
find_kernel() { apt-cache "$@" depends linux-image-amd64 | awk '/Depends: linux-image-6/ && !/cloud/ {print $2; exit}'; }

# Downloads and unpacks into the current folder; what went wrong is on standard error.
fetch_packages() {
  local options=() kernel=''
  apt-get -qq -o APT::Sandbox::User=root download busybox-static || return 1
  if [[ $guest_kernel == backports ]]; then
    # Lists of its own: the machine's sources stay as they are.
    mkdir -p apt/lists/partial apt/cache/archives/partial
    # From where this machine has its own packages.
    # shellcheck disable=SC2016  # apt's variables
    apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | awk '$2 == "bookworm" {
      print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " $1 " bookworm-backports main"; exit }' >apt/sources
    options=(-o "Dir::Etc::SourceList=$PWD/apt/sources" -o Dir::Etc::SourceParts=/dev/null
      -o "Dir::State::Lists=$PWD/apt/lists" -o "Dir::Cache=$PWD/apt/cache" -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update && kernel=$(find_kernel "${options[@]}")
    [[ -n $kernel ]] || options=()
  fi
  [[ -n $kernel ]] || kernel=$(find_kernel)
  [[ -n $kernel ]] || { echo "apt knows no linux-image-amd64" >&2; return 1; }
  apt-get -qq "${options[@]}" -o APT::Sandbox::User=root download "$kernel" || return 1
  local deb
  for deb in *.deb; do dpkg -x "$deb" . || return 1; done
  rm -rf -- *.deb apt
}

# Makes vmlinux, bin/busybox and lib/modules/VERSION, with its table of dependencies, of what was unpacked.
prepare_cache() {
  local image version modules module
  image=$(echo boot/vmlinuz-*)
  version=${image#boot/vmlinuz-}
  [[ -r $image && -x bin/busybox ]] || { echo "the packages lack a kernel or busybox" >&2; return 1; }
  python3 "$guest_here/unpack_kernel.py" "$image" vmlinux || return 1
  # What a guest may load; all else is drivers of what it does not have.
  mkdir kept
  for modules in arch crypto fs lib mm net/9p drivers/acpi drivers/block drivers/char drivers/dax drivers/nvdimm drivers/virtio; do
    [[ -e lib/modules/$version/kernel/$modules ]] || continue
    mkdir -p "kept/${modules%/*}"
    mv "lib/modules/$version/kernel/$modules" "kept/$modules"
  done
  rm -rf "lib/modules/$version/kernel"
  mv kept "lib/modules/$version/kernel"
  while read -r module; do xz -d "$module" || return 1; done < <(find "lib/modules/$version" -name '*.ko.xz')
  bin/busybox depmod -b . "$version" || return 1
  rm -rf usr boot etc
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
