"""The FUSE protocol, as far as a few files of fixed size need it: packets of the kernel in, requests out; answers back.

Spoken here and not by a library: one root folder with one file a volume needs a dozen of the protocol's operations,
the libraries for Python hide the descriptor that must survive this process, and for large writes the standard library
was measured faster than C with libfuse.

Everything is stateless. Node 1 is the root, node ``n + 2`` is volume ``n``, an open file has no state. So a process
that takes over the descriptor goes on where the one before it died, after ``resend``.

A packet is read straight into a slab, and a write's data stay there until it is answered: no byte is copied in Python.
Slabs are few, so memory is bounded: when all are taken, nothing more is read until something is answered.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence

from .request import BLOCK, LARGEST, Data, Kind, Request, VolumeFile, memory

IN = struct.Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, words of extensions, padding
OUT = struct.Struct("=IiQ")  # len, -errno, unique
INIT_IN, INIT_FLAGS2 = struct.Struct("=IIII"), struct.Struct("=I")  # major, minor, max_readahead, flags; flags2
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
VALID_ENTRY, VALID_ATTR = struct.Struct("=QQQQII"), struct.Struct("=QII")
OPEN_OUT, STATFS_OUT = struct.Struct("=QII"), struct.Struct("=QQQQQIIII24x")
IO = struct.Struct("=QQIIQII")  # of READ and WRITE: fh, offset, size, flags, lock owner, flags, padding
ALLOCATE = struct.Struct("=QQQII")  # fh, offset, length, mode, padding
FSYNC = struct.Struct("=QII")
WROTE = struct.Struct("=IiQII")  # a header and its fuse_write_out

LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC_OP = 1, 2, 3, 14, 15, 16, 17, 18, 20
INIT, INTERRUPT, DESTROY, BATCH_FORGET, FALLOCATE = 26, 36, 38, 42, 43
UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}
NOTIFY_RESEND = 7

MAJOR, MINOR = 7, 38
ASYNC_READ, BIG_WRITES, ASYNC_DIO, MAX_PAGES, KILLPRIV_V2, INIT_EXT = 1, 1 << 5, 1 << 15, 1 << 22, 1 << 28, 1 << 30
HAS_RESEND = 1 << 7  # of the second word of flags
WANTED = ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES | KILLPRIV_V2 | INIT_EXT
OPENED = 1 | 1 << 5 | 1 << 6  # no page cache of FUSE's own, nothing at a close, direct writes beside each other
BACKGROUND = 128  # asynchronous requests that the kernel has under way at most: as many as a loop device has

PUNCH, ZERO = 0x1 | 0x2, 0x10  # modes of FALLOCATE: a hole (the size kept), zeros (the size kept or not)
ROOT = 1
FOREVER = 1 << 32  # seconds
ROOM = LARGEST + BLOCK  # that the kernel wants to see free at each read: the largest write and its headers
SLAB, SLABS = (4 << 20) + (64 << 10), 8
BEFORE = IN.size + IO.size  # of a write's data: a packet is put so that they begin at a page, as direct I/O wants them
FIRST = BLOCK - BEFORE  # place of a slab's first packet
BATCH = 128  # requests that one read brings at most; and not much more than the largest has: others get their turn


class _Slab:
    """Memory for packets: ``used`` bytes are taken by ``pending`` writes that have not been answered."""

    __slots__ = ("memory", "pending", "used")

    def __init__(self) -> None:
        self.memory = memory(SLAB)
        self.used, self.pending = FIRST, 0


class Session:
    """See ``request.Session``.

    :param fd: of /dev/fuse, mounted or about to be.
    :param volumes: the files to show; their names differ.
    :param resend: ask for what an earlier process left unanswered; see :meth:`resend`.
    :param told: learns whether the kernel can be asked so.
    :param slabs: of 4 MiB each, that data of unanswered writes may take.
    :raises OSError: the kernel cannot resend: what the earlier process had read is answered by nobody.
    """

    def __init__(
        self,
        fd: int,
        volumes: Sequence[VolumeFile],
        *,
        resend: bool,
        told: Callable[[bool], None] = lambda _: None,
        slabs: int = SLABS,
    ) -> None:
        os.set_blocking(fd, False)
        self.fd, self._limit, self._told = fd, slabs, told
        self._sizes = [each.size for each in volumes]
        self._names = {os.fsencode(each.name): number for number, each in enumerate(volumes)}
        self._slabs = [_Slab()]
        self._slab = self._slabs[0]
        if resend:
            self.resend()

    @property
    def full(self) -> bool:
        """All memory is taken: ``read`` brings nothing until something is answered, though the descriptor is ready."""
        return self._room() is None

    def _room(self) -> _Slab | None:
        if self._slab.used + ROOM <= SLAB:
            return self._slab
        for slab in self._slabs:
            if slab.pending == 0:
                slab.used, self._slab = FIRST, slab
                return slab
        if len(self._slabs) < self._limit:
            self._slab = _Slab()
            self._slabs.append(self._slab)
            return self._slab
        return None

    def read(self) -> list[Request]:
        """All that waits, up to a bound."""
        found: list[Request] = []
        size = 0
        while len(found) < BATCH and size < LARGEST and (slab := self._room()) is not None:
            try:
                length = os.readv(self.fd, [slab.memory[slab.used :]])
            except (BlockingIOError, PermissionError):  # nothing waits, or nothing is mounted yet
                break
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):  # what was to be read had been given up just then
                    continue
                if found:
                    break
                raise ConnectionError(error.errno, "the file system is not mounted any more") from error
            if length == 0:
                if found:
                    break
                raise ConnectionError(errno.ENODEV, "the file system is not mounted any more")
            request = self._take(slab, length)
            if request is not None:
                found.append(request)
                size += request.size if request.kind in ("read", "write") else 0
        return found

    def _take(self, slab: _Slab, length: int) -> Request | None:
        """One packet: a request, or None when it was answered, needs no answer, or was refused."""
        if length < IN.size:
            return None
        packet = slab.memory[slab.used : slab.used + length]
        told, opcode, unique, node, _, _, _, extensions, _ = IN.unpack_from(packet)
        body = packet[IN.size : length - 8 * extensions]
        if told != length or length < IN.size + 8 * extensions:
            self._reply(unique, errno.EINVAL)
            return None
        if opcode in (READ, WRITE, FSYNC_OP, FALLOCATE):
            made = self._request(opcode, unique, node, body)
            if isinstance(made, int):
                self._reply(unique, made)
                return None
            if made.kind == "write":
                made.slab = slab
                slab.pending += 1
                slab.used += (length + BLOCK - 1) & -BLOCK
            return made
        if opcode not in UNANSWERED:
            answer = self._plain(opcode, node, body)
            if isinstance(answer, int):
                self._reply(unique, answer)
            else:
                self._reply(unique, 0, answer)
        return None

    def _request(self, opcode: int, unique: int, node: int, body: memoryview) -> Request | int:
        """A request about data, or the errno to refuse it with."""
        volume = node - 2
        if not 0 <= volume < len(self._sizes):
            return errno.EINVAL
        offset = size = 0
        data: memoryview | None = None
        kind: Kind
        if opcode in (READ, WRITE):
            if len(body) < IO.size:
                return errno.EINVAL
            _, offset, size, *_ = IO.unpack_from(body)
            kind = "read" if opcode == READ else "write"
            if size > LARGEST or (opcode == WRITE and len(body) != IO.size + size):
                return errno.EINVAL
            if opcode == WRITE:
                data = body[IO.size :]
            else:
                size = max(0, min(size, self._sizes[volume] - offset))
        elif opcode == FSYNC_OP:
            if len(body) < FSYNC.size:
                return errno.EINVAL
            kind = "flush"
        else:
            if len(body) < ALLOCATE.size:
                return errno.EINVAL
            _, offset, size, mode, _ = ALLOCATE.unpack_from(body)
            if mode != PUNCH and mode | 1 != ZERO | 1:
                return errno.EOPNOTSUPP
            kind = "discard" if mode == PUNCH else "zero"
        if offset + size > self._sizes[volume] and kind != "read":
            return errno.EFBIG
        return Request(unique, kind, volume, offset, size, data, time.monotonic_ns())

    def _plain(self, opcode: int, node: int, body: memoryview) -> bytes | int:
        """The answer to what is not about data, or an errno."""
        if opcode == INIT:
            return self._init(body)
        if opcode == DESTROY:
            return b""
        if not 0 <= node - ROOT <= len(self._sizes):
            return errno.ENOENT
        if opcode == LOOKUP:
            number = self._names.get(bytes(body).rstrip(b"\0")) if node == ROOT else None
            if number is None:
                return errno.ENOENT
            return VALID_ENTRY.pack(number + 2, 0, FOREVER, 0, 0, 0) + self._attributes(number + 2)
        if opcode == GETATTR:
            return VALID_ATTR.pack(0, 0, 0) + self._attributes(node)
        if opcode == OPEN:
            return OPEN_OUT.pack(0, OPENED, 0) if node != ROOT else errno.EISDIR
        if opcode == RELEASE:
            return b""
        if opcode == STATFS:
            blocks = sum(self._sizes) // BLOCK
            return STATFS_OUT.pack(blocks, 0, 0, len(self._sizes), 0, BLOCK, 255, BLOCK, 0)
        return errno.ENOSYS

    def _init(self, body: memoryview) -> bytes | int:
        if len(body) < INIT_IN.size:
            return errno.EINVAL
        major, minor, readahead, flags = INIT_IN.unpack_from(body)
        if major < MAJOR:
            return errno.EPROTO
        more = 0
        if flags & INIT_EXT and len(body) >= INIT_IN.size + INIT_FLAGS2.size:
            (more,) = INIT_FLAGS2.unpack_from(body, INIT_IN.size)
        self._told(bool(more & HAS_RESEND))
        told = min(minor, MINOR) if major == MAJOR else MINOR
        return INIT_OUT.pack(
            MAJOR, told, readahead, flags & WANTED, BACKGROUND, BACKGROUND * 3 // 4, LARGEST, 1, LARGEST // BLOCK, 0,
            more & HAS_RESEND,
        )  # fmt: skip

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == ROOT else self._sizes[node - 2]
        mode = stat.S_IFDIR | 0o700 if node == ROOT else stat.S_IFREG | 0o600
        links = 2 if node == ROOT else 1
        return ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, links, os.getuid(), os.getgid(), 0, BLOCK, 0)

    def answer(self, request: Request, error: int = 0, data: Data | Sequence[Data] | None = None) -> None:
        """Answer a request."""
        slab = request.slab
        if isinstance(slab, _Slab):
            request.slab = request.data = None
            slab.pending -= 1
            if slab.pending == 0:
                slab.used = FIRST
        if error == 0 and request.kind == "write":
            self._send([WROTE.pack(WROTE.size, 0, request.unique, request.size, 0)])
        elif error or data is None:
            self._reply(request.unique, error)
        else:
            parts = [data] if isinstance(data, (bytes, bytearray, memoryview)) else list(data)
            self._send([OUT.pack(OUT.size + sum(map(len, parts)), 0, request.unique), *parts])

    def _reply(self, unique: int, error: int, data: bytes = b"") -> None:
        self._send([OUT.pack(OUT.size + len(data), -error, unique) + data])

    def _send(self, parts: list[Data]) -> None:
        try:
            os.writev(self.fd, parts)
        except OSError as error:
            # Nobody waits for it any more (ENOENT), or nothing is mounted any more, which the next read tells.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EPERM):
                raise

    def resend(self) -> None:
        """Ask the kernel for what an earlier process had read and not answered.

        :raises OSError: it cannot.
        """
        try:
            os.write(self.fd, OUT.pack(OUT.size, NOTIFY_RESEND, 0))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENODEV):  # nothing is mounted, so nothing waits
                self._told(False)
                raise

    def resize(self, volume: int, size: int) -> None:
        """A volume has grown; whoever asks for its size next learns it."""
        self._sizes[volume] = size
