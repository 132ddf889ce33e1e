#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes a tree of everything that archives and copies tend to lose.

Usage: odd_tree.py FOLDER (which must not exist). Device nodes, owners, trusted xattrs only as root.
"""

import os
import socket
import stat
import subprocess
import sys

NS = 1_000_000_000
TIMES = {  # name: seconds since 1970
    "epoch": 0,
    "before-1970": -1,
    "in-1905": -2_051_222_400,
    "at-2038": 2_147_483_647,
    "after-2038": 2_147_483_648,
    "after-2106": 4_294_967_297,
    "in-2400": 13_569_465_600,
}
NAMES = [
    b"new\nline", b"tab\tand space", b" leading", b"trailing ", b"-n", b"--help", b"*", b"?", b"back\\slash", b"quote'\"",
    b"$(date)", b"...", b"..x", b"\xff\xfe", b"\x01\x7f", "grüße-日本語".encode(), b"caf\xe9", b"x" * 255,
    ("ü" * 127).encode() + b"y", b"#", b"~", b"%", b"a:b",
]


def write(path, data=b"some bytes\n"):
    with open(path, "wb") as stream:
        stream.write(data)


def names(top):
    os.mkdir(top)
    for name in NAMES:
        write(os.path.join(top, name), name)
        os.mkdir(os.path.join(top, name[:250] + b".dir"))
    os.symlink(b"new\nline", os.path.join(top, b"link\nto"))


def times(top):
    os.mkdir(top)
    for name, seconds in TIMES.items():
        for ns in (0, 1, 123_456_789, 999_999_999):
            path = os.path.join(top, os.fsencode(f"{name}.{ns}"))
            write(path)
            at = seconds * NS + ns
            os.utime(path, ns=(at, at))
    link = os.path.join(top, b"symlink")
    os.symlink("epoch.0", link)
    os.utime(link, ns=(5 * NS + 7, 5 * NS + 7), follow_symlinks=False)


def modes(top):
    os.mkdir(top)
    for mode in (0o000, 0o400, 0o644, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777):
        path = os.path.join(top, b"%04o" % mode)
        write(path)
        if os.getuid() == 0:
            os.chown(path, 1000 + mode % 7, 2_000_000_000 + mode % 5)
        os.chmod(path, mode)
    for mode in (0o755, 0o1777, 0o2775, 0o3770):
        path = os.path.join(top, b"dir-%04o" % mode)
        os.mkdir(path)
        os.chmod(path, mode)


def links(top):
    os.mkdir(top)
    write(os.path.join(top, b"one"))
    for n in range(20):
        os.link(os.path.join(top, b"one"), os.path.join(top, b"other-%d" % n))
    for name, target in ((b"relative", b"one"), (b"absolute", b"/etc/passwd"), (b"broken", b"nowhere"), (b"loop", b"loop"),
                         (b"59-bytes", b"t" * 59), (b"255-bytes", b"t" * 255), (b"long", b"d/" * 2047 + b"e")):
        os.symlink(target, os.path.join(top, name))
    os.link(os.path.join(top, b"broken"), os.path.join(top, b"broken-again"), follow_symlinks=False)


def special(top):
    os.mkdir(top)
    os.mkfifo(os.path.join(top, b"fifo"), 0o620)
    if os.getuid() == 0:
        for name, kind, major, minor in ((b"null", stat.S_IFCHR, 1, 3), (b"loop0", stat.S_IFBLK, 7, 0),
                                         (b"far", stat.S_IFCHR, 511, 0xfffff), (b"zero", stat.S_IFBLK, 0, 1)):
            os.mknod(os.path.join(top, name), kind | 0o640, os.makedev(major, minor))
    here = os.getcwd()
    os.chdir(top)
    server = socket.socket(socket.AF_UNIX)
    server.bind(b"socket")
    server.close()
    os.chdir(here)


def sparse(top):
    """Data at 64 KiB steps: no archiver's idea of a block splits them."""
    os.mkdir(top)
    block = bytes(range(1, 256)) * 17
    layouts = {
        b"hole-first": [(1 << 20, 4096)],
        b"hole-last": [(0, 4096)],
        b"many": [(n << 17, 4096) for n in range(40)],
        b"all-hole": [],
        b"far": [(5 << 40, 4096)],
    }
    sizes = {b"hole-last": 3 << 20, b"all-hole": 10 << 20}
    for name, pieces in layouts.items():
        with open(os.path.join(top, name), "wb", buffering=0) as stream:
            for at, length in pieces:
                os.pwrite(stream.fileno(), block[:length], at)
            if name in sizes:
                stream.truncate(sizes[name])


def attributes(top):
    os.mkdir(top)
    path = os.path.join(top, b"xattrs")
    write(path)
    os.setxattr(path, b"user.empty", b"")
    os.setxattr(path, b"user.text", b"value")
    os.setxattr(path, b"user.binary", bytes(range(256)))
    os.setxattr(path, b"user." + b"n" * 250, b"the longest name")
    os.setxattr(path, b"user.large", b"L" * 60000)
    for n in range(30):
        os.setxattr(path, b"user.number.%d" % n, b"%d" % n * 20)
    os.setxattr(top, b"user.on-a-directory", b"yes")
    if os.getuid() == 0:
        os.setxattr(path, b"trusted.test", b"root only")
    write(os.path.join(top, b"capable"))
    subprocess.run(["setcap", "cap_net_raw,cap_chown+ep", os.path.join(top, b"capable")], check=os.getuid() == 0,
                   stderr=subprocess.DEVNULL)


def acls(top):
    os.mkdir(top)

    def setfacl(*words):
        subprocess.run(["setfacl", *words], check=True)

    path = os.path.join(top, b"file")
    write(path)
    setfacl("-m", "u:1001:rw,u:1002:r,g:1003:rwx,m:rw", path)
    folder = os.path.join(top, b"folder")
    os.mkdir(folder)
    setfacl("-m", "u:1001:rwx,d:u:1001:rwx,d:g:1003:rx,d:o::-", folder)
    write(os.path.join(folder, b"inherits"))
    os.mkdir(os.path.join(folder, b"inherits-too"))


def main():
    (top,) = sys.argv[1:]
    os.umask(0o022)
    os.mkdir(top)
    for make in (names, times, modes, links, special, sparse, attributes, acls):
        make(os.path.join(os.fsencode(top), make.__name__.encode()))
    # Known times for everything else; directories last, since what is made in them changes theirs.
    stamp = (1_234_567_890 * NS + 111, 1_000_000_000 * NS + 222)
    for folder, _, files in os.walk(os.fsencode(top), topdown=False):
        if os.path.basename(folder) != b"times":
            for name in files:
                os.utime(os.path.join(folder, name), ns=stamp, follow_symlinks=False)
        os.utime(folder, ns=stamp)


if __name__ == "__main__":
    main()
