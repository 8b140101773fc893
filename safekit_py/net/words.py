"""What two servers tell each other in a heartbeat, as bytes and back: pure.

    sent 8 | echoed boot 8 | echo 8 | version 8 | have 8 | part 2 | parts 2 | piece

This is the payload of a datagram of ``net.wire`` of the kind ``BEAT``. Each is a heartbeat by itself. The sender's
words are JSON, numbered anew at each change, compressed (zlib), and cut into pieces that fit every usual MTU. One
datagram of 30,000 bytes would be lost with any of its fragments, and many firewalls let no fragments through. A piece
that is lost comes again until the other says that it has the whole (``have``); then heartbeats carry no piece
(``parts`` is 0).

Invariants, held by tests/unit/net/test_words.py: whatever bytes come in, decoding ends with a value or with
``Rejected("malformed")``; words that come out are those that went in, in whatever order and however often the pieces
come.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from safekit_py.net.wire import Rejected

BEAT = 6  # kind of datagram; those of net.wire end at 5
MAX_WORDS = 30_000  # bytes of JSON
PIECE = 1200  # bytes in one datagram
MAX_PARTS = MAX_WORDS // PIECE + 1  # what cannot be compressed grows by a few bytes
LEVEL = 1  # of compression: the words are small and change often
MAX_DEPTH = 16  # of nested values

_HEAD = struct.Struct("!QQQQQHH")


@dataclass(frozen=True, slots=True)
class Saying:
    """One heartbeat.

    :param sent: the sender's monotonic clock when it was sent.
    :param boot: the boot of the receiver that the sender believes, 0 before any.
    :param echo: the ``sent`` with which the newest words of that boot became whole, 0 before any.
    :param version: number of the sender's words, from 1.
    :param have: number of the receiver's words that the sender has as a whole, 0 before any.
    :param parts: pieces that make up the words; 0 when this heartbeat brings none.
    """

    sent: int
    boot: int
    echo: int
    version: int
    have: int
    part: int = 0
    parts: int = 0
    piece: bytes = b""


def encode(saying: Saying) -> bytes:
    """Payload of kind ``BEAT``."""
    each = saying
    return _HEAD.pack(each.sent, each.boot, each.echo, each.version, each.have, each.part, each.parts) + each.piece


def decode(payload: bytes) -> Saying:
    """The inverse of :func:`encode`.

    :raises Rejected: malformed.
    """
    if len(payload) < _HEAD.size:
        raise Rejected("malformed")
    sent, boot, echo, version, have, part, parts = _HEAD.unpack_from(payload)
    piece = payload[_HEAD.size :]
    if parts == 0:
        fits = part == 0 and not piece
    else:  # all but the last are full: so the pieces of a version are never more than its words may be
        last = part == parts - 1
        fits = part < parts <= MAX_PARTS and (0 < len(piece) <= PIECE if last else len(piece) == PIECE)
    if version == 0 or not fits:
        raise Rejected("malformed")
    return Saying(sent, boot, echo, version, have, part, parts, piece)


def pack(words: Mapping[str, Any]) -> bytes:
    """Words as compressed JSON; whatever is no JSON value raises TypeError or ValueError.

    :raises ValueError: they are longer than ``MAX_WORDS`` or nested deeper than ``MAX_DEPTH``.
    """
    data = json.dumps(words, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(data) > MAX_WORDS:
        raise ValueError(f"{len(data)} bytes; {MAX_WORDS} are possible")
    if _deeper(words, MAX_DEPTH):
        raise ValueError(f"values are nested more than {MAX_DEPTH} deep")
    return zlib.compress(data, LEVEL)


def unpack(data: bytes) -> Mapping[str, Any]:
    """The inverse of :func:`pack`.

    :raises Rejected: malformed.
    """
    unzip = zlib.decompressobj()
    try:
        text = unzip.decompress(data, MAX_WORDS + 1)
        if len(text) > MAX_WORDS or not unzip.eof or unzip.unused_data:
            raise Rejected("malformed")
        words = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError, zlib.error):
        raise Rejected("malformed") from None
    if not isinstance(words, dict) or _deeper(words, MAX_DEPTH):
        raise Rejected("malformed")
    return words


def pieces_of(data: bytes) -> list[bytes]:
    """Packed words cut for the wire; they are never empty."""
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


class Assembler:
    """Puts the pieces of one boot's words together; it holds one unfinished version, the newest."""

    def __init__(self) -> None:
        self.have = 0
        self._version = self._parts = 0
        self._pieces: dict[int, bytes] = {}

    def add(self, saying: Saying) -> Mapping[str, Any] | None:
        """Take a heartbeat; the words when it brought the last piece that was missing of newer ones.

        :raises Rejected: malformed.
        """
        if saying.parts == 0 or saying.version <= max(self.have, self._version - 1):
            return None
        if (saying.version, saying.parts) != (self._version, self._parts):
            self._version, self._parts, self._pieces = saying.version, saying.parts, {}
        self._pieces[saying.part] = saying.piece
        if len(self._pieces) < saying.parts:
            return None
        whole = b"".join(self._pieces[part] for part in range(saying.parts))
        self._pieces = {}
        words = unpack(whole)
        self.have = saying.version
        return words


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested deeper than that; it looks no deeper either."""
    if not isinstance(value, dict | list | tuple):
        return False
    if depth == 0:
        return True
    return any(_deeper(each, depth - 1) for each in (value.values() if isinstance(value, dict) else value))
