# SPDX-License-Identifier: BSD-3-Clause
#
# What dax_late_return.sh does on the mount: see there. dax_late_return.py DIR; exit status 1: a byte is wrong.
import ctypes
import mmap
import os
import sys
import threading
import time

SYNC_FILE_RANGE_WRITE = 2

path = os.path.join(sys.argv[1], "file")
with open(path, "xb") as f:
    f.write(b"o" * 4096)
os.setxattr(path, "user.udax.dax", b"1")
direct = os.open(path, os.O_RDWR)
view = mmap.mmap(direct, 4096)

writer = threading.Thread(target=os.pwrite, args=(direct, b"written", 100))
writer.start()
time.sleep(0.3)  # the write has left the kernel, and the daemon sleeps a second over it
view[10:11] = b"s"
# The page goes to the daemon, which sleeps two seconds over it. (msync(2) would wait for the writer.)
libc = ctypes.CDLL(None, use_errno=True)
if libc.sync_file_range(direct, ctypes.c_int64(0), ctypes.c_int64(4096), SYNC_FILE_RANGE_WRITE) != 0:
    print(f"sync_file_range: {os.strerror(ctypes.get_errno())}")
    sys.exit(2)
writer.join()
time.sleep(2.5)  # a kernel that does not wait for it shows so by now
found = os.pread(direct, 7, 100)
stored = os.pread(direct, 1, 10)
if found != b"written" or stored != b"s":
    print(f"read(2) shows {found!r} and {stored!r} instead of what was written and stored")
    sys.exit(1)
os.unlink(path)
