#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Fills a mount to the last block and sees how each operation fails.

Usage: full_pool.py fill|verify|empty FOLDER
"""

import ctypes
import errno
import os
import shutil
import sys

libc = ctypes.CDLL(None, use_errno=True)
BLOCK = 4096


def fallocate(descriptor, mode, offset, length):
    if libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def pattern(number, length):
    return (b"%08d" % number) * (length // 8)


def write_all(path, data):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
    finally:
        os.close(descriptor)


def tree_state(top):
    """Names, sizes, link counts and blocks: what a failed operation must not change."""
    state = []
    for folder, folders, files in os.walk(top):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            state.append((path, info.st_mode, info.st_nlink, info.st_size, info.st_blocks))
    return state


def free_blocks(top):
    return os.statvfs(top).f_bfree


def until_full(name, operation, limit=1_000_000):
    """Repeats operation(n) until ENOSPC; gives how often it worked."""
    for n in range(limit):
        try:
            operation(n)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise SystemExit(f"{name}: {error}, where only ENOSPC is right")
            return n
    raise SystemExit(f"{name}: no ENOSPC after {limit} times")


def expect_full(top, name, operation):
    """One operation that needs space fails, and changes nothing."""
    state, free = tree_state(top), free_blocks(top)
    try:
        operation()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise SystemExit(f"{name}: {error}, where only ENOSPC is right")
    else:
        raise SystemExit(f"{name}: worked in a full pool")
    if tree_state(top) != state:
        changed = set(tree_state(top)) ^ set(state)
        raise SystemExit(f"{name}: failed, but changed {sorted(changed)[:6]}")
    if free_blocks(top) != free:
        raise SystemExit(f"{name}: failed, but took {free - free_blocks(top)} blocks")
    print(f"  ENOSPC, and nothing changed: {name}")


def fill_rest(top, tag):
    """Takes the last blocks, in ever smaller pieces."""
    path = os.path.join(top, "kept", "filler")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for size in (1 << 20, 1 << 16, BLOCK, 1):
        until_full(f"write ({tag})", lambda _, size=size: os.write(descriptor, b"f" * size))
    os.close(descriptor)


def fill(top):
    kept = os.path.join(top, "kept")
    os.mkdir(kept)
    for number in range(100):
        write_all(os.path.join(kept, f"file{number}"), pattern(number, 8 * (number * 97 % 4000 + 1)))
    victim = os.path.join(top, "victim")
    os.mkdir(victim)
    for number in range(40):
        write_all(os.path.join(victim, f"v{number}"), pattern(number, 2 * BLOCK))
    holes = os.open(os.path.join(top, "holes"), os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(holes, b"h" * BLOCK, 0)
    os.pwrite(holes, b"h" * BLOCK, 1 << 20)
    unwritten = os.open(os.path.join(top, "unwritten"), os.O_RDWR | os.O_CREAT, 0o644)
    fallocate(unwritten, 0, 0, 8 * BLOCK)
    os.mkdir(os.path.join(top, "empty"))
    tagged = os.path.join(top, "tagged")
    write_all(tagged, b"x")
    link_folder = os.path.join(top, "links")
    os.mkdir(link_folder)

    fill_rest(top, "first")
    # Inodes and directory entries may find room in blocks that are theirs already.
    made = until_full("create", lambda n: os.close(os.open(os.path.join(link_folder, f"c{n}"), os.O_CREAT | os.O_EXCL)))
    fill_rest(top, "again")
    linked = until_full("link", lambda n: os.link(tagged, os.path.join(link_folder, f"{n:05}" + "l" * 240)))
    fill_rest(top, "last")
    print(f"  filled: {free_blocks(top)} blocks are left; {made} inodes and {linked} names fitted in yet")

    expect_full(top, "create", lambda: os.open(os.path.join(link_folder, "n" * 250), os.O_CREAT | os.O_EXCL))
    expect_full(top, "mkdir", lambda: os.mkdir(os.path.join(link_folder, "d" * 250)))
    expect_full(top, "mknod", lambda: os.mkfifo(os.path.join(link_folder, "p" * 250)))
    expect_full(top, "symlink", lambda: os.symlink("t" * 4000, os.path.join(link_folder, "s")))
    expect_full(top, "link", lambda: os.link(tagged, os.path.join(link_folder, "k" * 250)))
    expect_full(top, "rename into a full directory", lambda: os.rename(tagged, os.path.join(link_folder, "r" * 250)))
    expect_full(top, "write into a hole", lambda: os.pwrite(holes, b"w" * BLOCK, 512 * 1024))
    expect_full(top, "write behind the end", lambda: os.pwrite(holes, b"w" * BLOCK, 4 << 20))
    expect_full(top, "fallocate", lambda: fallocate(holes, 0, 0, 64 << 20))
    expect_full(top, "fallocate, keep size", lambda: fallocate(holes, 1, 2 << 20, 1 << 20))
    expect_full(top, "setxattr, large", lambda: os.setxattr(tagged, "user.large", b"x" * 60000))
    expect_full(top, "O_TMPFILE with data", lambda: tmpfile_with_data(top))

    # What needs no new block works.
    os.pwrite(holes, b"o" * 100, 17)
    if os.pread(holes, 100, 17) != b"o" * 100:
        raise SystemExit("an overwrite in a full pool is not there")
    for n in range(8):
        os.pwrite(unwritten, b"%d" % n * BLOCK, n * BLOCK)  # reserved before
    os.fsync(unwritten)
    os.chmod(tagged, 0o600)
    os.utime(tagged, ns=(1, 2))
    os.close(holes)
    os.close(unwritten)
    print("  overwrites, writes to what fallocate reserved, chmod and utimes work")
    verify(top)


def tmpfile_with_data(top):
    descriptor = os.open(top, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        os.write(descriptor, b"t" * BLOCK)
    finally:
        os.close(descriptor)


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def verify(top):
    for number in range(100):
        if read(os.path.join(top, "kept", f"file{number}")) != pattern(number, 8 * (number * 97 % 4000 + 1)):
            raise SystemExit(f"kept/file{number} has other bytes")
    for number in range(40):
        if read(os.path.join(top, "victim", f"v{number}")) != pattern(number, 2 * BLOCK):
            raise SystemExit(f"victim/v{number} has other bytes")
    holes = read(os.path.join(top, "holes"))
    right = bytearray(b"h" * BLOCK + bytes((1 << 20) - BLOCK) + b"h" * BLOCK)
    right[17:117] = b"o" * 100
    if holes != right:
        raise SystemExit("holes has other bytes")
    if read(os.path.join(top, "unwritten")) != b"".join(b"%d" % n * BLOCK for n in range(8)):
        raise SystemExit("unwritten has other bytes")
    filler = os.path.join(top, "kept", "filler")
    if read(filler).strip(b"f"):
        raise SystemExit("the filler has other bytes")
    print("  every file has its bytes")


def empty(top):
    """Takes space away in every way, in a pool that was full when it was mounted."""
    free = free_blocks(top)
    os.unlink(os.path.join(top, "victim", "v0"))
    if free_blocks(top) < free + 2:
        raise SystemExit("unlink gave no blocks back")
    os.truncate(os.path.join(top, "victim", "v1"), 100)
    holes = os.open(os.path.join(top, "holes"), os.O_RDWR)
    fallocate(holes, 3, 1 << 20, BLOCK)
    if os.pread(holes, BLOCK, 1 << 20).strip(b"\0"):
        raise SystemExit("a punched hole has bytes")
    os.close(holes)
    os.rmdir(os.path.join(top, "empty"))
    os.rename(os.path.join(top, "victim", "v2"), os.path.join(top, "victim", "v3"))
    print(f"  unlink, truncate, punch, rmdir and rename work: {free_blocks(top) - free} blocks came back")
    # In the room that there is now, all goes on.
    write_all(os.path.join(top, "after"), b"a" * BLOCK)
    if read(os.path.join(top, "after")) != b"a" * BLOCK:
        raise SystemExit("a file made in the room that came back has other bytes")
    for name in os.listdir(top):
        path = os.path.join(top, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


if __name__ == "__main__":
    {"fill": fill, "verify": verify, "empty": empty}[sys.argv[1]](sys.argv[2])
