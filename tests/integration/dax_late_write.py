# SPDX-License-Identifier: BSD-3-Clause
#
# What dax_late_write.sh does on the mount: see there. dax_late_write.py DIR SIZE OFFSET; exit status 1: a byte is wrong.
import mmap
import os
import sys
import threading
import time

directory, size, offset = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
path = os.path.join(directory, "file")
with open(path, "xb") as f:  # a new one, which is not DAX yet
    f.write(b"o" * size)
cached = os.open(path, os.O_RDWR)
os.setxattr(path, "user.udax.dax", b"1")
direct = os.open(path, os.O_RDWR)
view = mmap.mmap(cached, size)
assert view[0:1] == b"o"  # the page is up to date, so the kernel does not keep it locked during a write

writer = threading.Thread(target=os.pwrite, args=(cached, b"written", offset))
writer.start()
# Until the write has reached the daemon, which sleeps a second over it.
time.sleep(0.3)
other = mmap.mmap(direct, size)  # drops the pages of the file
assert other[0:1] == b"o"  # and has the first filled anew
writer.join()


def check(what, found):
    if found != b"written":
        print(f"{what} shows {found!r} instead of what was written")
        sys.exit(1)


def check_ways():
    check("read(2)", os.pread(direct, 7, offset))
    check("a cached read(2)", os.pread(cached, 7, offset))
    check("a mapping", mmap.mmap(cached, 0)[offset : offset + 7])


if offset < size:
    check_ways()
else:
    # Of what is behind the end that the kernel knows: at once after the write, not when it returns.
    end = time.monotonic() + 5
    while mmap.mmap(cached, 0)[offset : offset + 7] != b"written" and time.monotonic() < end:
        time.sleep(0.01)
    check_ways()
other[0:1] = b"s"  # the whole page is written back
other.flush()
check_ways()
os.unlink(path)
