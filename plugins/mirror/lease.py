"""How long this server may be primary: what a witness grants, and what the other server's last word still allows.

All instants are nanoseconds of CLOCK_BOOTTIME: nobody sets that clock, and it goes on while the machine sleeps.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, replace

from .roles import SERVES, Side
from .seams import Beat, Grant, WitnessClient

VOUCH = 0.9  # of the timeout: how long the other server's last word holds, counted from what it had heard
EARLY = 2 / 3  # of the lease: with less than that left it is asked for again


@dataclass(frozen=True, slots=True)
class Held:
    """What this server has of the witness.

    :param data: for which the lease is held, or asked for again; empty when it is not.
    """

    grant: Grant
    data: str


class Lease:
    """Of one module.

    :param witness: None when two servers that lose each other decide by themselves.
    :param seconds: for which the witness grants it.
    :param timeout: of the heart, seconds.
    """

    def __init__(self, witness: WitnessClient | None, seconds: float, timeout: float) -> None:
        self.witness = witness
        self._seconds, self._timeout = seconds, timeout
        self._grant = Grant(granted=False)
        self._data = ""  # for which it is held, or asked for again
        self._asking: asyncio.Task[None] | None = None

    async def acquire(self, data: str, previous: str, *, known: bool) -> Grant:
        """Take it for these data; see ``WitnessClient.acquire``."""
        assert self.witness is not None, "without a witness no decision asks for a lease"
        self._data = data
        self._grant = await self.witness.acquire(data, previous, known=known)
        return self._grant

    def forget(self) -> None:
        """It was refused, and is not asked for again beside everything else."""
        self._data = ""

    def until(self, beat: Beat | None, peer: Side | None) -> float:
        """Instant until which this server may be primary; infinite without a witness.

        :param beat: what was heard of the other server last.
        :param peer: what it said of itself then.
        """
        if self.witness is None:
            return math.inf
        until = float(self._grant.until) if self._grant.granted else 0.0
        if beat is not None and beat.echo and peer is not None and peer.state not in SERVES and not peer.claim:
            # The other server promises not to take over before the heart's timeout after what it had heard.
            vouched = beat.echo + VOUCH * self._timeout * 1e9 - time.monotonic_ns() + boottime()
            until = max(until, vouched)
        return until

    def keep(self) -> None:
        """Ask again in time, beside everything else."""
        if self.witness is None or not self._data or (self._asking is not None and not self._asking.done()):
            return
        if self._grant.until - boottime() < self._seconds * 1e9 * EARLY:
            self._asking = asyncio.create_task(self._ask(self.witness))

    async def _ask(self, witness: WitnessClient) -> None:
        grant = await witness.acquire(self._data, self._data)
        if grant.granted or grant.answered:
            self._grant = grant
        else:  # it was not heard: what it granted before holds until it ends
            self._grant = replace(self._grant, reason=grant.reason, answered=False)

    async def give_back(self) -> None:
        """The other server need not wait for the end of a lease that is not needed any more."""
        held, self._data = self._data, ""
        if self.witness is not None and held and self._grant.granted:
            self._grant = Grant(granted=False)
            await self.witness.release()

    async def close(self) -> None:
        """Ask no more, and give it back."""
        await self.leave()
        await self.give_back()

    async def leave(self) -> Held:
        """Ask no more; what is held goes on."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        return Held(self._grant, self._data)

    def take(self, held: Held) -> None:
        """Go on with what another process of this server has left."""
        self._grant, self._data = held.grant, held.data

    def words(self, isolation: str) -> str:
        """For ``status``."""
        if self.witness is None:
            return "none: two servers that lose each other may both run" if isolation == "alone" else "none"
        if not self._grant.granted:
            return f"no lease{': ' + self._grant.reason if self._grant.reason else ''}"
        if not self.witness.proves:
            return f"an echo: {self._grant.reason}"
        left = max(0.0, (self._grant.until - boottime()) / 1e9)
        return f"lease for {left:.1f} s" + ("" if self._grant.answered else "; it does not answer")


def boottime() -> int:
    """The clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
