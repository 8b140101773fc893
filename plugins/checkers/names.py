"""Host names to addresses, so that a name server that does not answer holds up nobody else.

Each look-up has a thread of its own, which the process does not wait for at its end: the event loop's threads are few,
and the resolver of the system cannot be interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address

Ip = IPv4Address | IPv6Address

_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)


def literal(host: str) -> Ip | None:
    """The address that is written there; None for a name."""
    with contextlib.suppress(ValueError):
        return ip_address(host)
    return None


def possible(host: str) -> bool:
    """Whether it can be the address of a host, or its name."""
    address = literal(host)
    if address is not None:
        return not address.is_multicast
    # A name whose last label is a number can only be an address with a mistake in it.
    return bool(_HOST.fullmatch(host)) and not host.rsplit(".", 1)[-1].isdigit()


class Unresolved(Exception):
    """A host name has no address now; the text says so."""


class Name:
    """A host as the configuration names it: an address or a host name."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._thread: threading.Thread | None = None

    async def address(self) -> str:
        """Its address, the system's preferred one; this may take as long as the caller allows.

        :raises Unresolved: it has none.
        """
        if literal(self.host) is not None:
            return self.host
        if self._thread is not None and self._thread.is_alive():
            raise Unresolved(f"the name server has not answered for {self.host} yet")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()

        def settle(found: str, error: str) -> None:
            if not done.done():
                done.set_exception(Unresolved(error)) if error else done.set_result(found)

        def ask() -> None:
            found, error = "", ""
            try:
                found = str(socket.getaddrinfo(self.host, None, type=socket.SOCK_DGRAM)[0][4][0])
            except (OSError, UnicodeError):
                error = f"the host name {self.host} cannot be resolved"
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(settle, found, error)

        self._thread = threading.Thread(target=ask, name=f"resolve {self.host}", daemon=True)
        self._thread.start()
        return await done
