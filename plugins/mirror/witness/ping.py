"""Hosts that answer an echo request as the witness: ``<check><splitbrain exec="ping">``. See ``seams.WitnessClient``.

A server that loses the other one goes on when one of the hosts answers it, and waits when none does: so the one that is
cut off gives way. It is weaker than a lease: hosts that answer both servers let both go on, and they know nothing of
data, so a server whose partner may have newer data is never let go on by them.
"""

from __future__ import annotations

import asyncio

from safekit_py.api import Status

from ...checkers.splitbrain import WitnessChecker
from ...checkers.splitbrain_element import SplitbrainCheck
from ..seams import Grant

PATIENCE = 2.0  # seconds; two requests, a second apart: one lost packet means nothing
FOREVER = 1 << 62  # nanoseconds: what was granted once is not asked for again before the next decision


class PingWitness:
    """A witness that only shows whether this server is cut off."""

    proves = False

    def __init__(self, check: SplitbrainCheck) -> None:
        self.ask_instead(check)

    def ask_instead(self, check: SplitbrainCheck) -> None:
        """Ask these hosts from now on."""
        self._checker = WitnessChecker(check)
        self._hosts = ", ".join(check.witnesses)

    async def acquire(self, data: str, previous: str, *, known: bool = False) -> Grant:
        """Granted when a host answers."""
        if known:
            return Grant(granted=False, reason="an echo does not show whether there are newer data")
        try:
            async with asyncio.timeout(PATIENCE):
                value, why = await self._checker.look()
        except TimeoutError:
            value, why = Status.DOWN, f"no echo from {self._hosts} in {PATIENCE:g} s"
        if value != Status.UP:
            return Grant(granted=False, reason=why, answered=False)
        return Grant(granted=True, until=FOREVER, reason=why)

    async def release(self) -> None:
        """Nothing is held."""
