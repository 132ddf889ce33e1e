#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Prints everything that a copy of a tree must keep, one file a line, for diff(1).

Usage: manifest.py [--no-holes] [--no-mtime-of-dirs] TREE
Not printed: what a copy cannot keep (inode numbers, ctime, birth time) and atime.
"""

import errno
import hashlib
import os
import stat
import sys


BLOCK = 4096


def read_data(path):
    """Digest of the bytes, zeroes passed over (a file may be terabytes of hole), and where SEEK_DATA finds data."""
    total = hashlib.sha256()
    found = []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        at, size = 0, os.fstat(descriptor).st_size
        while at < size:
            try:
                start = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
            found.append(f"{start // BLOCK}-{(at + BLOCK - 1) // BLOCK}")
            for offset in range(start // BLOCK * BLOCK, at, BLOCK):
                block = os.pread(descriptor, BLOCK, offset).rstrip(b"\0")
                if block:
                    total.update(b"%d:" % offset + block)
    finally:
        os.close(descriptor)
    return total.hexdigest()[:16], ",".join(found) or "none"


def xattrs(path):
    parts = []
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        value = os.getxattr(path, name, follow_symlinks=False)
        parts.append(f"{name}={hashlib.sha256(value).hexdigest()[:12]}/{len(value)}")
    return ";".join(parts) or "-"


def main():
    options = {word for word in sys.argv[1:] if word.startswith("--")}
    (top,) = [os.fsencode(word) for word in sys.argv[1:] if not word.startswith("--")]
    paths = [b"."]
    for folder, folders, files in os.walk(top):
        paths += [os.path.relpath(os.path.join(folder, name), top) for name in folders + files]
    links = {}
    for path in sorted(paths):
        full = os.path.join(top, path)
        info = os.lstat(full)
        kind = stat.S_IFMT(info.st_mode)
        line = [repr(path), stat.filemode(info.st_mode), str(info.st_uid), str(info.st_gid)]
        if kind != stat.S_IFDIR or "--no-mtime-of-dirs" not in options:
            line.append(f"mtime={info.st_mtime_ns}")
        if kind != stat.S_IFDIR:
            first = links.setdefault(info.st_ino, path)
            line.append(f"nlink={info.st_nlink} first={first!r}")
        if kind == stat.S_IFREG:
            digest, data = read_data(full)
            line.append(f"size={info.st_size} sha={digest}")
            if "--no-holes" not in options:
                line.append(f"data={data}")
        elif kind == stat.S_IFLNK:
            line.append(f"to={os.readlink(full)!r}")
        elif kind in (stat.S_IFBLK, stat.S_IFCHR):
            line.append(f"rdev={os.major(info.st_rdev)}:{os.minor(info.st_rdev)}")
        line.append(xattrs(full))
        print(" ".join(line))


if __name__ == "__main__":
    main()
