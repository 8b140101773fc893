"""A server's side of our own witness: see ``seams.WitnessClient``.

Each request is sent again until its answer comes or its time is over. A lease counts from before the request was first
sent, so an answer that comes late, or twice, promises nothing too long. Requests are signed with the newest key that
the witness is known to hold; while nothing is known of it, or it does not answer, each key has its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safekit_py.api import ModuleContext, Ring, SafekitError, choose_key

from ..model import Witness
from ..seams import Grant, WitnessClient
from . import wire
from .addresses import endpoint
from .keyfiles import read_keys
from .protocol import MARGIN, Answer, Request

PATIENCE = 1.0  # seconds for a request, or a third of the lease where that is less
AGAIN = 0.15  # seconds after which a request is sent again
TRIES = 2  # with the key that the witness is known to hold, before the others have their turn


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
    if file:
        return SafekitWitness(witness, lambda: read_keys(Path(file)), cluster, context.name, context.node)
    keys, who = context.keys, f"witness {witness.addresses[0]}"
    names = (cluster, context.name, context.node)
    client = SafekitWitness(witness, lambda: keys.ring, *names, told=lambda held: keys.heard(who, held))
    keys.expect(who, client.look)
    return client


class _Mailbox(asyncio.DatagramProtocol):
    """Hands each answer to whoever waits for it."""

    def __init__(self, keys: Iterable[wire.Key]) -> None:
        self._keys = {key.name: key for key in keys}
        self.held: tuple[bytes, ...] = ()  # names of the shared keys as the last answer told them, its own first
        self.waiting: dict[int, asyncio.Future[Answer]] = {}

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        with contextlib.suppress(wire.Rejected):
            key = self._keys.get(wire.named(data))
            if key is None:
                return
            answer, held = wire.answered(key.open(wire.ANSWER, data))
            waits = self.waiting.get(answer.nonce)
            if waits is not None and not waits.done():
                self.held = (key.shared, *(name for name in held if name != key.shared))
                waits.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there now: the request is sent again."""


class SafekitWitness:
    """See ``seams.WitnessClient``.

    :param shared: gives the keys that the witness has too, or one of them.
    :param told: is called with the names of the keys that the witness holds, when it answers; that of its answer first.
    """

    proves = True

    def __init__(
        self,
        witness: Witness,
        shared: Callable[[], Ring],
        cluster: str,
        module: str,
        server: str,
        told: Callable[[tuple[bytes, ...]], None] = lambda _: None,
    ) -> None:
        self._address, self._lease = witness.addresses[0], round(witness.lease * 1e9)
        self._shared, self._cluster, self._module, self._server = shared, cluster, module, server
        self._patience = min(PATIENCE, witness.lease / 3)
        self._token = 0
        self._held: tuple[bytes, ...] = ()
        self._told = told
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

    async def look(self) -> None:
        """Ask which keys it holds, beside what else is asked: also a secondary must know, which needs no lease yet."""
        with contextlib.suppress(TimeoutError, OSError, SafekitError):
            async with asyncio.timeout(self._patience):
                await self._exchange("keys", "", "")

    async def _ask(self, verb: str, data: str, previous: str) -> tuple[Answer | None, int, str]:
        """The answer, the clock from before its request was sent, and why there is none."""
        async with self._one:
            try:
                async with asyncio.timeout(self._patience):
                    return *await self._exchange(verb, data, previous), ""
            except TimeoutError:
                self._held = ()
                return None, 0, ""
            except OSError as error:
                return None, 0, f": {error.strerror or error}"
            except SafekitError as error:  # the key cannot be read
                return None, 0, f": {error.problems[0].message}"

    async def _exchange(self, verb: str, data: str, previous: str) -> tuple[Answer, int]:
        ring = self._shared()
        keys = {shared.name: wire.Key(shared) for shared in ring.keys}
        loop = asyncio.get_running_loop()
        host, port = endpoint(self._address, wire.PORT)
        # A new socket each time: it finds the witness again after its name or the routes have changed.
        made = loop.create_datagram_endpoint(lambda: _Mailbox(keys.values()), remote_addr=(host, port))
        transport, mailbox = await made
        try:
            while True:
                nonce = int.from_bytes(os.urandom(8), "big")
                lease = self._lease if verb in ("acquire", "resume") else 0
                request = Request(self._server, verb, nonce, self._token, data, previous, lease)
                since = clock()
                waits = mailbox.waiting[nonce] = loop.create_future()
                tries = [*([choose_key(ring, self._held)] * TRIES if self._held else ()), *ring.keys]
                asks = [wire.ask(keys[each.name], self._cluster, self._module, request) for each in tries]
                answer = await self._until_answered(transport, asks, waits)
                self._held = mailbox.held
                self._told(mailbox.held)
                if verb == "keys":
                    return answer, since
                self._token = answer.token
                if answer.verdict != "again":
                    return answer, since
        finally:
            transport.close()

    @staticmethod
    async def _until_answered(
        transport: asyncio.DatagramTransport, datagrams: Iterable[bytes], waits: asyncio.Future[Answer]
    ) -> Answer:
        turn = itertools.cycle(datagrams)
        while True:
            transport.sendto(next(turn))
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(waits), AGAIN)
