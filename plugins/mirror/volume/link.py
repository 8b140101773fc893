"""One replication connection: proof of the cluster key on both sides, frames out and in, and when the other counts as
lost.

The proof is a challenge and response (HMAC-SHA256 over both nonces, the module and the names of both servers), so a
connection of anybody else is closed before anything that it says is looked at. Its key is the newest of those that both
sides hold; a connection that stands needs no proof again when keys come and go. The data are not encrypted: replication
belongs on a network of the two servers' own.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import hmac
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from safekit_py.api import Key, Ring

from .frames import Frame, Kind, Reader, WireError, head, words
from .request import Data

TCP_USER_TIMEOUT = 18
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BUFFER = 4 << 20  # bytes of the kernel's, each way: several of the largest writes, so that neither side waits for them
BUFFERS = 64  # that one sendmsg takes
MUCH = 16 << 20  # bytes that wait to be sent: then no more is read from the kernel


@dataclass(frozen=True, slots=True)
class Names:
    """Who talks to whom.

    :param keys: gives those of the cluster as they are now.
    :param me: the name of this server.
    """

    module: str
    keys: Callable[[], Ring]
    me: str
    peer: str


def proof(key: Key, names: Names, role: str, mine: str, theirs: str) -> str:
    """What shows that a side has a key, in answer to the other's nonce."""
    speaker, listener = (names.me, names.peer) if role == "me" else (names.peer, names.me)
    text = "\0".join(("safekit replication", names.module, speaker, listener, theirs, mine))
    return hmac.new(key.secret, text.encode(), "sha256").hexdigest()


class Link:
    """A connection, connected or just connecting.

    :param timeout: seconds of silence after which the other side counts as lost.
    """

    def __init__(self, connection: socket.socket, names: Names, timeout: float) -> None:
        connection.setblocking(False)
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_TCP, TCP_USER_TIMEOUT, max(1, round(timeout * 1000))),
            (socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER),
            (socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER),
        ):
            with contextlib.suppress(OSError):
                connection.setsockopt(level, option, value)
        self.socket, self._names, self._timeout = connection, names, timeout
        self._reader = Reader(connection)
        self._out: collections.deque[Data] = collections.deque()
        self.waiting = 0  # bytes that wait to be sent
        self.sent = 0
        self._nonce, self.proven = secrets.token_hex(16), False
        self._answered = False
        self._ring = names.keys()
        held = [key.name.hex() for key in self._ring.keys]
        now = time.monotonic()
        self.heard, self._pinged = now, now
        self.put(words(Kind.AUTH, {"nonce": self._nonce, "module": names.module, "from": names.me, "keys": held}))

    def put(self, *parts: Data) -> None:
        """Send these bytes after what waits already."""
        for part in parts:
            self._out.append(part)
            self.waiting += len(part)

    def frame(
        self, kind: Kind, *, volume: int = 0, number: int = 0, offset: int = 0, size: int = 0, payload: Data = b""
    ) -> None:
        """Send a frame."""
        self.put(head(kind, volume, len(payload), size, number, offset))
        if len(payload):
            self.put(payload)

    def say(self, kind: Kind, values: Mapping[str, Any]) -> None:
        """Send a frame of words."""
        self.put(words(kind, values))

    def flush(self) -> None:
        """Hand the kernel what it takes now.

        :raises ConnectionError: the other side is gone.
        """
        out = self._out
        while out:
            parts = [out[n] for n in range(min(len(out), BUFFERS))]
            try:
                done = self.socket.sendmsg(parts)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOTCONN:  # it is still connecting
                    return
                raise ConnectionError(error.errno, error.strerror) from None
            self.waiting -= done
            self.sent += done
            while done:
                first = out[0]
                if len(first) <= done:
                    done -= len(first)
                    out.popleft()
                else:
                    out[0] = memoryview(first)[done:]
                    done = 0

    def read(self) -> Iterator[Frame]:
        """The frames that have arrived; those of the proof are dealt with here.

        :raises ConnectionError: it is lost, or the other side has not the key.
        """
        for frame in self._reader.read():
            self.heard = time.monotonic()
            if frame.kind is Kind.AUTH:
                self._auth(frame.words())
            elif not self.proven:
                raise WireError("the other side has not proved that it has the cluster key")
            elif frame.kind is not Kind.PING:
                yield frame

    def _auth(self, said: Mapping[str, Any]) -> None:
        if not self._answered:
            if said.get("module") != self._names.module or said.get("from") != self._names.peer:
                raise WireError("another module, or another server than that of the heart")
            self._theirs = said.get("nonce", "")
            if not isinstance(self._theirs, str) or not self._theirs.isascii():
                raise WireError("a nonce that is none")
            self._key = self._common(said.get("keys"))
            self._answered = True
            self.say(Kind.AUTH, {"proof": proof(self._key, self._names, "me", self._nonce, self._theirs)})
        elif not self.proven:
            right = proof(self._key, self._names, "peer", self._theirs, self._nonce)
            if not hmac.compare_digest(ascii(said.get("proof")), ascii(right)):
                raise WireError("the other side has not the key of this cluster")
            self.proven = True

    def _common(self, theirs: object) -> Key:
        """The newest key that both sides hold."""
        names = theirs if isinstance(theirs, list) else []
        common = [key for key in self._ring.keys if key.name.hex() in names]
        if not common:
            raise WireError("the other side has no key of this cluster, or another version")
        return common[-1]

    def tick(self, now: float) -> None:
        """Let the other side hear that this one lives.

        :raises ConnectionError: it has been silent for too long.
        """
        if now - self.heard > self._timeout:
            raise ConnectionError(f"no word for {self._timeout:g} s")
        if now - self._pinged > self._timeout / 4:
            self._pinged = now
            if self.proven:
                self.frame(Kind.PING)

    @property
    def full(self) -> bool:
        """Whether so much waits to be sent that nothing should be added."""
        return self.waiting > MUCH

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


Told = Callable[[str, str, Mapping[str, Any]], None]
