"""Requests to the witness and its answers as sealed datagrams, and back: pure.

    magic 4 | version 1 | kind 1 | key 8 | JSON | hmac 32

The HMAC-SHA256 is that of a key which is made of a shared one for this use alone. ``key`` is made of that key too and
tells the other side which of several to take. An answer names the keys of the cluster that the witness holds, so that a
server goes over to a new one when the witness has it too. Nothing else is looked at before the HMAC is right. The kind
says which way a datagram goes, so a request that is sent back is no answer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from safekit_py.api import Key as Shared
from safekit_py.api import Ring

from .protocol import LONGEST, NAME, SHORTEST, Answer, Request

MAGIC, VERSION = b"SKPW", 2
REQUEST, ANSWER = 1, 2
MAX_DATAGRAM = 1400
PORT = 4850
_HEADER = struct.Struct("!4sBB8s")
_HMAC = 32
_U64 = 1 << 64


class Rejected(ValueError):
    """A datagram that is not acceptable; ``reason`` is one word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Key:
    """A shared key, made fit for this use.

    :ivar shared: the name of the shared one.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared.name
        self._secret = hmac.digest(shared.secret, b"safekit witness", "sha256")
        self.name = hashlib.blake2b(self._secret, digest_size=8).digest()

    def seal(self, kind: int, content: dict[str, Any]) -> bytes:
        """The bytes to send."""
        body = _HEADER.pack(MAGIC, VERSION, kind, self.name) + json.dumps(content, separators=(",", ":")).encode()
        return body + hmac.digest(self._secret, body, "sha256")

    def open(self, kind: int, data: bytes) -> dict[str, Any]:
        """Check a datagram that was received.

        :raises Rejected: with the first reason that applies.
        """
        if named(data) != self.name:
            raise Rejected("key")
        body = data[:-_HMAC]
        if not hmac.compare_digest(hmac.digest(self._secret, body, "sha256"), data[-_HMAC:]):
            raise Rejected("auth")
        if body[5] != kind:
            raise Rejected("kind")
        try:
            content = json.loads(body[_HEADER.size :])
        except (ValueError, RecursionError):
            raise Rejected("malformed") from None
        if not isinstance(content, dict):
            raise Rejected("malformed")
        return content


def owner(ring: Ring) -> str:
    """What tells a cluster's records from another's; the same through every rotation of its keys."""
    return hashlib.blake2b(hmac.digest(ring.origin, b"safekit witness", "sha256"), digest_size=8).hexdigest()


def named(data: bytes) -> bytes:
    """The name of the key that a datagram was sealed with, not proven yet.

    :raises Rejected: it is no datagram of ours.
    """
    if len(data) < _HEADER.size + _HMAC:
        raise Rejected("short")
    if len(data) > MAX_DATAGRAM:
        raise Rejected("long")
    magic, version, _, name = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Rejected("magic")
    if version != VERSION:
        raise Rejected("version")
    return bytes(name)


def ask(key: Key, cluster: str, module: str, request: Request) -> bytes:
    """A request as a datagram."""
    return key.seal(REQUEST, {"cluster": cluster, "module": module, **asdict(request)})


def asked(content: dict[str, Any]) -> tuple[str, str, Request]:
    """Cluster, module and request of an opened datagram.

    :raises Rejected: malformed.
    """
    names = ("cluster", "module", "server", "verb", "data", "previous")
    numbers = ("nonce", "token", "lease")
    if set(content) != {*names, *numbers}:
        raise Rejected("malformed")
    if not all(isinstance(content[n], str) and len(content[n]) <= NAME for n in names):
        raise Rejected("malformed")
    if not all(type(content[n]) is int and 0 <= content[n] < _U64 for n in numbers):
        raise Rejected("malformed")
    request = Request(**{f.name: content[f.name] for f in fields(Request)})
    acquires = request.verb in ("acquire", "resume") and bool(request.data) and SHORTEST <= request.lease <= LONGEST
    if not (acquires or request.verb in ("release", "keys")) or not (request.server and content["module"]):
        raise Rejected("malformed")
    return content["cluster"], content["module"], request


def answer(key: Key, given: Answer, held: Iterable[bytes]) -> bytes:
    """An answer as a datagram.

    :param held: the names of the cluster's keys that the witness holds.
    """
    return key.seal(ANSWER, {**asdict(given), "keys": [name.hex() for name in held]})


def answered(content: dict[str, Any]) -> tuple[Answer, tuple[bytes, ...]]:
    """The answer of an opened datagram, and the names of the cluster's keys that the witness holds.

    :raises Rejected: malformed.
    """
    shape = {"nonce": int, "verdict": str, "token": int, "reason": str, "keys": list}
    if set(content) != set(shape) or not all(type(content[name]) is kind for name, kind in shape.items()):
        raise Rejected("malformed")
    try:
        held = tuple(map(bytes.fromhex, content.pop("keys")))
    except (TypeError, ValueError):
        raise Rejected("malformed") from None
    return Answer(**content), held
