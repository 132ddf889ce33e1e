#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Media errors for tests, by what the kernel has for it.

  inject.py poison POOL OFFSET     poisons the page of a devdax device or DAX file (MADV_HWPOISON; takes root)
  inject.py physical FILE OFFSET   prints where in its block device a byte of a file lies (FIEMAP)
  inject.py aligned EXTENTS        prints the first 2 MiB of a file, of `udaxctl extents --json`, that lie on a
                                   2 MiB boundary of the pool: their offset in the file and in the pool
"""

import ctypes
import ctypes.util
import fcntl
import json
import mmap
import os
import signal
import struct
import sys

HUGE = 2 << 20
MADV_HWPOISON = 100
FS_IOC_FIEMAP = 0xC020660B
FIEMAP_HEADER = struct.Struct("=QQLLLL")
FIEMAP_EXTENT = struct.Struct("=QQQQQLLLL")


def poison(path, offset):
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # The kernel tells those who have the page mapped: that is us.
    signal.signal(signal.SIGBUS, lambda *_: None)
    fd = os.open(path, os.O_RDWR)
    # The whole 2 MiB, as a device of that alignment maps no less; the byte is read to have its page mapped.
    base = offset // HUGE * HUGE
    address = libc.mmap(None, HUGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, base)
    if address in (None, ctypes.c_void_p(-1).value):
        sys.exit("mmap: " + os.strerror(ctypes.get_errno()))
    page = address + (offset - base) // 4096 * 4096
    ctypes.c_ubyte.from_address(page).value  # pylint: disable=expression-not-assigned
    if libc.madvise(page, 4096, MADV_HWPOISON) != 0:
        sys.exit("madvise: " + os.strerror(ctypes.get_errno()))


def physical(path, offset):
    fd = os.open(path, os.O_RDONLY)
    request = bytearray(FIEMAP_HEADER.pack(offset, 1, 1, 0, 1, 0) + bytes(FIEMAP_EXTENT.size))
    fcntl.ioctl(fd, FS_IOC_FIEMAP, request)
    mapped = FIEMAP_HEADER.unpack_from(request)[3]
    if mapped != 1:
        sys.exit("a hole")
    logical, where, length = FIEMAP_EXTENT.unpack_from(request, FIEMAP_HEADER.size)[:3]
    if not logical <= offset < logical + length:
        sys.exit("another extent")
    print(where + offset - logical)


def aligned(path):
    with open(path, encoding="utf-8") as file:
        extents = json.load(file)["extents"]
    for extent in extents:
        start = -(-extent["pool_offset"] // HUGE) * HUGE
        if start + HUGE <= extent["pool_offset"] + extent["bytes"]:
            print(extent["file_offset"] + start - extent["pool_offset"], start)
            return
    sys.exit("no 2 MiB of it lie on a boundary")


def main():
    what = sys.argv[1]
    if what == "poison":
        poison(sys.argv[2], int(sys.argv[3]))
    elif what == "physical":
        physical(sys.argv[2], int(sys.argv[3]))
    elif what == "aligned":
        aligned(sys.argv[2])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
