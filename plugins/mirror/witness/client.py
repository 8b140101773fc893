"""A server's side of our own witness: see ``seams.WitnessClient``.

Each request is sent again until its answer comes or its time is over. A lease counts from before the request was first
sent, so an answer that comes late, or twice, promises nothing too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safekit_py.api import ModuleContext, SafekitError

from ..model import Witness
from ..seams import Grant, WitnessClient
from . import wire
from .addresses import endpoint
from .protocol import MARGIN, Answer, Request
from .service import read_key

PATIENCE = 1.0  # seconds for a request, or a third of the lease where that is less
AGAIN = 0.15  # seconds after which a request is sent again


def clock() -> int:
    """Of this machine: no one sets it, and it goes on while the machine sleeps; nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def make(context: ModuleContext, witness: Witness) -> WitnessClient:
    """The client that ``<witness>`` asks for."""
    cluster = ",".join(context.cluster.nodes)
    if witness.kind == "etcd":
        from .etcd import EtcdWitness  # noqa: PLC0415 - it loads an HTTP library that others do without

        return EtcdWitness(witness, cluster, context.name, context.node)
    file = dict(witness.options).get("key")
    shared: Callable[[], bytes] = (lambda: read_key(Path(file))) if file else (lambda: context.cluster_key)
    return SafekitWitness(witness, shared, cluster, context.name, context.node)


class _Mailbox(asyncio.DatagramProtocol):
    """Hands each answer to whoever waits for it."""

    def __init__(self, key: wire.Key) -> None:
        self._key = key
        self.waiting: dict[int, asyncio.Future[Answer]] = {}

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        with contextlib.suppress(wire.Rejected):
            answer = wire.answered(self._key.open(wire.ANSWER, data))
            waits = self.waiting.get(answer.nonce)
            if waits is not None and not waits.done():
                waits.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there now: the request is sent again."""


class SafekitWitness:
    """See ``seams.WitnessClient``.

    :param shared: gives the key that the witness has too.
    """

    proves = True

    def __init__(self, witness: Witness, shared: Callable[[], bytes], cluster: str, module: str, server: str) -> None:
        self._address, self._lease = witness.addresses[0], round(witness.lease * 1e9)
        self._shared, self._cluster, self._module, self._server = shared, cluster, module, server
        self._patience = min(PATIENCE, witness.lease / 3)
        self._token = 0
        self._one = asyncio.Lock()

    async def acquire(self, data: str, previous: str, *, known: bool = False) -> Grant:
        """Take or renew the lease for these data."""
        answer, since, reason = await self._ask("resume" if known else "acquire", data, previous)
        if answer is None:
            return Grant(granted=False, reason=f"the witness {self._address} does not answer{reason}", answered=False)
        if answer.verdict == "granted":
            return Grant(granted=True, until=since + int(self._lease * MARGIN))
        return Grant(granted=False, reason=answer.reason)

    async def release(self) -> None:
        """Give it back; when the witness does not answer, it ends by itself."""
        await self._ask("release", "", "")

    async def _ask(self, verb: str, data: str, previous: str) -> tuple[Answer | None, int, str]:
        """The answer, the clock from before its request was sent, and why there is none."""
        async with self._one:
            try:
                async with asyncio.timeout(self._patience):
                    return *await self._exchange(verb, data, previous), ""
            except TimeoutError:
                return None, 0, ""
            except OSError as error:
                return None, 0, f": {error.strerror or error}"
            except SafekitError as error:  # the key cannot be read
                return None, 0, f": {error.problems[0].message}"

    async def _exchange(self, verb: str, data: str, previous: str) -> tuple[Answer, int]:
        key = wire.Key(self._shared())
        loop = asyncio.get_running_loop()
        host, port = endpoint(self._address, wire.PORT)
        # A new socket each time: it finds the witness again after its name or the routes have changed.
        transport, mailbox = await loop.create_datagram_endpoint(lambda: _Mailbox(key), remote_addr=(host, port))
        try:
            while True:
                nonce = int.from_bytes(os.urandom(8), "big")
                lease = 0 if verb == "release" else self._lease
                request = Request(self._server, verb, nonce, self._token, data, previous, lease)
                since = clock()
                waits = mailbox.waiting[nonce] = loop.create_future()
                answer = await self._until_answered(
                    transport, wire.ask(key, self._cluster, self._module, request), waits
                )
                self._token = answer.token
                if answer.verdict != "again":
                    return answer, since
        finally:
            transport.close()

    @staticmethod
    async def _until_answered(
        transport: asyncio.DatagramTransport, datagram: bytes, waits: asyncio.Future[Answer]
    ) -> Answer:
        while True:
            transport.sendto(datagram)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(waits), AGAIN)
