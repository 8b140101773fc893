"""One LAN between this server and one other: a connected UDP socket that outlives a loss of address, route or link."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from safekit_py.net import wire

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
BUFFER = 1 << 20  # bytes that may queue while nothing is read
_IP_FREEBIND = 15  # of Linux; Python has no name for these three
_IPV6_FREEBIND = 78
_SO_RCVBUFFORCE = 33


def is_literal(host: str) -> bool:
    """Whether it is an address; a name may take long to resolve."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def resolve(host: str, port: int) -> Address:
    """The address to use.

    :raises OSError: the name is not known.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    return family, address


class Link:
    """One LAN.

    :param index: the LAN's number, 0 to 255, the same on both servers.
    :param pulse: nanoseconds between two heartbeats.
    :raises OSError: the socket cannot be bound, because another program has the port. An address that is not there
        yet is none: the link works once it is.
    """

    def __init__(self, index: int, name: str, local: Address, other: Address, pulse: int) -> None:
        self.index, self.name, self.pulse = index, name, pulse
        self.counter = 0
        self.sent = self.send_errors = 0
        self.heard = 0  # monotonic clock, 0 for never
        self.due = self.repeat = 0  # monotonic clock: the next heartbeat, the next repetition of words
        self.spent = 0  # nanoseconds of reading in this pulse
        self.watched = False
        self._other = other
        self._connected = False
        family, address = local
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            try:  # beyond the system's limit only where permitted
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
            except OSError:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            if family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            else:
                self.socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            self.socket.bind(address)
        except OSError:
            self.socket.close()
            raise

    def ready(self) -> bool:
        """Whether the other's address could be set: there has been a route to it since the start."""
        if not self._connected:
            with contextlib.suppress(OSError):
                self.socket.connect(self._other[1])
                self._connected = True
        return self._connected

    def send(self, data: bytes, server: int) -> None:
        """Send to the other; a link that is down is counted."""
        if self.ready():
            for _ in range(2):  # a failure may be the echo of an earlier datagram: then this one was not tried
                with contextlib.suppress(OSError):
                    self.socket.send(data)
                    self.sent += 1
                    return
        self.send_errors += 1

    def receive(self) -> bytes:
        """What has arrived next.

        :raises BlockingIOError: nothing.
        :raises OSError: an earlier datagram was refused.
        """
        return self.socket.recv(wire.MAX_DATAGRAM + 1)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
