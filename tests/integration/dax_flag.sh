#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The DAX flag, and the others that come by the same calls: set and shown by every tool that can, inherited, refused by
# name, enforced, kept over crashes; with each mount option; and by copies of files.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "a peer has other flags"
need chattr lsattr xfs_io setfattr getfattr python3 rsync tar

flags() { python3 "$here/inode_flags.py" "$@"; }
flag() { getfattr --only-values -n user.udax.dax "$1" 2>/dev/null; }
state() { getfattr --only-values -n user.udax.state "$1" 2>/dev/null; }
is() {  # is PATH FLAG STATE: as every tool sees it
  [[ $(flag "$1") == "$2" ]] || fail "${BASH_LINENO[0]}: $1: user.udax.dax is '$(flag "$1")', not $2"
  [[ $(state "$1") == "$3" ]] || fail "${BASH_LINENO[0]}: $1: user.udax.state is '$(state "$1")', not $3"
  local letters xfs
  letters=$(lsattr -d "$1" | cut -d' ' -f1)
  xfs=$(xfs_io -r -c lsattr "$1" | cut -d' ' -f1)
  if [[ $2 == 1 ]]; then
    [[ $letters == *x* && $xfs == *x* ]] || fail "${BASH_LINENO[0]}: $1: lsattr says $letters, xfs_io $xfs"
  else
    [[ $letters != *x* && $xfs != *x* ]] || fail "${BASH_LINENO[0]}: $1: lsattr says $letters, xfs_io $xfs"
  fi
}
refused() {  # refused ERRNO-OR-TEXT COMMAND...
  local said
  if said=$("${@:2}" 2>&1); then fail "${BASH_LINENO[0]}: not refused: ${*:2}"; fi
  [[ $said == *"$1"* ]] || fail "${BASH_LINENO[0]}: ${*:2}: '$said' instead of $1"
}

make_pool 128M
mount_pool
chmod 755 "$mnt"

say "every tool, on files and directories"
mkdir "$mnt/dir"
echo content >"$mnt/file"
for path in "$mnt/file" "$mnt/dir"; do
  is "$path" 0 cached
  chattr +x "$path" && is "$path" 1 dax
  chattr -x "$path" && is "$path" 0 cached
  xfs_io -r -c 'chattr +x' "$path" && is "$path" 1 dax
  xfs_io -r -c 'chattr -x' "$path" && is "$path" 0 cached
  setfattr -n user.udax.dax -v 1 "$path" && is "$path" 1 dax
  setfattr -n user.udax.dax -v 0 "$path" && is "$path" 0 cached
  flags setflags "$path" 0x02000000 && is "$path" 1 dax
  [[ $(flags getflags "$path") == 0x2000000 && $(flags getx "$path") == "0x8000 0" ]] || fail "$(flags getflags "$path")"
  flags setx "$path" 0 && is "$path" 0 cached
  flags setx "$path" 0x8000 && is "$path" 1 dax
  setfattr -x user.udax.dax "$path" && is "$path" 0 cached
  "$UDAX_BIN/udaxctl" dax on "$path" && is "$path" 1 dax
  "$UDAX_BIN/udaxctl" dax off "$path" && is "$path" 0 cached
done
[[ $(cat "$mnt/file") == content ]] || fail "content"
getfattr -d "$mnt/file" 2>/dev/null | grep -q udax && fail "the flag is listed though it is not set"
chattr +x "$mnt/file"
getfattr -d "$mnt/file" 2>/dev/null | grep -q '^user.udax.dax="1"$' || fail "the flag is not listed though it is set"
ctime=$(stat -c %z "$mnt/file")
sleep 0.02
chattr -x "$mnt/file"
[[ $(stat -c %z "$mnt/file") != "$ctime" ]] || fail "the kernel still shows the ctime of before"

say "what is made in a flagged directory has the flag; what is there already, is linked or moved keeps its own"
echo before >"$mnt/dir/before"
mkdir "$mnt/dir/older"
chattr +x "$mnt/dir"
echo after >"$mnt/dir/after"
mkdir "$mnt/dir/younger"
echo deep >"$mnt/dir/younger/deep"
mkfifo "$mnt/dir/younger/fifo"
ln -s deep "$mnt/dir/younger/link"
ln "$mnt/file" "$mnt/dir/linked"
echo x >"$mnt/plain" && mv "$mnt/plain" "$mnt/dir/moved"
is "$mnt/dir/before" 0 cached
is "$mnt/dir/older" 0 cached
is "$mnt/dir/after" 1 dax
is "$mnt/dir/younger" 1 dax
is "$mnt/dir/younger/deep" 1 dax
is "$mnt/dir/linked" 0 cached
is "$mnt/dir/moved" 0 cached
python3 - "$mnt/dir" <<'PYTHON'
import os, sys
fd = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR)
assert os.getxattr(fd, "user.udax.dax") == b"1", "a file without a name does not inherit"
os.link(f"fd/{fd}", sys.argv[1] + "/named", src_dir_fd=os.open("/proc/self", os.O_RDONLY), follow_symlinks=True)
PYTHON
is "$mnt/dir/named" 1 dax
chattr -x "$mnt/dir"
echo late >"$mnt/dir/late"
is "$mnt/dir/late" 0 cached
is "$mnt/dir/after" 1 dax

say "refused, by name"
refused EOPNOTSUPP flags setflags "$mnt/file" 0x4          # compression
refused EOPNOTSUPP flags setflags "$mnt/file" 0x02000100
refused EOPNOTSUPP flags setx "$mnt/file" 0x8001           # real-time; preallocation never gets here
refused EOPNOTSUPP flags setflags "$mnt/file" 0x10000      # dirsync of a file
refused 'not supported' chattr +c "$mnt/file"
if said=$(flags setx "$mnt/file" 0x40000000); then fail "an unknown bit was taken"; fi
[[ $said == EOPNOTSUPP || $said == EINVAL ]] || fail "an unknown bit: $said"
if said=$(flags setx "$mnt/file" 0x800 0 4096); then fail "an extent size was taken"; fi
[[ $said == EOPNOTSUPP || $said == EINVAL ]] || fail "an extent size: $said"
for value in 2 '' 01 yes; do
  refused 'Invalid argument' setfattr -n user.udax.dax -v "$value" "$mnt/file"
done
refused EEXIST flags create "$mnt/file"
flags replace "$mnt/file" && is "$mnt/file" 1 dax
chattr -x "$mnt/file"
refused 'not permitted' setfattr -n user.udax.state -v dax "$mnt/file"
refused 'not permitted' setfattr -x user.udax.state "$mnt/file"
refused 'not supported' setfattr -n user.udax.other -v 1 "$mnt/file"
refused 'No such attribute' getfattr -n user.udax.other "$mnt/file"
refused 'not permitted' setfattr -h -n user.udax.dax -v 1 "$mnt/dir/younger/link"
refused 'not permitted' setfattr -n user.udax.dax -v 1 "$mnt/dir/younger/fifo"
refused 'ENOTTY' flags getflags "$mnt/dir/younger/fifo"
is "$mnt/file" 0 cached
if [[ $(id -u) -eq 0 ]]; then
  as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "$@"; }
  echo own >"$mnt/own" && chown 65534:65534 "$mnt/own"
  chmod 666 "$mnt/file"
  refused 'not permitted' as_user chattr +x "$mnt/file"
  refused 'not permitted' as_user setfattr -n user.udax.dax -v 1 "$mnt/file"
  refused 'EPERM' flags --as 65534 setx "$mnt/file" 0x8000
  as_user chattr +x "$mnt/own" && is "$mnt/own" 1 dax
  as_user setfattr -n user.udax.dax -v 0 "$mnt/own" && is "$mnt/own" 0 cached
  for letter in a i; do refused 'not permitted' as_user chattr "+$letter" "$mnt/own"; done
  for letter in A d S; do as_user chattr "+$letter" "$mnt/own"; done
  refused 'EPERM' flags --as 65534 setx "$mnt/own" 0 7  # a project
  is "$mnt/file" 0 cached
fi

if [[ $(id -u) -eq 0 ]]; then
  say "append-only, immutable, noatime, nodump, sync, project: kept and enforced"
  echo start >"$mnt/a"
  exec 7<>"$mnt/a"
  chattr +a "$mnt/a"
  refused 'not permitted' bash -c "echo x >'$mnt/a'"
  if echo over 2>/dev/null >&7; then fail "an open descriptor overwrites an append-only file"; fi
  exec 7>&-
  echo more >>"$mnt/a"
  refused 'not permitted' truncate -s 0 "$mnt/a"
  refused 'not permitted' rm -f "$mnt/a"
  chattr +i "$mnt/dir/before"
  refused 'not permitted' bash -c "echo x >>'$mnt/dir/before'"
  refused 'not permitted' rm -f "$mnt/dir/before"
  refused 'not permitted' chmod 600 "$mnt/dir/before"
  refused 'not permitted' chattr +x "$mnt/dir/before"
  refused 'not permitted' setfattr -n user.udax.dax -v 1 "$mnt/dir/before"
  is "$mnt/dir/before" 0 cached
  mkdir "$mnt/project"
  xfs_io -r -c 'chproj 42' -c 'chattr +P' "$mnt/project"
  echo x >"$mnt/project/file"
  [[ $(flags getx "$mnt/project/file") == *' 42' ]] || fail "the project is not inherited: $(flags getx "$mnt/project/file")"
  [[ $(lsattr -p -d "$mnt/project/file") == *42*  ]] || fail "lsattr -p: $(lsattr -p -d "$mnt/project/file")"
  chattr -p 43 "$mnt/project/file"
  [[ $(flags getx "$mnt/project/file") == *' 43' ]] || fail "chattr -p"
  refused 'Invalid cross-device link' ln "$mnt/file" "$mnt/project/file2"
  echo x >"$mnt/noatime"
  chattr +A "$mnt/noatime"
  touch -a -d '2001-01-01' "$mnt/noatime"
  cat "$mnt/noatime" >/dev/null
  [[ $(stat -c %x "$mnt/noatime") == 2001* ]] || fail "noatime: $(stat -c %x "$mnt/noatime")"
  chattr +dSx "$mnt/noatime"
  # By the one call and by the other: the same flags.
  [[ $(lsattr "$mnt/noatime" | cut -d' ' -f1 | tr -d -) == SdAx ]] || fail "$(lsattr "$mnt/noatime")"
  [[ $(flags getx "$mnt/noatime") == "0x80e0 0" ]] || fail "$(flags getx "$mnt/noatime")"
  flags setx "$mnt/noatime" 0x80c0
  [[ $(flags getflags "$mnt/noatime") == 0x20000c0 ]] || fail "$(flags getflags "$mnt/noatime")"
fi

say "every flip is kept over a crash right after it"
for n in 1 2 3 4 5 6; do
  value=$((n % 2))
  setfattr -n user.udax.dax -v $value "$mnt/file" "$mnt/dir/younger"
  kill_daemon
  mount_pool
  [[ $(flag "$mnt/file") == "$value" && $(flag "$mnt/dir/younger") == "$value" ]] || fail "lost in round $n"
done
if [[ $(id -u) -eq 0 ]]; then
  [[ $(lsattr "$mnt/a") == *a* && $(flags getx "$mnt/project/file") == *' 43' ]] || fail "other flags are lost"
fi
remount_pool
is "$mnt/file" 0 cached
is "$mnt/dir/after" 1 dax

say "flags go along with copies"
for copy in "cp -a" "rsync -aX" tar; do
  target=$mnt/copy-${copy%% *}
  mkdir "$mnt/source" && chattr +x "$mnt/source"
  echo dax >"$mnt/source/dax"
  chattr -x "$mnt/source" && echo cached >"$mnt/source/cached" && chattr +x "$mnt/source"
  if [[ $copy == tar ]]; then
    mkdir "$target"
    tar --xattrs --xattrs-include='user.*' -C "$mnt/source" -cf "$work/tar" .
    tar --xattrs --xattrs-include='user.*' -C "$target" -xf "$work/tar"
  else
    $copy "$mnt/source/" "$target"
  fi
  is "$target/dax" 1 dax
  [[ $(cat "$target/dax" "$target/cached") == $'dax\ncached' ]] || fail "$copy: content"
  # tar and rsync set a directory's attributes last; cp may set them first, and what it makes there inherits.
  [[ $copy == "cp -a" ]] || is "$target/cached" 0 cached
  is "$target" 1 dax
  # To where such an attribute means nothing, and back.
  if cp -a "$target" "$work/outside" 2>/dev/null && getfattr -n user.udax.dax "$work/outside/dax" >/dev/null 2>&1; then
    rm -rf "$target"
    cp -a "$work/outside" "$target"
    is "$target/dax" 1 dax
  fi
  rm -rf "$target" "$mnt/source" "$work/outside"
done

say "mount options override the flag, and let it be changed"
echo x >"$mnt/set" && chattr +x "$mnt/set"
echo x >"$mnt/clear"
for option in dax=always dax dax=never dax=inode; do
  remount_pool -o "$option"
  case $option in
    dax=never) set_is=cached clear_is=cached ;;
    dax=inode) set_is=dax clear_is=cached ;;
    *) set_is=dax clear_is=dax ;;
  esac
  is "$mnt/set" 1 $set_is
  is "$mnt/clear" 0 $clear_is
  chattr -x "$mnt/set" && is "$mnt/set" 0 $clear_is
  chattr +x "$mnt/set" && is "$mnt/set" 1 $set_is
  [[ $("$UDAX_BIN/udaxctl" info --json "$mnt") == *dax* ]] || fail "udaxctl info does not tell of dax"
  ! "$UDAX_BIN/udaxctl" dax show "$mnt/set" "$mnt/clear" | grep -v "$clear_is\|$set_is" || fail "udaxctl dax show"
done
refused 'dax' "$UDAX_BIN/udaxfs" -o dax=perhaps "$pool" "$work"
unmount_pool

say "a read-only mount shows, and refuses"
mount_pool -o ro
is "$mnt/set" 1 dax
refused 'Read-only file system' chattr -x "$mnt/set"
refused 'Read-only file system' setfattr -n user.udax.dax -v 0 "$mnt/set"
refused EROFS flags setx "$mnt/set" 0
refused 'Read-only file system' "$UDAX_BIN/udaxctl" dax off "$mnt/set"
is "$mnt/set" 1 dax
unmount_pool
check_pool
