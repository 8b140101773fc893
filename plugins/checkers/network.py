"""Devices and addresses of this server, kept by the kernel's own events: netlink in, a table and wake-ups out.

Nothing is polled. All who listen share one socket, which is there as long as somebody listens. When events are lost
because the socket was full, everything is read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from . import netlink
from .netlink import Message, Table

ROUTE = 0  # NETLINK_ROUTE
SIZE = 1 << 16  # bytes of the largest datagram
ROOM = 1 << 20  # bytes of events that may wait
AT_ONCE = 256  # datagrams that are read before others have their turn
DUMP_LIMIT = 5.0  # seconds; the kernel answers at once
ATTEMPTS = 5  # a list that changes while it is read is read again


def _open(groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, ROUTE)
    try:
        made.bind((0, groups))
    except OSError:
        made.close()
        raise
    return made


def dump(kind: int, size: int) -> list[Message]:
    """All that the kernel has of a kind, now.

    :raises OSError: it refuses.
    """
    with _open(0) as asking:
        asking.settimeout(DUMP_LIMIT)
        for _ in range(ATTEMPTS):
            asking.send(netlink.request(kind, size))
            found, whole = _answer(asking)
            if whole:
                break
    return found


def _answer(asking: socket.socket) -> tuple[list[Message], bool]:
    found: list[Message] = []
    whole = True
    while True:
        for message in netlink.messages(asking.recv(SIZE)):
            whole = whole and not message.flags & netlink.INTERRUPTED
            if message.type == netlink.DONE:
                return found, whole
            if message.type == netlink.ERROR:
                code = -struct.unpack_from("=i", message.body)[0]
                raise OSError(code, f"netlink: {errno.errorcode.get(code, code)}")
            found.append(message)


def read() -> Table:
    """The devices and addresses as they are now."""
    table = Table()
    asked = (netlink.GET_LINK, netlink.LINK.size), (netlink.GET_ADDR, netlink.ADDRESS.size)
    for message in (each for kind, size in asked for each in dump(kind, size)):
        table.take(message)
    return table


def neighbours() -> dict[netlink.Ip, bytes]:
    """The MAC of each neighbour that the kernel knows."""
    found = (netlink.neighbour_of(m.body) for m in dump(netlink.GET_NEIGH, netlink.NEIGHBOUR.size))
    return dict(each for each in found if each is not None)


class NetworkWatch:
    """The table of this server's devices and addresses, and who wants to know when it changes."""

    def __init__(self) -> None:
        self.table = Table()
        self._listeners: set[asyncio.Event] = set()
        self._socket: socket.socket | None = None
        self._failure: OSError | None = None

    @contextlib.contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """While inside, ``table`` is up to date, and the event is set at each change.

        :raises OSError: the kernel gives no events.
        """
        woken = asyncio.Event()
        if self._socket is None:
            self._start()
        self._listeners.add(woken)
        try:
            yield woken
        finally:
            self._listeners.discard(woken)
            if not self._listeners:
                self._end()

    def current(self) -> Table:
        """The table.

        :raises OSError: the events have ended; whoever starts to listen anew gets them again.
        """
        if self._failure is not None:
            raise self._failure
        return self.table

    def _start(self) -> None:
        made = _open(netlink.GROUPS)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
            self.table = read()  # after the socket is bound: what changes meanwhile comes as an event
            asyncio.get_running_loop().add_reader(made, self._readable)
        except OSError:
            made.close()
            raise
        self._socket, self._failure = made, None

    def _end(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        """Take what waits, and only then wake the listeners: they see no state between two events."""
        assert self._socket is not None, "the reader goes with the socket"
        try:
            for _ in range(AT_ONCE):
                data, (sender, _groups) = self._socket.recvfrom(SIZE)
                if sender == 0:  # the kernel, and no other program
                    for message in netlink.messages(data):
                        self.table.take(message)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(error)
        for woken in self._listeners:
            woken.set()

    def _lost(self, error: OSError) -> None:
        self._end()
        self._failure = error
        if error.errno == errno.ENOBUFS:
            # What still waits is older than what was lost: a new socket and a new table leave it behind.
            try:
                self._start()
            except OSError as fatal:
                self._failure = fatal


async def wait(woken: asyncio.Event, seconds: float) -> None:
    """Until it is set, or for that long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await woken.wait()
