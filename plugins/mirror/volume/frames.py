"""The wire format of replication: a fixed header and a payload, over one ordered TCP connection.

    magic 2 | kind 1 | volume 1 | length of the payload 4 | size 4 | number 8 | offset 8      (little-endian)

Pure but for ``Reader.read``. What cannot be is refused with ``WireError`` before anything is done with it.
"""

from __future__ import annotations

import json
import mmap
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .request import LARGEST, memory

MAGIC = 0x5A4B
HEAD = struct.Struct("<HBBIIQQ")
MAX_PAYLOAD = LARGEST + (64 << 10)  # bytes
ROOM = 4 * MAX_PAYLOAD  # bytes of the receive buffer
PAGE = mmap.PAGESIZE
FIRST = PAGE - HEAD.size  # place of a frame whose payload begins at a page
PART = 128 << 10  # bytes: a frame of so much is a large one; at most so much is received before it is known


class Kind(IntEnum):
    """What a frame is."""

    AUTH = 1  # JSON: proof of the cluster key
    HELLO = 2  # JSON: what each side has
    WRITE = 3
    DISCARD = 4
    ZERO = 5
    FLUSH = 6
    ACK = 7  # everything up to this number is in the page cache there
    FLUSHED = 8  # the flush of this number is done there
    PING = 9
    BEGIN = 10  # the image begins to change into the primary's
    ASK = 11  # for the hashes of the blocks of a range
    HASHES = 12
    FINE = 13  # for the hashes of the pieces of some blocks of a range
    FINES = 14
    FILL = 15  # what differs, and its content
    FILL_ZSTD = 16  # the same, compressed
    HOLE = 17  # what differs, and is zeros
    SYNCED = 18  # JSON: the primary's generation; both images are the same from here on
    SYNCED_OK = 19
    EJECT = 20  # JSON: the secondary cannot go on, and why
    CLEAR = 21  # the zones of this range are the same on both disks
    HOLES = 22  # there is nothing here in this range: what is there
    THERE = 23  # the zones of that range which have data


KINDS: Mapping[int, Kind] = {each.value: each for each in Kind}
WORDS = (Kind.AUTH, Kind.HELLO, Kind.SYNCED, Kind.EJECT)


class WireError(ConnectionError):
    """Bytes that are no frame; the connection is closed."""


@dataclass(slots=True)
class Frame:
    """One frame; its payload is valid until more is read."""

    kind: Kind
    volume: int
    number: int
    offset: int
    size: int
    payload: memoryview

    def words(self) -> dict[str, Any]:
        """The payload of a frame of words."""
        try:
            found = json.loads(bytes(self.payload))
        except (ValueError, RecursionError):
            raise WireError("a frame of words holds no JSON") from None
        if not isinstance(found, dict):
            raise WireError("a frame of words holds no object")
        return found


def head(kind: Kind, volume: int, length: int, size: int, number: int, offset: int) -> bytes:
    """The header of a frame."""
    return HEAD.pack(MAGIC, kind, volume, length, size, number, offset)


def words(kind: Kind, values: Mapping[str, Any]) -> bytes:
    """A whole frame of words."""
    text = json.dumps(values).encode()
    if len(text) > MAX_PAYLOAD:
        raise ValueError(f"{len(text)} bytes are too many for one frame")
    return head(kind, 0, len(text), 0, 0, 0) + text


def decode(data: memoryview) -> tuple[Frame | None, int]:
    """The first frame of some bytes, and how many bytes it took; (None, 0) when it is not complete.

    :raises WireError: they begin with no frame.
    """
    if len(data) < HEAD.size:
        return None, 0
    magic, kind, volume, length, size, number, offset = HEAD.unpack_from(data)
    known = KINDS.get(kind)
    if magic != MAGIC or known is None:
        raise WireError("bytes that are no frame")
    if length > MAX_PAYLOAD:
        raise WireError(f"a frame of {length} bytes")
    if known is Kind.WRITE and size != length:
        raise WireError(f"a write of {size} bytes with {length}")
    end = HEAD.size + length
    if len(data) < end:
        return None, 0
    return Frame(known, volume, number, offset, size, data[HEAD.size : end]), end


class Reader:
    """Frames out of a non-blocking socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._memory = memory(ROOM)
        self._start = self._end = FIRST

    def read(self) -> Iterator[Frame]:
        """What has arrived: one look at the socket, and every frame that is complete.

        :raises ConnectionError: the other side has closed, or sent what is no frame.
        """
        try:
            count = self._socket.recv_into(self._room())
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionError(error.errno, error.strerror) from None
        if count == 0:
            raise ConnectionError("the other side has closed the connection")
        self._end += count
        while True:
            frame, took = decode(self._memory[self._start : self._end])
            if frame is None:
                break
            self._start += took
            yield frame
        if self._start == self._end:
            self._start = self._end = FIRST

    def _room(self) -> memoryview:
        """Where to receive to, and not more than that.

        The payload of a large frame is put at a page's begin, as direct I/O wants it, and nothing behind it is received
        with it; so most bytes of a stream of large frames are moved never, the others once.
        """
        start, end = self._start, self._end
        missing = PART
        if end - start >= HEAD.size:
            length = HEAD.unpack_from(self._memory, start)[3]
            if length >= PART:
                missing = HEAD.size + length - (end - start)
                if (start + HEAD.size) % PAGE:
                    self._move(FIRST)
        if ROOM - self._end < MAX_PAYLOAD + HEAD.size:
            self._move(FIRST)
        return self._memory[self._end : self._end + missing]

    def _move(self, to: int) -> None:
        rest = bytes(self._memory[self._start : self._end])
        self._memory[to : to + len(rest)] = rest
        self._start, self._end = to, to + len(rest)
