"""The cluster's keys as data, and the key file.

Flows through it: the text of a key file in, a ring of keys out, and back. What becomes of them is decided in
``core.keys``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_KEYS = 4  # in a ring: their names travel in each datagram
SECRET = 32  # bytes
NAME = 4  # bytes
TITLE = "safekit keys"
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_LINE = re.compile(r"(origin|key ([1-9][0-9]{0,8})) ([0-9a-fA-F]{64})")
Who = int | str
"""A server's number, or what else verifies: a witness, by its address."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    :param number: 1 for a cluster's first one.
    :ivar name: tells it from the others and nothing about its secret.
    """

    number: int
    secret: bytes = field(repr=False)
    name: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Make the name."""
        name = hashlib.blake2b(self.secret, digest_size=NAME, person=b"safekit key").digest()
        object.__setattr__(self, "name", name)

    @property
    def fingerprint(self) -> str:
        """By which people compare keys between servers."""
        return hashlib.sha256(b"fingerprint" + self.secret).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys that a server holds.

    :param origin: made of the cluster's first key and kept through every rotation; empty when there is no key.
    :param keys: from the oldest to the newest. Of two with one number every server takes the same for the newer.
    :ivar named: them by name.
    """

    origin: bytes = field(default=b"", repr=False)
    keys: tuple[Key, ...] = ()
    named: Mapping[bytes, Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the index."""
        object.__setattr__(self, "named", {key.name: key for key in self.keys})

    @property
    def oldest(self) -> Key:
        """The first that will go."""
        return self.keys[0]

    @property
    def newest(self) -> Key:
        """The one that signs once everybody holds it."""
        return self.keys[-1]


def first(secret: bytes) -> Ring:
    """The ring of a cluster whose key was just made, or that has never rotated it."""
    return Ring(_origin(secret), (Key(1, secret),))


def _origin(secret: bytes) -> bytes:
    return hmac.digest(secret, b"safekit origin", "sha256")


def ring_of(origin: bytes, keys: Iterable[Key]) -> Ring:
    """A ring of these keys, in their order."""
    return Ring(origin, tuple(sorted(set(keys), key=lambda key: (key.number, key.name))))


def parse(text: str) -> Ring:
    """The content of a key file: 64 hexadecimal digits, or what :func:`render` makes of several keys.

    :raises ValueError: it is neither.
    """
    lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
    if len(lines) == 1 and _HEX.fullmatch(lines[0]):
        return first(bytes.fromhex(lines[0]))
    found = [_LINE.fullmatch(line) for line in lines[1:]]
    parts = [(each[1], each[2], bytes.fromhex(each[3])) for each in found if each is not None]
    origins = [secret for what, _, secret in parts if what == "origin"]
    keys = [Key(int(number), secret) for _, number, secret in parts if number is not None]
    if lines[:1] != [TITLE] or len(parts) != len(lines) - 1 or len(origins) != 1 or not 1 <= len(keys) <= MAX_KEYS:
        raise ValueError("no key file")
    ring = ring_of(origins[0], keys)
    if len(ring.named) != len(keys):
        raise ValueError("a key stands there twice")
    return ring


def render(ring: Ring) -> str:
    """The content of the key file. A cluster's first key stands there by itself."""
    if ring == first(ring.newest.secret):
        return f"{ring.newest.secret.hex()}\n"
    lines = [f"key {key.number} {key.secret.hex()}" for key in ring.keys]
    return "\n".join((TITLE, f"origin {ring.origin.hex()}", *lines, ""))


class Keyring(Protocol):
    """The keys that a server holds while it runs, and what it hears of the others'. Any thread may use it.

    :ivar ring: never changed in place: whoever reads it has keys that belong together. Empty when there is no key.
    """

    ring: Ring

    def heard(self, who: Who, holds: tuple[bytes, ...]) -> None:
        """Somebody has sent what is authentic and fresh.

        :param holds: the names of the keys that it holds; the first is that of the one it signed with.
        """

    def holds(self, who: Who) -> tuple[bytes, ...]:
        """The names of the keys that somebody has said it holds; none before it was heard."""

    def expect(self, who: Who, ask: Callable[[], Awaitable[None]]) -> None:
        """Somebody besides the cluster's servers verifies: no key that it may need is dropped before it is heard.

        :param ask: has it say which keys it holds, by way of :meth:`heard`, or returns within seconds without; called
            now and then during a rotation.
        """
