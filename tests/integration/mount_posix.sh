#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the kernel leaves to the daemon (owners, umask, privileges, ACLs, handles, flags, holes ...), through a mount, with
# each mount option that changes the way it takes.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need python3
[[ -z ${UDAX_PEER:-} ]] || skip "its flags are ours"

for options in dax=inode dax=always dax=never,threads=1 attr_timeout=0,entry_timeout=0,negative_timeout=0,threads=2; do
  say "$options"
  make_pool 256M
  mount_pool -o "$options"
  if [[ $(id -u) -eq 0 ]]; then chmod 755 "$mnt"; fi
  python3 "$top/tests/integration/mount_posix.py" "$mnt"
  unmount_pool
  check_pool
done
