"""The wire format of a group's datagrams: header, payload, HMAC-SHA256 with a key of the cluster.

    magic 4 | version 1 | type 1 | group 8 | sender 1 | lan 1 | boot 8 | counter 8 | length 2 | key 4 | others 1
    | 4 for each of the others | payload | hmac 32

All numbers are big-endian. ``key`` names the key of the HMAC, ``others`` those that the sender holds besides: there are
some while a new key takes the place of an old one. Nothing beyond that name is looked at before the HMAC is right. A
view that does not fit travels in numbered parts. A datagram that is not acceptable raises ``Rejected`` with its reason,
which is counted.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from safekit_py.core.buckets import Table
from safekit_py.core.group import (
    MAX_GROUPS,
    MAX_INFO,
    MAX_SERVERS,
    Heartbeat,
    Known,
    Member,
    Number,
    View,
)
from safekit_py.core.overlay import NEAR, TOLD, TURN
from safekit_py.core.trail import Trail
from safekit_py.model.keys import MAX_KEYS, NAME, Key, Ring

MAGIC, VERSION = b"SKPY", 3
HEARTBEAT, VIEW_PART, HELLO, ASK, ANSWER = 1, 2, 3, 4, 5
MAX_DATAGRAM = 1400  # bytes; fits every usual MTU without fragments
HMAC_BYTES = 32
PART = 1200  # bytes of a view in one datagram
MAX_KNOWN = NEAR + TURN + TOLD  # servers of which one heartbeat speaks; more than FULL
MAX_PARTS = 8000  # of the largest view there can be: 16 tables and trails of 65,536 runs

_HEADER = struct.Struct(f"!4sBB8sBBQQH{NAME}sB")
_BEAT = struct.Struct("!QQBQBQB")  # beat, view number, flags, settled, bytes of hears
_KNOWN = struct.Struct("!BQQB")
_NUMBER = struct.Struct("!QBQ")
_PARTS = struct.Struct("!QBQHH")  # view number, part, parts
_HELLO = struct.Struct("!BQ")  # whom it is for, and the boot that is echoed or the number that is asked to come back
_LEAVING, _HISTORY, _READY, _DOUBT, _ACCUSED, _ABREAST = 1, 2, 4, 8, 16, 32


class Rejected(ValueError):
    """A datagram that is not acceptable; ``reason`` is one of ``REASONS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


REASONS = (
    *("short", "long", "magic", "version", "group", "key", "auth"),
    *("sender", "replayed", "boot", "unproven", "malformed"),
)


@dataclass(frozen=True, slots=True)
class Datagram:
    """An authentic datagram, its payload not yet read.

    :param keys: the names of the keys that its sender holds, that of its HMAC first; ``seal`` writes its own.
    """

    kind: int
    sender: int
    lan: int
    boot: int
    counter: int
    payload: bytes
    keys: tuple[bytes, ...] = field(default=(), compare=False)


def group_id(cluster: str, module: str) -> bytes:
    """Eight bytes that tell one module's group from every other's."""
    return hashlib.blake2b(f"{cluster}\0{module}".encode(), digest_size=8).digest()


def seal(ring: Ring, group: bytes, datagram: Datagram, key: Key | None = None) -> bytes:
    """The bytes to send.

    :param ring: what this server holds.
    :param key: the one of them that signs; None: the newest.
    """
    signs = ring.newest if key is None else key
    others = [each.name for each in ring.keys if each is not signs]
    head = _HEADER.pack(
        MAGIC,
        VERSION,
        datagram.kind,
        group,
        datagram.sender,
        datagram.lan,
        datagram.boot,
        datagram.counter,
        len(datagram.payload),
        signs.name,
        len(others),
    )
    body = b"".join((head, *others, datagram.payload))
    return body + hmac.digest(signs.secret, body, "sha256")


def unseal(ring: Ring, group: bytes, data: bytes) -> Datagram:
    """Check a datagram that was received; any key of the ring will do.

    :raises Rejected: with the first reason that applies.
    """
    if len(data) < _HEADER.size + HMAC_BYTES:
        raise Rejected("short")
    if len(data) > MAX_DATAGRAM:
        raise Rejected("long")
    magic, version, kind, its_group, sender, lan, boot, counter, length, name, others = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Rejected("magic")
    if version != VERSION:
        raise Rejected("version")
    if its_group != group:
        raise Rejected("group")
    key = ring.named.get(name)
    if key is None:
        raise Rejected("key")
    body = memoryview(data)[:-HMAC_BYTES]
    if not hmac.compare_digest(hmac.digest(key.secret, body, "sha256"), data[-HMAC_BYTES:]):
        raise Rejected("auth")
    start = _HEADER.size + NAME * others
    if others >= MAX_KEYS or length != len(body) - start:
        raise Rejected("malformed")
    names = (bytes(body[at : at + NAME]) for at in range(_HEADER.size, start, NAME))
    return Datagram(kind, sender, lan, boot, counter, bytes(body[start:]), (name, *names))


class _Reader:
    """Takes values off the front; running over the end is malformed."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        start, self._at = self._at, self._at + form.size
        if self._at > len(self._data):
            raise Rejected("malformed")
        return form.unpack_from(self._data, start)

    def raw(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise Rejected("malformed")
        return self._data[start : self._at]

    def sized(self) -> bytes:
        """What follows its own length."""
        (size,) = struct.unpack("!I", self.raw(4))
        return self.raw(size)

    def byte(self) -> int:
        return self.raw(1)[0]

    def words(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"!{count}H", self.raw(2 * count))

    def end(self) -> None:
        if self._at != len(self._data):
            raise Rejected("malformed")


def _bounded(value: int, limit: int) -> int:
    if value > limit:
        raise Rejected("malformed")
    return value


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """Payload of type ``HEARTBEAT``."""
    flags = _LEAVING * beat.leaving | _HISTORY * beat.history | _DOUBT * beat.doubt
    hears = beat.hears.to_bytes((beat.hears.bit_length() + 7) // 8, "little")
    parts = [
        _BEAT.pack(beat.beat, *beat.number, flags, beat.settled, len(hears)),
        hears,
        struct.pack(f"!B{len(beat.powers)}HB", len(beat.powers), *beat.powers, len(beat.info)),
        beat.info,
        bytes((len(beat.known),)),
    ]
    for known in beat.known:
        flags = _LEAVING * known.leaving | _HISTORY * known.history | _READY * known.ready
        flags |= _ACCUSED * known.accused | _ABREAST * known.abreast
        parts.append(_KNOWN.pack(known.server, known.boot, known.beat, flags))
    return b"".join(parts)


def decode_heartbeat(payload: bytes) -> Heartbeat:
    """The inverse of :func:`encode_heartbeat`.

    :raises Rejected: malformed.
    """
    reader = _Reader(payload)
    beat, epoch, coordinator, boot, flags, settled, size = reader.take(_BEAT)
    hears = int.from_bytes(reader.raw(_bounded(size, (MAX_SERVERS + 7) // 8)), "little")
    powers = reader.words(_bounded(reader.byte(), MAX_GROUPS))
    info = reader.raw(_bounded(reader.byte(), MAX_INFO))
    known = []
    for _ in range(_bounded(reader.byte(), MAX_KNOWN)):
        server, its_boot, its_beat, bits = reader.take(_KNOWN)
        flagged = (bool(bits & bit) for bit in (_HISTORY, _LEAVING, _READY, _ACCUSED, _ABREAST))
        known.append(Known(_bounded(server, MAX_SERVERS - 1), its_boot, its_beat, *flagged))
    reader.end()
    number = Number(epoch, coordinator, boot)
    leaving, history, doubt = (bool(flags & bit) for bit in (_LEAVING, _HISTORY, _DOUBT))
    return Heartbeat(beat, number, leaving, powers, info, hears, tuple(known), history, doubt, settled)


def encode_hello(to: int, boot: int) -> bytes:
    """Payload of type ``HELLO``: this server has heard that boot of that server.

    ``ASK`` and ``ANSWER`` have the same form, with a random number in the place of the boot.
    """
    return _HELLO.pack(to, boot)


def decode_hello(payload: bytes) -> tuple[int, int]:
    """The inverse of :func:`encode_hello`.

    :raises Rejected: malformed.
    """
    reader = _Reader(payload)
    to, boot = reader.take(_HELLO)
    reader.end()
    return to, boot


def encode_view(view: View) -> bytes:
    """A whole view; :func:`parts_of` cuts it for the wire."""
    cause = view.cause.encode()[:200]
    out = [_NUMBER.pack(*view.number), bytes((len(cause),)), cause, bytes((len(view.tables), len(view.members)))]
    for member in view.members:
        out.append(
            struct.pack(f"!B{len(member.powers)}HB", member.server, *member.powers, len(member.info)) + member.info
        )
    for group, table in enumerate(view.tables):
        for coded in (table.encode(), view.trail(group).encode()):
            out.append(struct.pack("!I", len(coded)) + coded)
    return b"".join(out)


def decode_view(data: bytes) -> View:
    """The inverse of :func:`encode_view`.

    :raises Rejected: malformed.
    """
    reader = _Reader(data)
    number = Number(*reader.take(_NUMBER))
    cause = reader.raw(reader.byte()).decode("utf-8", "replace")
    groups, count = _bounded(reader.byte(), MAX_GROUPS), _bounded(reader.byte(), MAX_SERVERS)
    members = []
    for _ in range(count):
        server = _bounded(reader.byte(), MAX_SERVERS - 1)
        powers = reader.words(groups)
        members.append(Member(server, powers, reader.raw(_bounded(reader.byte(), MAX_INFO))))
    tables, trails = [], []
    try:
        for _ in range(groups):
            tables.append(Table.decode(reader.sized()))
            trails.append(Trail.decode(reader.sized()))
    except Rejected:
        raise
    except ValueError:
        raise Rejected("malformed") from None
    reader.end()
    return View(number, tuple(members), tuple(tables), cause, tuple(trails))


def parts_of(view: View) -> list[bytes]:
    """Payloads of type ``VIEW_PART`` that make up the view."""
    data = encode_view(view)
    pieces = [data[i : i + PART] for i in range(0, len(data), PART)]
    return [_PARTS.pack(*view.number, index, len(pieces)) + piece for index, piece in enumerate(pieces)]


class Assembler:
    """Puts the parts of one sender's views together; it holds one unfinished view, the newest."""

    def __init__(self) -> None:
        self._number: Number | None = None
        self._pieces: dict[int, bytes] = {}

    def add(self, payload: bytes) -> View | None:
        """Take a part; the view when it was the last one missing.

        :raises Rejected: malformed.
        """
        reader = _Reader(payload)
        epoch, coordinator, boot, part, parts = reader.take(_PARTS)
        number = Number(epoch, coordinator, boot)
        if not 0 <= part < parts <= MAX_PARTS or not 0 < len(payload) - _PARTS.size <= PART:
            raise Rejected("malformed")
        if number != self._number:
            if self._number is not None and number < self._number:
                return None
            self._number, self._pieces = number, {}
        self._pieces[part] = payload[_PARTS.size :]
        if len(self._pieces) < parts:
            return None
        whole = b"".join(self._pieces.get(i, b"") for i in range(parts))
        self._number, self._pieces = None, {}
        view = decode_view(whole)
        if view.number != number:
            raise Rejected("malformed")
        return view
