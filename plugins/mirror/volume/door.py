"""Where the primary's volume process knocks: a connection comes in once the other side has proved that it has the key.

Until then nothing that it says is looked at and the present connection stays, so nobody without the key can disturb it.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain

from .frames import Frame
from .link import Link, Names

WAITING = 8  # connections without a proof; the oldest makes room for another


class Door:
    """A listening socket and those who stand before it.

    :param peer: the only address that is let in.
    :param timeout: seconds in which a proof must come.
    :param watch: have a descriptor polled.
    :param forget: and not any more.
    :param enter: is given a connection that has proved itself, and what it said behind the proof.
    """

    def __init__(
        self,
        address: tuple[str, int],
        peer: str,
        names: Names,
        timeout: float,
        *,
        watch: Callable[[int, Callable[[int], None], int], None],
        forget: Callable[[int], None],
        enter: Callable[[Link, Iterable[Frame]], None],
    ) -> None:
        self._peer, self._names, self._timeout = peer, names, timeout
        self._watch, self._forget, self._enter = watch, forget, enter
        self._waiting: dict[int, Link] = {}
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
            self._socket.listen(WAITING)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        watch(self._socket.fileno(), lambda _: self._knock(), select.POLLIN)

    def _knock(self) -> None:
        with suppress(OSError):
            connection, address = self._socket.accept()
            if address[0] != self._peer:
                connection.close()
                return
            if len(self._waiting) >= WAITING:
                self._turn_away(next(iter(self._waiting)))
            link = Link(connection, self._names, self._timeout)
            self._waiting[connection.fileno()] = link
            self._watch(connection.fileno(), lambda _: self._listen(link), select.POLLIN | select.POLLOUT)

    def _listen(self, link: Link) -> None:
        fd = link.socket.fileno()
        try:
            frames = link.read()
            first = next(frames, None)
            link.flush()
        except ConnectionError:
            self._turn_away(fd)
            return
        if not link.proven:
            events = select.POLLIN | (select.POLLOUT if link.waiting else 0)
            self._watch(fd, lambda _: self._listen(link), events)
            return
        del self._waiting[fd]
        self._forget(fd)
        self._enter(link, chain(() if first is None else (first,), frames))

    def _turn_away(self, fd: int) -> None:
        self._forget(fd)
        self._waiting.pop(fd).close()

    def tick(self, now: float) -> None:
        """Those who say nothing are turned away."""
        for fd, link in list(self._waiting.items()):
            try:
                link.tick(now)
            except ConnectionError:
                self._turn_away(fd)

    def close(self) -> None:
        """Nobody comes in any more."""
        for fd in list(self._waiting):
            self._turn_away(fd)
        self._forget(self._socket.fileno())
        self._socket.close()
