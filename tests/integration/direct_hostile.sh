#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Clients that the daemon refuses, and hostile ones: each gets a clear error, and a well-behaved client goes on all the while, every
# byte of it checked. A user who is not named, a file that is not open for stores, forged and used cookies, garbage on the
# socket, one that says nothing, and one that does not answer when its views are taken back.
set -euo pipefail
# shellcheck source=tests/integration/direct_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/direct_common.sh"
need python3

# Stores to all pages over and over, reads them back through the mapping and by read(2), until it is told to end.
cat >"$work/good.py" <<'END_OF_PROGRAM'
import mmap, os, sys
pages, rounds = 256, 0
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, pages * 4096)
m = mmap.mmap(fd, pages * 4096)
while not os.path.exists(sys.argv[2]):
    rounds += 1
    for page in range(pages):
        m[page * 4096 + 8:page * 4096 + 16] = b"%08d" % (rounds % 10**8)
    for page in range(0, pages, 16):
        want = b"%08d" % (rounds % 10**8)
        if os.pread(fd, 8, page * 4096 + 8) != want or m[page * 4096 + 8:page * 4096 + 16] != want:
            sys.exit("page %d: wrong in round %d" % (page, rounds))
    if rounds % 8 == 0:
        os.fsync(fd)
print(rounds)
END_OF_PROGRAM

# The protocol's other side, by hand: src/direct/protocol.h.
cat >"$work/hostile.py" <<'END_OF_PROGRAM'
import ctypes, errno, fcntl, mmap, os, select, socket, struct, sys, time
mount, what = sys.argv[1], sys.argv[2]
HELLO, SETUP, OPEN, MAP = 1, 2, 3, 5
SIZE = 64 << 20
LEAVE = 160  # bytes of udax_ioc_direct
board = []

def leave(path, flags=os.O_RDWR):
    fd = os.open(path, flags)
    data = bytearray(LEAVE)
    fcntl.ioctl(fd, (2 << 30) | (LEAVE << 16) | (0xDA << 8) | 5, data)
    return fd, data

def connect(data):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(20)
    length = struct.unpack_from("<I", data, 12)[0]
    s.connect(bytes(data[32:32 + length]))
    return s

def request(kind, **f):
    return struct.pack("<6I5Q16s", kind, 7, f.get("version", 0), f.get("flags", 0), f.get("prot", 0), f.get("handle", 0),
                       f.get("offset", 0), f.get("length", 0), f.get("file_offset", 0), 0, 0, f.get("cookie", bytes(16)))

def ask(s, packet, fds=()):
    try:
        socket.send_fds(s, [packet], fds) if fds else s.send(packet)
    except BrokenPipeError:
        pass  # refused already; the answer is there
    reply, got, _, _ = socket.recv_fds(s, 64, 4)
    if not reply:
        return errno.ECONNRESET, [], ()
    return struct.unpack_from("<I", reply, 8)[0], got, struct.unpack_from("<6Q", reply, 16)

def set_up(s, flags=1):
    error, fds, _ = ask(s, request(HELLO, version=3))
    want(error, 0, "hello")
    uffd = ctypes.CDLL(None, use_errno=True).syscall(323, os.O_CLOEXEC | os.O_NONBLOCK)
    api = bytearray(struct.pack("<3Q", 0xAA, 0, 0))
    fcntl.ioctl(uffd, 0xC018AA3F, api)
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
    error, given, _ = ask(s, request(SETUP, offset=1 << 40, length=SIZE, file_offset=1 << 41, flags=flags), [uffd, pagemap])
    want(error, 0, "setup")
    board[:] = given[1:]
    return fds[0]  # the stream; life and the rest stay open, too

def want(got, number, text):
    if got != number:
        sys.exit("%s: %s, not %s" % (text, errno.errorcode.get(got, got), errno.errorcode.get(number, number)))

def is_ended(s):
    try:
        return s.recv(100) == b""
    except ConnectionResetError:
        return True

fd, data = leave(mount + "/victim", os.O_RDONLY if what == "read-only" else os.O_RDWR)
cookie = bytes(data[16:32])
if what == "other user":
    os.setgid(65534)
    os.setuid(65534)
s = connect(data)
if what == "other user":
    want(ask(s, request(HELLO, version=3))[0], errno.EPERM, what)
elif what == "out of order":
    want(ask(s, request(OPEN, cookie=cookie))[0], errno.EPROTO, what)
    assert is_ended(s)
elif what == "silent":
    if not is_ended(s):
        sys.exit("who says nothing is waited for")
elif what == "forged":
    set_up(s)
    for guess in range(100):
        want(ask(s, request(OPEN, cookie=os.urandom(16)))[0], errno.EACCES, what)
elif what == "used":
    set_up(s)
    want(ask(s, request(OPEN, cookie=cookie))[0], 0, "open")
    want(ask(s, request(OPEN, cookie=cookie))[0], errno.EACCES, what)
elif what == "read-only":
    set_up(s)
    error, _, value = ask(s, request(OPEN, cookie=cookie))
    want(error, 0, "open")
    want(ask(s, request(MAP, handle=value[0], length=4096, prot=3))[0], errno.EACCES, what)
elif what == "no board":
    set_up(s)
    want(ask(s, request(OPEN, cookie=cookie, flags=1))[0], errno.EINVAL, what)
elif what == "unknown flag":
    set_up(s, flags=3)
    s.send(request(OPEN, cookie=cookie, flags=2))
    time.sleep(20)  # it is killed
elif what == "board":
    set_up(s, flags=3)
    error, _, value = ask(s, request(OPEN, cookie=cookie, flags=1))
    want(error, 0, "open")
    slot = struct.unpack("<8Q", os.pread(board[0], 64, value[2] * 64))
    want(slot[0] % 2, 0, "sequence")
    want(slot[1], os.fstat(fd).st_size, "size")
    for attempt in (lambda: mmap.mmap(board[0], 4096), lambda: os.pwrite(board[0], bytes(64), 0),
                    lambda: os.ftruncate(board[0], 0), lambda: os.ftruncate(board[0], 1 << 20)):
        try:
            attempt()
        except OSError as error:
            want(error.errno, errno.EPERM, "a board that may be changed")
        else:
            sys.exit("the board was changed")
    os.truncate(mount + "/victim", slot[1] // 2)
    cut = struct.unpack("<8Q", os.pread(board[0], 64, value[2] * 64))
    want(cut[1], slot[1] // 2, "size of what was cut")
    if cut[0] <= slot[0]:
        sys.exit("the sequence was not raised")
    os.truncate(mount + "/victim", slot[1])
elif what == "garbage":
    set_up(s)
    s.send(os.urandom(80))
    time.sleep(20)  # it is killed
elif what == "deaf":
    stream = socket.socket(fileno=set_up(s))
    error, _, value = ask(s, request(OPEN, cookie=cookie))
    want(error, 0, "open")
    s.send(request(MAP, handle=value[0], length=1 << 20, prot=1))
    while not select.select([s], [], [], 0)[0]:
        if select.select([stream], [], [], 0.1)[0]:
            ops = stream.recv(64 * 48)
            stream.send(ops[len(ops) - 48 + 8:len(ops) - 48 + 16] + bytes(8))  # all is done, it says
    want(struct.unpack_from("<I", s.recv(64), 8)[0], 0, "map")
    print("mapped", flush=True)
    time.sleep(60)  # it is killed
else:
    sys.exit("what?")
END_OF_PROGRAM

hostile() { timeout 60 python3 "$work/hostile.py" "$mnt" "$@"; }

chmod 755 "$work"
start_direct 64M direct=owner
head -c 1M /dev/urandom >"$mnt/victim"
chmod 666 "$mnt/victim"
under python3 "$work/good.py" "$mnt/good" "$work/end" >"$work/good.log" 2>&1 &
good=$!
has_good() { [[ $(direct_counter clients) -eq 1 ]]; }
wait_for "the good client is there" has_good

for what in "other user" "out of order" silent forged used read-only "no board" board; do
  hostile "$what" || fail "$what"
  say "$what: refused"
done
for what in garbage "unknown flag"; do
  before=$(direct_counter cut_offs)
  status=0
  hostile "$what" || status=$?
  [[ $status -eq 137 || $status -eq 124 ]] || fail "$what: who sent it ended with $status"
  [[ $status -eq 137 && $(direct_counter cut_offs) -eq $((before + 1)) ]] || fail "$what: who sent it was not cut off"
  say "$what: cut off"
done

if maps_less_than_2m; then  # or there is nothing to be taken back of a file of 1 MiB
  python3 "$work/hostile.py" "$mnt" deaf >"$work/deaf.log" 2>&1 &
  deaf=$!
  wait_for "the deaf one has its mapping" grep -q mapped "$work/deaf.log"
  since=$SECONDS
  timeout 20 fallocate -p -o 0 -l 65536 "$mnt/victim" || fail "a punch waits for who does not answer"
  timeout 20 truncate -s 4096 "$mnt/victim" || fail "a truncation waits for who does not answer"
  status=0
  wait "$deaf" || status=$?
  took=$((SECONDS - since))
  [[ $status -eq 137 ]] || fail "who does not answer ended with $status: $(cat "$work/deaf.log")"
  # By that limit and no other (kLateDeadlineMs): it has room in its stream, breaks no rule, and asks for nothing.
  why=$(sed -n 's/.*direct: process [0-9]* of user 0 \(.*\): it was killed.*/\1/p' "$work/daemon.log" | tail -n 1)
  [[ $why == "does not answer" ]] || fail "who does not answer was killed after $took s since it '$why'"
  [[ $took -ge 19 && $took -le 40 ]] || fail "who does not answer was killed after $took s, not 20"
  say "one that does not answer: the others go on, and it is killed after $took s"
fi

touch "$work/end"
wait "$good" || fail "the good client: $(cat "$work/good.log")"
say "the good client: $(cat "$work/good.log") rounds"
no_clients() { [[ $(direct_counter clients) -eq 0 && $(direct_counter regions) -eq 0 ]]; }
wait_for "the daemon has forgotten them all" no_clients
unmount_pool
check_pool
