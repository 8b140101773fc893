"""States that were read a moment ago, told again: many who look cost the agent, and this process, little more than one.

Flows through it: answers of the agent as ASGI messages in; the same messages out, or all of an answer's bytes.
Invariant: an answer is told only to the role for which the agent gave it, and never after a change, or the news of
one, went through this process.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from safekit_py.control.access import Role

FRESH = 0.25  # seconds
MOST = 64  # answers
STATE = re.compile(r"/api/v1/(status|cluster|modules/[^/]+)")  # what is read over and over
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'",
}
Heads = Iterable[tuple[bytes, bytes]]


def hardened(heads: Heads, *, secure: bool) -> list[tuple[bytes, bytes]]:
    """An answer's heads and those that keep browsers safe."""
    found = list(heads)
    added = SAFE | ({"Strict-Transport-Security": "max-age=31536000"} if secure else {})
    if not any(name == b"cache-control" for name, _ in found):
        added["Cache-Control"] = "no-store"
    return [*found, *((name.lower().encode(), value.encode()) for name, value in added.items())]


@dataclass(slots=True)
class Answer:
    """One that was good.

    :param whole: its bytes, made when they are asked for.
    """

    read: float
    messages: list[dict[str, Any]]
    whole: bytes = b""


class Answers:
    """All that are fresh.

    :param secure: whether clients come by TLS.
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self.changes = 0
        self._kept: dict[tuple[Role, bytes], Answer] = {}

    def find(self, role: Role, target: bytes) -> list[dict[str, Any]]:
        """The messages of the answer to a call of this role; none when there is none that is fresh."""
        found = self._kept.get((role, target))
        return found.messages if found is not None and time.monotonic() - found.read < FRESH else []

    def whole(self, role: Role, target: bytes) -> bytes:
        """The same as the bytes of HTTP/1.1; empty when there is none."""
        messages = self.find(role, target)
        if not messages:
            return b""
        found = self._kept[role, target]
        found.whole = found.whole or written(messages, secure=self._secure)
        return found.whole

    def keep(self, role: Role, target: bytes, messages: list[dict[str, Any]], changes: int) -> None:
        """Remember an answer, if it is a whole one that says that all is well.

        :param changes: `changes` when it was asked for: what was read before the last one is not told again.
        """
        whole = len(messages) > 1 and not messages[-1].get("more_body")
        if whole and messages[0]["status"] == 200 and changes == self.changes:
            self._kept.pop((role, target), None)
            while len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[role, target] = Answer(time.monotonic(), messages)

    def clear(self) -> None:
        """Forget all: something changes."""
        self.changes += 1
        self._kept.clear()


class Keeper:
    """Hands an answer on and keeps its messages."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, message: Any) -> None:
        """One message."""
        self.messages.append(dict(message))
        await self._send(message)


def written(messages: list[dict[str, Any]], *, secure: bool) -> bytes:
    """A whole answer as it goes to the client."""
    body = b"".join(each.get("body", b"") for each in messages[1:])
    heads = [(b"date", formatdate(usegmt=True).encode()), (b"content-length", b"%d" % len(body))]
    heads += [each for each in messages[0]["headers"] if each[0] != b"content-length"]
    lines = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in hardened(heads, secure=secure)), b"", body]
    return b"\r\n".join(lines)
