"""Lets a server's clients in, and gives new ones to the other servers: the powers that it tells the group.

Flows through it: what the engine or a script wants, in; powers to the group; back when the views say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from safekit_py.api import GroupTransport, Problem, PulseThread, SystemProblem

OPEN_LIMIT = 10.0  # seconds to wait for a view in which this server has its share
SHUT_LIMIT = 2.0  # seconds to wait, once a coordinator that is gone has been replaced, for one in which it has none

ON_ITS_WAY = 0.05  # seconds in which new clients arrive that the others have sent here before they knew


class Door:
    """Of one module, from its preparation to its release.

    :param powers: what this server takes of each group when it is open.
    :param has_share: whether the view that is in force gives it any.
    """

    def __init__(
        self, pulse: PulseThread, group: GroupTransport, powers: tuple[int, ...], has_share: Callable[[], bool]
    ) -> None:
        self._pulse, self._group, self._powers, self._has_share = pulse, group, powers, has_share
        self._changed = asyncio.Event()

    def look(self) -> None:
        """A view has come into force, or this server's part in it has changed."""
        self._changed.set()

    async def open(self) -> None:
        """Ask for this server's share and wait until it has it.

        :raises SystemProblem: it does not get it.
        """
        self._pulse.set_powers(self._group, self._powers)
        if any(self._powers) and not await self._until(self._has_share, OPEN_LIMIT):
            raise SystemProblem(
                Problem(
                    "farm.no-view",
                    f"no view of the group gave this server its share in {OPEN_LIMIT:g} s",
                    "safekit-py cluster state on each server: are key and cluster.xml equal, is the port let through?",
                )
            )

    async def shut(self) -> bool:
        """Take no new clients, and wait until each server knows that they are not for this one any more.

        :return: whether others may have them; else no view came in time.
        """
        settings, had = self._group.settings, self._has_share()
        # A coordinator that dies meanwhile is missed by its neighbours first, and by all two pulses later.
        pulse = settings.pulse / 1e9
        replaced = max(settings.lost_after, settings.coordinator_lost_after) / 1e9 + 2 * pulse
        self._pulse.set_powers(self._group, (0,) * len(self._powers))
        if not await self._until(lambda: not self._has_share(), SHUT_LIMIT + replaced):
            return False
        if not had:
            return True
        for _ in range(round(SHUT_LIMIT / pulse)):
            if not self._group.snapshot()["behind"]:
                break
            await asyncio.sleep(pulse)
        await asyncio.sleep(ON_ITS_WAY)
        return True

    async def _until(self, condition: Callable[[], bool], limit: float) -> bool:
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
