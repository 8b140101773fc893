"""The witness as a process: datagrams in, decisions of ``protocol``, records on disk, answers out.

A record is on disk before the answer that rests on it goes out. Requests are taken one after the other; each costs one
write at most, and a renewal costs none.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from safekit_py.api import Problem, SystemProblem

from . import protocol, wire
from .keyfiles import KeyFiles
from .store import Store, Where

log = logging.getLogger("safekit.witness")
ROOMS = 10_000  # modules that one witness serves


def clock() -> int:
    """A clock that no one sets and that goes on while the machine sleeps, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Service(asyncio.DatagramProtocol):
    """Serves the owners of some keys. What is not authentic is counted and gets no answer."""

    def __init__(self, keys: KeyFiles, store: Store, now: Callable[[], int] = clock) -> None:
        self._keys, self._store, self._now = keys, store, now
        self._rooms = {where: protocol.restored(record, now()) for where, record in store.load().items()}
        self._transport: asyncio.DatagramTransport | None = None
        self.rejected: collections.Counter[str] = collections.Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's own class for it is not a subclass

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """One request."""
        try:
            reply = self.answer(data)
        except wire.Rejected as rejected:
            self.rejected[rejected.reason] += 1
        except OSError as error:  # no answer: the server counts the witness as silent
            log.error("a record cannot be written: %s", error)
        else:
            if self._transport is not None:
                self._transport.sendto(reply, addr)

    def answer(self, data: bytes) -> bytes:
        """The answer to a request.

        :raises wire.Rejected: it is none of an owner of a key.
        :raises OSError: the record could not be written; nothing has changed.
        """
        held = self._keys.find(wire.named(data), self._now())
        if held is None:
            raise wire.Rejected("key")
        cluster, module, request = wire.asked(held.key.open(wire.REQUEST, data))
        if request.verb == "keys":  # nothing but what every answer tells
            return wire.answer(held.key, protocol.Answer(request.nonce, "keys", 0, ""), held.names)
        where: Where = (held.owner, cluster, module)
        room = self._rooms.get(where)
        if room is None:
            if len(self._rooms) >= ROOMS:
                raise wire.Rejected("full")
            room = protocol.Room()
        fresh = int.from_bytes(os.urandom(8), "big") | 1
        after, answer = protocol.step(room, request, self._now(), fresh)
        if after.record != room.record:
            self._store.save(where, after.record)
            log.info("%s of %s: %s", module, cluster, _told(room.record, after.record))
        self._rooms[where] = after
        return wire.answer(held.key, answer, held.names)


def _told(before: protocol.Record, after: protocol.Record) -> str:
    words = []
    if after.holder != before.holder:
        words.append(f"{after.holder} has the lease" if after.holder else f"{before.holder} gave the lease back")
    if after.data != before.data:
        words.append(f"the data are {after.data} of {after.author}")
    return ", ".join(words) or "a longer lease"


def _listen(host: str, port: int) -> socket.socket:
    """A socket for an address, or for all of both families, of IPv4 alone where the kernel has no IPv6."""
    if not host:
        with contextlib.suppress(OSError):
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return _bound(made, ("::", port))
    where = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_DGRAM)[0]  # noqa: S104 - asked for
    return _bound(socket.socket(where[0], socket.SOCK_DGRAM), where[4])


def _bound(made: socket.socket, address: Any) -> socket.socket:
    try:
        made.setblocking(False)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


async def serve(
    host: str, port: int, keys: KeyFiles, folder: Path, ready: Callable[[int], None], until: asyncio.Event
) -> None:
    """Run until told to end.

    :param host: empty for all addresses of this machine.
    :param ready: called with the port once requests are taken.
    :raises SystemProblem: ``witness.state``, or ``witness.listen``: the address cannot be used.
    """
    store = Store(folder)
    try:
        service = Service(keys, store)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: service, sock=_listen(host, port))
        except OSError as error:
            text = f"the witness cannot listen on {host or 'all addresses'} port {port}: {error.strerror or error}"
            raise SystemProblem(Problem("witness.listen", text, "give an address of this machine: --listen")) from error
        try:
            ready(transport.get_extra_info("sockname")[1])
            await until.wait()
        finally:
            transport.close()
    finally:
        store.close()


def run(host: str, port: int, keys: KeyFiles, folder: Path, ready: Callable[[int], None]) -> None:
    """Serve in this process until SIGTERM or SIGINT."""

    async def main() -> None:
        until, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, until.set)
        await serve(host, port, keys, folder, ready, until)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
