#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Inode flags by the bare ioctls, for what chattr and xfs_io do not say.

Usage: inode_flags.py [--as UID] COMMAND PATH [NUMBER...]
  getflags PATH                          FS_IOC_GETFLAGS, in hexadecimal
  setflags PATH FLAGS                    FS_IOC_SETFLAGS
  getx PATH                              FS_IOC_FSGETXATTR: flags and project id
  setx PATH XFLAGS [PROJECT [EXTSIZE]]   FS_IOC_FSSETXATTR
  create PATH / replace PATH             setxattr(2) of user.udax.dax to 1 with XATTR_CREATE / XATTR_REPLACE
What fails is told by its errno's name, with exit status 1.
"""

import errno
import fcntl
import os
import struct
import sys

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
XATTR = struct.Struct("=IIIII8x")  # xflags, extent size, extents, project, size for copy on write
GUARD = b"\xa5" * 4


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--as":
        user = int(arguments[1])
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        arguments = arguments[2:]
    command, path = arguments[:2]
    numbers = [int(text, 0) for text in arguments[2:]]
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if command == "getflags":
        # The number says 8 bytes, the kernel fills 4: what is behind them must stay.
        answer = fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4) + GUARD)
        if answer[4:] != GUARD:
            sys.exit("FS_IOC_GETFLAGS wrote more than 4 bytes")
        print(f"{struct.unpack('=I', answer[:4])[0]:#x}")
    elif command == "setflags":
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("=I", numbers[0]) + GUARD)
    elif command == "getx":
        xflags, _, _, project, _ = XATTR.unpack(fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(XATTR.size)))
        print(f"{xflags:#x} {project}")
    elif command == "setx":
        project = numbers[1] if len(numbers) > 1 else 0
        extent_size = numbers[2] if len(numbers) > 2 else 0
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, XATTR.pack(numbers[0], extent_size, 0, project, 0))
    elif command in ("create", "replace"):
        os.setxattr(path, "user.udax.dax", b"1", os.XATTR_CREATE if command == "create" else os.XATTR_REPLACE)
    else:
        sys.exit(__doc__)


try:
    main()
except OSError as error:
    # Of its two names, the one that the manual pages use.
    print("EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode.get(error.errno, error.errno))
    sys.exit(1)
