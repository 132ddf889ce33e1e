#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the kernel leaves to the daemon, seen through a real mount. Run by mount_posix.sh.

Usage: mount_posix.py MOUNT. As root, checks that need another user run as uid 1000 in a child; without root they
are reported as not run.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import sys
import threading

top = sys.argv[1]
root = os.geteuid() == 0
libc = ctypes.CDLL(None, use_errno=True)
failures = []
not_run = []


def path(*names):
    return os.path.join(top, *names)


def check(condition, *what):
    if not condition:
        raise AssertionError(*what)


def refused(number, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except OSError as error:
        check(error.errno == number, f"{errno.errorcode[error.errno]} instead of {errno.errorcode[number]}")
        return
    raise AssertionError(f"not refused with {errno.errorcode[number]}")


def write_file(name, content=b"", mode=0o644):
    fd = os.open(path(name), os.O_CREAT | os.O_RDWR | os.O_TRUNC, mode)
    os.write(fd, content)
    os.close(fd)


def as_user(function, uid=1000, groups=(), denied=False):
    """Runs function as another user; False if it failed there (`denied`: as it should)."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            function()
            status = 0
        except BaseException as error:  # the child must not go on as a second parent
            if not denied:
                print(f"   as uid {uid}: {error!r}", file=sys.stderr)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


tests = []


def test(function):
    tests.append((function, False))
    return function


def root_test(function):
    tests.append((function, True))
    return function


@test
def tmpfile_gets_a_name():
    fd = os.open(top, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"no name yet")
    check(os.fstat(fd).st_nlink == 0)
    follow = 0x400  # AT_SYMLINK_FOLLOW; os.link calls link(2), which does not
    check(libc.linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, path("named").encode(), follow) == 0,
          os.strerror(ctypes.get_errno()))
    check(os.fstat(fd).st_nlink == 1)
    os.close(fd)
    with open(path("named"), "rb") as f:
        check(f.read() == b"no name yet")


@test
def unlinked_while_open():
    fd = os.open(path("gone"), os.O_CREAT | os.O_RDWR, 0o600)
    os.write(fd, b"still here")
    before = os.statvfs(top).f_bfree
    os.unlink(path("gone"))
    check(os.pread(fd, 100, 0) == b"still here")
    check(os.fstat(fd).st_nlink == 0)
    os.close(fd)
    check(not os.path.exists(path("gone")))
    os.sync()
    check(os.statvfs(top).f_bfree >= before)


@test
def space_comes_back_at_unlink_and_not_at_forget():
    write_file("large", b"x" * (16 << 20))
    used = os.statvfs(top).f_bfree
    os.unlink(path("large"))
    check(os.statvfs(top).f_bfree >= used + 4096, "blocks are not free although nothing has the file open")


@test
def umask_and_modes():
    old = os.umask(0o027)
    try:
        write_file("masked", mode=0o666)
        os.mkdir(path("masked_dir"), 0o777)
        os.mkfifo(path("masked_fifo"), 0o666)
    finally:
        os.umask(old)
    check(stat.S_IMODE(os.stat(path("masked")).st_mode) == 0o640)
    check(stat.S_IMODE(os.stat(path("masked_dir")).st_mode) == 0o750)
    check(stat.S_IMODE(os.stat(path("masked_fifo")).st_mode) == 0o640)


@test
def sockets_and_fifos():
    s = socket.socket(socket.AF_UNIX)
    s.bind(path("socket"))
    check(stat.S_ISSOCK(os.stat(path("socket")).st_mode))
    s.close()
    check(stat.S_ISFIFO(os.stat(path("masked_fifo")).st_mode))


@root_test
def device_nodes():
    number = os.makedev(0x123, 0x45678)
    os.mknod(path("device"), stat.S_IFBLK | 0o600, number)
    check(os.stat(path("device")).st_rdev == number)
    os.mknod(path("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with open(path("null"), "wb") as f:
        f.write(b"into nothing")


@test
def links_and_renames():
    write_file("a", b"A")
    write_file("b", b"B")
    os.rename(path("a"), path("b"))
    with open(path("b"), "rb") as f:
        check(f.read() == b"A")
    write_file("a", b"a")
    call = libc.renameat2
    check(call(-100, path("a").encode(), -100, path("b").encode(), 1) == -1)
    check(ctypes.get_errno() == errno.EEXIST)
    check(call(-100, path("a").encode(), -100, path("b").encode(), 2) == 0)
    with open(path("a"), "rb") as f:
        check(f.read() == b"A")
    os.mkdir(path("dir"))
    os.mkdir(path("dir", "inner"))
    refused(errno.EINVAL, os.rename, path("dir"), path("dir", "inner", "x"))
    refused(errno.ENOTEMPTY, os.rmdir, path("dir"))
    refused(errno.EISDIR, os.unlink, path("dir"))
    refused(errno.ENOTDIR, os.rmdir, path("a"))
    refused(errno.EEXIST, os.mkdir, path("dir"))
    target = "t" * 4095
    os.symlink(target, path("long_link"))
    check(os.readlink(path("long_link")) == target)
    name = "n" * 255
    write_file(name)
    check(name in os.listdir(top))
    refused(errno.ENAMETOOLONG, write_file, "n" * 256)


@test
def append_and_truncate():
    for dax in (False, True):
        write_file("log", b"")
        if dax:
            set_flags(path("log"), 0x02000000)
        fd = os.open(path("log"), os.O_WRONLY | os.O_APPEND)
        other = os.open(path("log"), os.O_WRONLY | os.O_APPEND)
        for i in range(50):
            os.write(fd if i % 2 else other, b"%04d" % i)
        os.close(fd)
        os.close(other)
        with open(path("log"), "rb") as f:
            check(f.read() == b"".join(b"%04d" % i for i in range(50)), "appends of two descriptors")
        os.truncate(path("log"), 6)
        os.truncate(path("log"), 10)
        with open(path("log"), "rb") as f:
            check(f.read() == b"000000\0\0\0\0", "truncate down and up")


def set_flags(name, flags):
    fd = os.open(name, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack("l", flags))
    os.close(fd)


def get_flags(name):
    fd = os.open(name, os.O_RDONLY)
    flags = struct.unpack("i", fcntl.ioctl(fd, 0x80086601, bytes(8))[:4])[0]
    os.close(fd)
    return flags & 0xFFFFFFFF


@test
def dax_flag_is_inherited():
    os.mkdir(path("flagged"))
    set_flags(path("flagged"), 0x02000000)
    write_file("flagged/file", b"x")
    os.mkdir(path("flagged", "sub"))
    check(get_flags(path("flagged", "file")) & 0x02000000)
    check(get_flags(path("flagged", "sub")) & 0x02000000)
    set_flags(path("flagged", "file"), 0)
    check(not get_flags(path("flagged", "file")) & 0x02000000)


@root_test
def immutable_and_append_only():
    write_file("pinned", b"x")
    set_flags(path("pinned"), 0x10)
    try:
        refused(errno.EPERM, os.unlink, path("pinned"))
        refused(errno.EPERM, os.open, path("pinned"), os.O_WRONLY)
    finally:
        set_flags(path("pinned"), 0x20)
    try:
        refused(errno.EPERM, os.open, path("pinned"), os.O_WRONLY)
        fd = os.open(path("pinned"), os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"y")
        os.close(fd)
    finally:
        set_flags(path("pinned"), 0)
    with open(path("pinned"), "rb") as f:
        check(f.read() == b"xy")


@test
def holes_and_seeks():
    fd = os.open(path("sparse"), os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(fd, b"data", 1 << 30)
    check(os.lseek(fd, 0, os.SEEK_DATA) == 1 << 30)
    check(os.lseek(fd, 0, os.SEEK_HOLE) == 0)
    refused(errno.ENXIO, os.lseek, fd, 2 << 30, os.SEEK_DATA)
    check(os.fstat(fd).st_blocks <= 16)
    os.posix_fallocate(fd, 0, 65536)
    check(os.fstat(fd).st_blocks >= 128)
    check(libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(65536)) == 0)
    check(os.fstat(fd).st_blocks <= 16)
    os.pwrite(fd, b"z" * 8192, 0)
    check(libc.fallocate(fd, 0x10, ctypes.c_long(100), ctypes.c_long(4096)) == 0)
    check(os.pread(fd, 8192, 0) == b"z" * 100 + bytes(4096) + b"z" * 3996)
    os.close(fd)


@test
def copy_file_range():
    content = os.urandom(3 << 20)
    write_file("from", content)
    a = os.open(path("from"), os.O_RDONLY)
    b = os.open(path("to"), os.O_CREAT | os.O_RDWR, 0o600)
    done = 0
    while done < len(content):
        n = os.copy_file_range(a, b, len(content) - done)
        check(n > 0)
        done += n
    check(os.pread(b, len(content), 0) == content)
    os.close(a)
    os.close(b)


@test
def extended_attributes():
    write_file("x")
    value = os.urandom(65536)
    os.setxattr(path("x"), "user.large", value)
    check(os.getxattr(path("x"), "user.large") == value)
    for i in range(100):
        os.setxattr(path("x"), f"user.{i}", str(i).encode())
    check(len(os.listxattr(path("x"))) >= 101)
    refused(errno.EEXIST, os.setxattr, path("x"), "user.1", b"", os.XATTR_CREATE)
    refused(errno.ENODATA, os.setxattr, path("x"), "user.none", b"", os.XATTR_REPLACE)
    os.removexattr(path("x"), "user.large")
    refused(errno.ENODATA, os.getxattr, path("x"), "user.large")
    if root:
        os.setxattr(path("x"), "trusted.t", b"t")
        check("trusted.t" in os.listxattr(path("x")))


@test
def a_large_directory():
    os.mkdir(path("many"))
    names = {f"entry-{i:05d}" for i in range(5000)}
    for name in names:
        os.close(os.open(path("many", name), os.O_CREAT | os.O_WRONLY, 0o600))
    with os.scandir(path("many")) as entries:
        seen = [e.name for e in entries if e.stat().st_size == 0]
    check(len(seen) == len(set(seen)) and set(seen) == names)
    for i, name in enumerate(os.listdir(path("many"))):  # removing while listing is over
        if i % 2:
            os.unlink(path("many", name))
    check(len(os.listdir(path("many"))) == 2500)


@test
def times():
    write_file("t")
    os.utime(path("t"), ns=(1_000_000_007, -5_000_000_003))
    s = os.stat(path("t"))
    check(s.st_atime_ns == 1_000_000_007 and s.st_mtime_ns == -5_000_000_003, s)
    before = os.stat(path("t")).st_ctime_ns
    os.chmod(path("t"), 0o600)
    check(os.stat(path("t")).st_ctime_ns >= before)


@test
def locks_are_the_kernels():
    write_file("lock")
    a = os.open(path("lock"), os.O_RDWR)
    b = os.open(path("lock"), os.O_RDWR)
    fcntl.flock(a, fcntl.LOCK_EX)
    refused(errno.EAGAIN, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    fcntl.lockf(a, fcntl.LOCK_EX, 10)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fd = os.open(path("lock"), os.O_RDWR)
            refused(errno.EAGAIN, fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)
            status = 0
        finally:
            os._exit(status)
    check(os.waitpid(child, 0)[1] == 0)
    os.close(a)
    os.close(b)


@test
def mappings_and_direct_io():
    for name in ("map_cached", "map_dax"):
        write_file(name, bytes(16384))
        if name == "map_dax":
            set_flags(path(name), 0x02000000)
        fd = os.open(path(name), os.O_RDWR)
        with mmap.mmap(fd, 16384) as m:
            m[5000:5005] = b"store"
            m.flush()
            check(os.pread(fd, 5, 5000) == b"store")
            os.pwrite(fd, b"write", 9000)
            check(m[9000:9005] == b"write")
        os.close(fd)
        fd = os.open(path(name), os.O_RDWR | os.O_DIRECT)
        buffer = mmap.mmap(-1, 4096)
        buffer[:4] = b"dire"
        check(os.pwritev(fd, [buffer], 12288) == 4096)
        check(os.preadv(fd, [buffer], 4096) == 4096 and buffer[904:909] == b"store")
        os.close(fd)
        with open(path(name), "rb") as f:
            check(f.read()[12288:12292] == b"dire")


@root_test
def handles_outlive_the_cache():
    class Handle(ctypes.Structure):
        _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]

    os.makedirs(path("h", "i"))
    write_file("h/i/file", b"by handle")
    handle = Handle(bytes=128)
    mount_id = ctypes.c_int()
    check(libc.name_to_handle_at(-100, path("h", "i", "file").encode(), ctypes.byref(handle),
                                 ctypes.byref(mount_id), 0) == 0, os.strerror(ctypes.get_errno()))
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("2")
    base = os.open(top, os.O_RDONLY)
    fd = libc.open_by_handle_at(base, ctypes.byref(handle), os.O_RDONLY)
    check(fd >= 0, os.strerror(ctypes.get_errno()))
    check(os.read(fd, 100) == b"by handle")
    os.close(fd)
    os.unlink(path("h", "i", "file"))
    write_file("h/i/file", b"another")
    check(libc.open_by_handle_at(base, ctypes.byref(handle), os.O_RDONLY) == -1)
    check(ctypes.get_errno() == errno.ESTALE, os.strerror(ctypes.get_errno()))
    os.close(base)


@root_test
def privileges_go_with_writes():
    # Each as the owner without CAP_FSETID: setuid, and setgid of an executable, must go.
    def made(name):
        write_file(name, b"x" * 100)
        os.chown(path(name), 1000, 1000)
        os.chmod(path(name), 0o6775)
        os.setxattr(path(name), "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
        return path(name)

    def check_gone(name, what):
        mode = os.stat(name).st_mode
        check(mode & 0o6000 == 0, f"{what}: mode {mode:o}")
        check("security.capability" not in os.listxattr(name), f"{what}: capability")

    def write(name):
        fd = os.open(name, os.O_WRONLY)
        os.write(fd, b"y")
        os.close(fd)

    def open_truncating(name):
        os.close(os.open(name, os.O_WRONLY | os.O_TRUNC))

    def allocate(name):
        fd = os.open(name, os.O_WRONLY)
        os.posix_fallocate(fd, 0, 8192)
        os.close(fd)

    def copy(name):
        source = os.open(path("source"), os.O_RDONLY)
        fd = os.open(name, os.O_WRONLY)
        os.copy_file_range(source, fd, 10)
        os.close(fd)

    write_file("source", b"0123456789")
    for what, change in (("write", write), ("truncate", lambda n: os.truncate(n, 5)), ("O_TRUNC", open_truncating),
                         ("fallocate", allocate), ("copy_file_range", copy)):
        name = made("privileged-" + what)
        check(as_user(lambda: change(name)), what)
        check_gone(name, what)
        if what == "write":
            name = made("privileged-dax")
            set_flags(name, 0x02000000)
            check(as_user(lambda: change(name)), what)
            check_gone(name, "write to a DAX file")
    name = made("privileged-chown")
    os.chown(name, 1001, 1001)
    check_gone(name, "chown by root")


@root_test
def setgid_directories():
    os.mkdir(path("group"))
    os.chown(path("group"), 0, 4321)
    os.chmod(path("group"), 0o2777)
    old = os.umask(0)
    try:
        def make():
            os.umask(0o022)
            os.mkdir(path("group", "sub"))
            os.close(os.open(path("group", "file"), os.O_CREAT | os.O_WRONLY, 0o2775))
        check(as_user(make))
    finally:
        os.umask(old)
    check(os.stat(path("group", "sub")).st_gid == 4321)
    check(os.stat(path("group", "sub")).st_mode & 0o2000)
    s = os.stat(path("group", "file"))
    check(s.st_gid == 4321 and s.st_uid == 1000)
    check(not s.st_mode & 0o2000, "setgid kept by one outside the group")


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, perm, ident) for tag, perm, ident in entries)


@root_test
def access_control_lists():
    everything = 0xFFFFFFFF
    write_file("guarded", b"secret", 0o600)
    check(not as_user(lambda: os.open(path("guarded"), os.O_RDONLY), denied=True))
    os.setxattr(path("guarded"), "system.posix_acl_access",
                acl((1, 6, everything), (2, 4, 1000), (4, 0, everything), (16, 4, everything), (32, 0, everything)))
    check(as_user(lambda: os.open(path("guarded"), os.O_RDONLY)), "a named user may read")
    check(not as_user(lambda: os.open(path("guarded"), os.O_WRONLY), denied=True))
    os.chmod(path("guarded"), 0o600)  # the group bits are the mask
    check(not as_user(lambda: os.open(path("guarded"), os.O_RDONLY), denied=True), "the mask holds")
    os.mkdir(path("default"))
    os.setxattr(path("default"), "system.posix_acl_default",
                acl((1, 7, everything), (2, 7, 1000), (4, 5, everything), (16, 7, everything), (32, 0, everything)))
    old = os.umask(0o077)
    try:
        write_file("default/file", b"", 0o666)
        os.mkdir(path("default", "sub"))
    finally:
        os.umask(old)
    check(stat.S_IMODE(os.stat(path("default", "file")).st_mode) == 0o660, "a default ACL takes the umask's place")
    check("system.posix_acl_default" in os.listxattr(path("default", "sub")))


@root_test
def the_caller_owns_what_he_makes():
    os.mkdir(path("public"))
    os.chmod(path("public"), 0o1777)

    def make():
        os.mkdir(path("public", "d"))
        os.symlink("x", path("public", "l"))
        os.mkfifo(path("public", "p"))
        os.close(os.open(path("public", "f"), os.O_CREAT | os.O_WRONLY))
        os.close(os.open(path("public"), os.O_TMPFILE | os.O_WRONLY))
        refused(errno.EACCES, os.mkdir, path("not_mine"))
        refused(errno.EPERM, os.chown, path("public", "f"), 1001, -1)
    check(as_user(make))
    for name in "dlpf":
        s = os.lstat(path("public", name))
        check((s.st_uid, s.st_gid) == (1000, 1000), name)
    check(as_user(lambda: refused(errno.EPERM, os.unlink, path("public", "f")), uid=1001), "sticky")


@test
def many_threads():
    def storm(number):
        try:
            base = path(f"storm{number}")
            os.mkdir(base)
            for i in range(150):
                name = os.path.join(base, str(i % 10))
                fd = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
                data = bytes([number]) * (1 + i * 997 % 300000)
                os.pwrite(fd, data, 0)
                if i % 7 == 0:
                    os.fsync(fd)
                if os.pread(fd, len(data), 0) != data:
                    failures.append(f"storm {number}, step {i}: wrong bytes")
                os.close(fd)
                if i % 3 == 0:
                    os.rename(name, name + "r")
                if i % 5 == 0:
                    os.unlink(name if os.path.exists(name) else name + "r")
        except BaseException as error:  # a thread's exception would be lost
            failures.append(f"storm {number}: {error!r}")

    threads = [threading.Thread(target=storm, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


for function, needs_root in tests:
    name = function.__name__.replace("_", " ")
    if needs_root and not root:
        not_run.append(name)
        continue
    try:
        function()
    except Exception as error:
        failures.append(f"{name}: line {error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else '?'}: {error!r}")
for name in not_run:
    print(f"not run without root: {name}")
for failure in failures:
    print(f"FAILED {failure}")
print(f"{len(tests) - len(not_run)} checks, {len(failures)} failures")
sys.exit(1 if failures else 0)
