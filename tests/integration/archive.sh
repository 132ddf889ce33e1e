#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Round trips of a tree of oddities (odd_tree.py) by tar and rsync. Kept must be: names of any bytes, times in nanoseconds
# from 1905 to 2400, modes with setuid, setgid and sticky, owners, hard links, symlinks, fifos, sockets, devices, holes,
# xattrs, file capabilities, ACLs and default ACLs.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need python3 rsync tar setfacl setcap diff
[[ $(id -u) -eq 0 ]] || skip "owners, devices and capabilities take root"

make_pool 256M
mount_pool -o dev

manifest() { python3 "$here/manifest.py" "$@"; }
same() {  # same WHAT FIRST SECOND
  diff "$2" "$3" >"$work/diff" || fail "$1: $(head -n 20 "$work/diff" | cut -c 1-400)"
  say "$1: $(wc -l <"$2") files, all is kept"
}

python3 "$here/odd_tree.py" "$mnt/tree"
manifest "$mnt/tree" >"$work/live"
manifest --no-holes "$mnt/tree" >"$work/live-no-holes"

# The same tree elsewhere: what is read here must be what a filesystem of the kernel shows.
if python3 "$here/odd_tree.py" "$work/reference" 2>"$work/reference.log"; then
  manifest --no-holes "$work/reference" >"$work/expected"
  same "against the same tree on $(stat -f -c %T "$work")" "$work/expected" "$work/live-no-holes"
else
  say "not compared with $(stat -f -c %T "$work"), which cannot hold it: $(tail -n 1 "$work/reference.log")"
fi

remount_pool -o dev
manifest "$mnt/tree" >"$work/again"
same "after a re-mount" "$work/live" "$work/again"

# tar makes fifos and devices, but passes over sockets.
tar -C "$mnt" --format=posix --xattrs --xattrs-include='*' --acls --sparse --numeric-owner -cf "$mnt/tree.tar" tree \
  2>"$work/tar.log" || { cat "$work/tar.log" >&2; fail "tar -c"; }
mkdir "$mnt/by-tar"
tar -C "$mnt/by-tar" --warning=no-timestamp --xattrs --xattrs-include='*' --acls --numeric-owner -xpf "$mnt/tree.tar"
grep -v '^[^ ]*socket' "$work/live" >"$work/live-no-sockets"
manifest "$mnt/by-tar/tree" >"$work/by-tar"
same "tar" "$work/live-no-sockets" "$work/by-tar"

# rsync takes runs of zeroes for holes, and sets times of 64 bits; not the times of 5 TiB of hole in a minute, so that
# file stays out.
rsync -aXAHS --numeric-ids --exclude=/tree/sparse/far "$mnt/tree" "$mnt/by-rsync/"
grep -v "^b'sparse/far'" "$work/live" >"$work/live-no-far"
manifest "$mnt/by-rsync/tree" >"$work/by-rsync"
same "rsync" "$work/live-no-far" "$work/by-rsync"

cp -a --sparse=auto "$mnt/tree" "$mnt/by-cp"
manifest "$mnt/by-cp" >"$work/by-cp"
same "cp" "$work/live" "$work/by-cp"

unmount_pool
check_pool
mount_pool -o dev
manifest "$mnt/by-tar/tree" >"$work/by-tar"
same "tar's copy after a re-mount" "$work/live-no-sockets" "$work/by-tar"
rm -rf "$mnt/tree" "$mnt/by-tar" "$mnt/by-rsync" "$mnt/by-cp" "$mnt/tree.tar"
unmount_pool
check_pool
