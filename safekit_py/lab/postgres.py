"""A connection to PostgreSQL with a limit for each answer, by its own protocol: enough of it to insert and to count.

What flows: a statement -> frames of protocol 3.0 over one socket -> rows as text. A driver would do more and say less:
here a server that has lost its power is noticed when the caller says so, not when a driver's options have added up.
The server must trust the client (``trust`` in its pg_hba.conf).
"""

from __future__ import annotations

import socket
import struct
import time
from types import TracebackType

PROTOCOL = 196608  # 3.0
NANO = 1_000_000_000
LARGEST = 64 * 1024 * 1024  # bytes of one message


class Refused(Exception):
    """The server answered with an error. The transaction may have been committed all the same."""


class Connection:
    """One session, each statement in a transaction of its own.

    :param timeout: seconds for one statement.
    :param patience: seconds to get the session.
    :raises OSError: nobody answers in time.
    :raises Refused: the server does not let us in, for instance because it is still recovering.
    """

    def __init__(self, host: str, port: int, *, timeout: float = 2.0, patience: float = 1.0, user: str = "postgres"):
        self._timeout, self._deadline, self._buffer = timeout, _now() + patience, bytearray()
        self._socket = socket.create_connection((host, port), patience)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            words = b"".join(each.encode() + b"\0" for each in ("user", user, "database", "postgres")) + b"\0"
            self._socket.sendall(struct.pack("!ii", len(words) + 8, PROTOCOL) + words)
            self._until_ready()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session without a word, as a client that dies."""
        self._socket.close()

    def query(self, statement: str) -> list[list[str]]:
        """Run one statement.

        :raises OSError: no answer in time, or the connection is lost; the connection is of no more use.
        :raises Refused: an error of the server.
        """
        self._deadline = _now() + self._timeout
        words = statement.encode() + b"\0"
        self._socket.settimeout(self._timeout)
        self._socket.sendall(b"Q" + struct.pack("!i", len(words) + 4) + words)
        return self._until_ready()

    def _until_ready(self) -> list[list[str]]:
        rows: list[list[str]] = []
        error = ""
        while True:
            kind, body = self._message()
            if kind == b"Z":
                if error:
                    raise Refused(error)
                return rows
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                error = _text(body)
                if "FATAL" in error or "PANIC" in error:
                    raise Refused(error)  # nothing follows it
            elif kind == b"R" and struct.unpack_from("!i", body)[0] != 0:
                raise Refused("the server wants a password; pg_hba.conf must trust this client")

    def _message(self) -> tuple[bytes, bytes]:
        (length,) = struct.unpack("!i", self._take(5, keep=True)[1:5])
        if not 4 <= length <= LARGEST:
            raise OSError(f"a message of {length} bytes")
        whole = self._take(length + 1)
        return whole[:1], whole[5:]

    def _take(self, size: int, *, keep: bool = False) -> bytes:
        """So many bytes; with ``keep`` they will be given again."""
        while len(self._buffer) < size:
            left = self._deadline - _now()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._socket.settimeout(left)
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionResetError("the server has closed the connection")
            self._buffer += more
        found = bytes(self._buffer[:size])
        if not keep:
            del self._buffer[:size]
        return found


def _now() -> float:
    return time.monotonic_ns() / NANO


def _row(body: bytes) -> list[str]:
    (count,) = struct.unpack_from("!h", body)
    at, found = 2, []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        found.append(body[at : at + length].decode() if length >= 0 else "")
        at += max(length, 0)
    return found


def _text(body: bytes) -> str:
    """Severity and message out of an error's fields."""
    fields = {each[:1]: each[1:].decode(errors="replace") for each in body.split(b"\0") if each}
    return f"{fields.get(b'V') or fields.get(b'S', '')}: {fields.get(b'M', '')}"
