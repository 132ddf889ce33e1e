#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Trees of real files, copied in and compared: live, and after a re-mount. Then a git repository of one, checked by git.
# UDAX_FULL=1: all of /usr/share, and a repository of all of /usr/include.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need rsync git diff

files_max=3000  # of /usr/share, and of the repository
[[ -z ${UDAX_FULL:-} ]] || files_max=100000000

# Folders of $1 until they hold files_max files.
some_of() {
  local folder count=0 files
  for folder in "$1"/*/; do
    files=$(find "$folder" -printf x | wc -c)
    if ((count + files > files_max)); then continue; fi
    count=$((count + files))
    printf '%s\0' "${folder%/}"
  done
}

make_pool 4G
mount_pool

# What is compared: names, types, bytes, modes, owners, times, hard links, ACLs, xattrs.
compare() {  # compare FROM TO
  local differences
  differences=$(rsync -aHAXnc --delete --itemize-changes --numeric-ids "$1/" "$2/")
  [[ -z $differences ]] || fail "$1 and $2 differ: $(head -n 20 <<<"$differences")"
}

sources=("/usr/include")
mapfile -d '' shares < <(some_of /usr/share)
sources+=("${shares[@]}")
start=$SECONDS
mkdir "$mnt/tree"
for source in "${sources[@]}"; do
  mkdir -p "$mnt/tree/$(dirname "$source")"
  cp -a "$source" "$mnt/tree/$source"
done
count=$(find "$mnt/tree" | wc -l)
say "copied $count files, $(du -sm "$mnt/tree" | cut -f1) MiB, in $((SECONDS - start)) s"

for source in "${sources[@]}"; do
  diff -r --no-dereference "$source" "$mnt/tree/$source" >"$work/diff" || fail "$source: $(head -n 20 "$work/diff")"
done
say "diff -r finds no difference"
remount_pool
for source in "${sources[@]}"; do compare "$source" "$mnt/tree/$source"; done
say "after a re-mount rsync -aHAXnc finds no difference"

start=$SECONDS
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
mkdir "$mnt/repository"
while IFS= read -r -d '' folder; do cp -a "$folder" "$mnt/repository/"; done < <(some_of /usr/include)
git -C "$mnt/repository" init -q -b trunk
git -C "$mnt/repository" add -A
git -C "$mnt/repository" -c user.name=test -c user.email=test@localhost commit -q -m 'all of it'
git -C "$mnt/repository" fsck --full --strict --no-progress
git -C "$mnt/repository" gc -q
remount_pool
git -C "$mnt/repository" fsck --full --strict --no-progress
[[ -z $(git -C "$mnt/repository" status --porcelain) ]] || fail "git sees changes after a re-mount"
say "git: $(git -C "$mnt/repository" ls-files | wc -l) files added, committed, packed, checked in $((SECONDS - start)) s"

rm -rf "$mnt/repository"
remount_pool
[[ $(find "$mnt/tree" | wc -l) == "$count" ]] || fail "the tree has another number of files"
rm -rf "$mnt/tree"
[[ -z $(ls -A "$mnt") ]] || fail "rm -rf left something: $(ls -A "$mnt")"
unmount_pool
check_pool
say "all removed again, the pool is clean"
