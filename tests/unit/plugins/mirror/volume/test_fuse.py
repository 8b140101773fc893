"""The FUSE protocol: hand-made packets over a socket pair, as the kernel would send them."""

import errno
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume import fuse
from safekit_py.plugins.mirror.volume.fuse import Session
from safekit_py.plugins.mirror.volume.request import LARGEST, VolumeFile

SIZE = 64 << 20
FILES = (VolumeFile("one", SIZE), VolumeFile("two", SIZE // 2))


class Kernel:
    """The other end of the descriptor."""

    def __init__(self, **options):
        self.end, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (self.end, self._ours):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self.end.settimeout(5)
        self.session = Session(self._ours.fileno(), FILES, resend=False, **options)
        self._unique = 0

    def send(self, opcode, body=b"", node=2, length=None, extensions=0):
        self._unique += 2
        header = fuse.IN.pack(length or fuse.IN.size + len(body), opcode, self._unique, node, 0, 0, 0, extensions, 0)
        self.end.send(header + body)
        return self._unique

    def heard(self):
        data = self.end.recv(2 << 20)
        length, error, unique = fuse.OUT.unpack_from(data)
        assert length == len(data)
        return unique, -error, data[fuse.OUT.size :]

    def call(self, opcode, body=b"", node=2, **how):
        """The answer to what the session answers by itself."""
        asked = self.send(opcode, body, node, **how)
        assert self.session.read() == []
        unique, error, data = self.heard()
        assert unique == asked
        return error, data

    def close(self):
        self.end.close()
        self._ours.close()


@pytest.fixture
def kernel():
    made = Kernel()
    yield made
    made.close()


def write(offset, data, size=None):
    return fuse.IO.pack(0, offset, len(data) if size is None else size, 0, 0, 0, 0) + data


def read(offset, size):
    return fuse.IO.pack(0, offset, size, 0, 0, 0, 0)


def test_it_agrees_on_the_protocol(kernel):
    flags = 0xFFFFFFFF
    body = struct.pack("=IIIII44x", 7, 45, 131072, flags, 0xFFFFFFFF)
    error, data = kernel.call(fuse.INIT, body, node=0)
    major, minor, readahead, told, _, _, largest, _, pages, _, more = fuse.INIT_OUT.unpack(data)
    assert (error, major, minor, readahead, largest, pages) == (0, 7, 38, 131072, LARGEST, 256)
    assert told == fuse.WANTED
    assert more == fuse.HAS_RESEND
    error, data = kernel.call(fuse.INIT, struct.pack("=IIII", 7, 31, 0, 0), node=0)
    assert (error, struct.unpack_from("=II", data)) == (0, (7, 31))
    assert kernel.call(fuse.INIT, struct.pack("=IIII", 6, 31, 0, 0), node=0)[0] == errno.EPROTO


@pytest.mark.parametrize(
    ("flags", "more", "can"),
    [(0xFFFFFFFF, fuse.HAS_RESEND, True), (0xFFFFFFFF, 1, False), (0, fuse.HAS_RESEND, False)],
    ids=["6.9", "6.8", "without a second word"],
)
def test_it_tells_whether_the_kernel_asks_again(flags, more, can):
    told = []
    kernel = Kernel(told=told.append)
    try:
        kernel.call(fuse.INIT, struct.pack("=IIIII44x", 7, 39, 131072, flags, more), node=0)
    finally:
        kernel.close()
    assert told == [can]


def test_a_refusal_to_ask_again_is_an_error():
    told = []
    ours, theirs = os.pipe()
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            Session(ours, FILES, resend=True, told=told.append)
    finally:
        os.close(ours)
        os.close(theirs)
    assert told == [False]


def test_it_shows_one_file_a_volume(kernel):
    for node, each in enumerate(FILES, 2):
        error, data = kernel.call(fuse.LOOKUP, each.name.encode() + b"\0", node=1)
        assert error == 0
        assert fuse.VALID_ENTRY.unpack_from(data)[0] == node
        error, data = kernel.call(fuse.GETATTR, bytes(16), node=node)
        assert fuse.ATTR.unpack_from(data, fuse.VALID_ATTR.size)[1] == each.size
        assert kernel.call(fuse.OPEN, bytes(8), node=node)[0] == 0
        assert kernel.call(fuse.RELEASE, bytes(24), node=node)[0] == 0
    assert kernel.call(fuse.LOOKUP, b"three\0", node=1)[0] == errno.ENOENT
    assert kernel.call(fuse.LOOKUP, b"one\0", node=2)[0] == errno.ENOENT
    assert kernel.call(fuse.OPEN, bytes(8), node=1)[0] == errno.EISDIR
    assert kernel.call(fuse.GETATTR, bytes(16), node=9)[0] == errno.ENOENT
    error, data = kernel.call(fuse.STATFS, node=1)
    assert (error, fuse.STATFS_OUT.unpack(data)[0]) == (0, (SIZE + SIZE // 2) // 4096)
    kernel.session.resize(1, SIZE)
    _, data = kernel.call(fuse.GETATTR, bytes(16), node=3)
    assert fuse.ATTR.unpack_from(data, fuse.VALID_ATTR.size)[1] == SIZE


@pytest.mark.parametrize("opcode", [4, 9, 22, 25, 27, 28, 35, 39, 40, 46, 47, 50, 52, 4096])
def test_it_has_nothing_else(kernel, opcode):
    assert kernel.call(opcode, bytes(64))[0] == errno.ENOSYS


def test_requests_about_data_and_their_answers(kernel):
    sent = [
        kernel.send(fuse.WRITE, write(4096, b"x" * 8192)),
        kernel.send(fuse.READ, read(4096, 8192), node=3),
        kernel.send(fuse.FSYNC_OP, bytes(16)),
        kernel.send(fuse.FALLOCATE, fuse.ALLOCATE.pack(0, 0, 1 << 24, 3, 0)),
        kernel.send(fuse.FALLOCATE, fuse.ALLOCATE.pack(0, 4096, 4096, 0x11, 0)),
    ]
    found = kernel.session.read()
    assert [each.unique for each in found] == sent
    assert [(each.kind, each.volume, each.offset, each.size) for each in found] == [
        ("write", 0, 4096, 8192),
        ("read", 1, 4096, 8192),
        ("flush", 0, 0, 0),
        ("discard", 0, 0, 1 << 24),
        ("zero", 0, 4096, 4096),
    ]
    assert bytes(found[0].data) == b"x" * 8192
    kernel.session.answer(found[0])
    assert kernel.heard() == (sent[0], 0, struct.pack("=II", 8192, 0))
    kernel.session.answer(found[1], 0, [b"a" * 4096, b"b" * 4096])
    assert kernel.heard() == (sent[1], 0, b"a" * 4096 + b"b" * 4096)
    kernel.session.answer(found[2], errno.EIO)
    assert kernel.heard() == (sent[2], errno.EIO, b"")
    kernel.session.answer(found[3])
    assert kernel.heard() == (sent[3], 0, b"")


def test_a_read_at_the_end_is_cut_and_a_write_beyond_it_is_refused(kernel):
    kernel.send(fuse.READ, read(SIZE - 4096, 8192))
    kernel.send(fuse.READ, read(SIZE + 4096, 8192))
    assert [each.size for each in kernel.session.read()] == [4096, 0]
    assert kernel.call(fuse.WRITE, write(SIZE - 4096, bytes(8192)))[0] == errno.EFBIG
    assert kernel.call(fuse.FALLOCATE, fuse.ALLOCATE.pack(0, (1 << 64) - 1, 4096, 3, 0))[0] == errno.EFBIG
    assert kernel.call(fuse.FALLOCATE, fuse.ALLOCATE.pack(0, 0, 4096, 0, 0))[0] == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("opcode", "body", "how"),
    [
        (fuse.WRITE, write(0, bytes(4096), size=8192), {}),
        (fuse.WRITE, write(0, bytes(4096), size=0), {}),
        (fuse.WRITE, write(0, bytes(4096)), {"length": 4096}),
        (fuse.WRITE, write(0, bytes(4096)), {"extensions": 1}),
        (fuse.WRITE, bytes(8), {}),
        (fuse.READ, read(0, LARGEST + 1), {}),
        (fuse.READ, bytes(39), {}),
        (fuse.FSYNC_OP, bytes(15), {}),
        (fuse.FALLOCATE, bytes(31), {}),
        (fuse.FALLOCATE, fuse.ALLOCATE.pack(0, 0, 4096, 3, 0), {"extensions": 9}),
        (fuse.READ, read(0, 4096), {"node": 1}),
        (fuse.READ, read(0, 4096), {"node": 4}),
        (fuse.READ, read(0, 4096), {"length": 1 << 31}),
        (fuse.INIT, bytes(12), {}),
    ],
)
def test_a_packet_that_lies_is_refused(kernel, opcode, body, how):
    assert kernel.call(opcode, body, **how)[0] == errno.EINVAL


def test_less_than_a_header_is_dropped(kernel):
    kernel.end.send(b"abc")
    assert kernel.session.read() == []


def test_a_forget_and_an_interrupt_get_no_answer(kernel):
    for opcode in (fuse.FORGET, fuse.INTERRUPT, fuse.BATCH_FORGET):
        kernel.send(opcode, bytes(16))
    assert kernel.session.read() == []
    kernel.end.setblocking(False)
    with pytest.raises(BlockingIOError):
        kernel.end.recv(100)


def test_memory_is_bounded_and_used_again():
    kernel = Kernel(slabs=2)
    try:
        big = bytes(LARGEST)
        waiting = []
        for round_ in range(40):
            kernel.send(fuse.WRITE, write(0, big))
            waiting += kernel.session.read()
            if kernel.session.full:
                assert len(waiting) == 8  # four in each slab
                assert kernel.session.read() == []
                for each in waiting:
                    assert bytes(each.data[:1]) == b"\0"
                    kernel.session.answer(each)
                    assert kernel.heard()[1] == 0
                waiting.clear()
                assert not kernel.session.full, round_
    finally:
        kernel.close()


def test_data_stay_until_they_are_answered(kernel):
    found = []
    for number in range(200):
        kernel.send(fuse.WRITE, write(0, bytes([number % 251]) * 50000))
        found += kernel.session.read()
        if number % 3:
            each = found.pop(number % len(found))
            assert len(set(each.data)) == 1
            kernel.session.answer(each)
            kernel.heard()
    for each in found:
        assert len(set(each.data)) == 1


def test_an_unmounted_file_system_ends_the_session(kernel):
    kernel.send(fuse.FSYNC_OP, bytes(16))
    kernel.end.close()
    assert len(kernel.session.read()) == 1
    with pytest.raises(ConnectionError):
        kernel.session.read()


@given(st.binary(max_size=200))
def test_no_bytes_at_all_disturb_it(data):
    kernel = Kernel()
    try:
        kernel.end.send(data or b"\0")
        for each in kernel.session.read():
            assert each.offset + each.size <= SIZE
    finally:
        kernel.close()


def test_it_never_blocks(kernel):
    assert not os.get_blocking(kernel.session.fd)
    assert kernel.session.read() == []
