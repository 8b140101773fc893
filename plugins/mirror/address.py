"""The virtual addresses of a mirror: on the primary alone, announced to everybody, gone before the other takes them.

Flows through it: ``<vip>`` -> the places of its addresses -> devices of this server, and frames that tell the clients.
Who may have the addresses is decided elsewhere and is safe already; a machine that answers for one is only told of.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from safekit_py.api import ModuleContext, Problem, Severity, SystemProblem

from ..checkers.claims import Claims
from ..checkers.network import read
from ..vip import placing
from ..vip.frames import announcement
from ..vip.model import Vip
from ..vip.placing import Placed

FIRST = (0.0, 1.0, 2.0)  # seconds before each of the announcements that always follow a change: at 0, 1 and 3 s
QUICK = 0.1  # seconds in which whoever has an address says so; on a LAN it takes a hundredth of that
PATIENCE = 1.0  # seconds that a machine which has the address gets to give it up


class Addresses:
    """The virtual addresses of one module. Constructing it changes nothing."""

    def __init__(self, context: ModuleContext, vip: Vip) -> None:
        self._context, self._vip = context, vip
        self._note = context.paths.module_var(context.name) / "placed.json"
        self._places: tuple[Placed, ...] = ()
        self._up = False
        self._task: asyncio.Task[None] | None = None

    async def up(self) -> None:
        """Put the addresses here and announce them; those that are here already stay.

        :raises SystemProblem: there is no device for them, or the kernel refuses.
        """
        self._places = placing.plan(self._vip.interfaces)
        if not self._places:
            return
        absent = set(placing.missing(self._places))
        await self._await_others([each for each in self._places if str(each.addr) in absent and each.link.asks])
        placing.up(self._note, self._places)
        self._up = True
        self.announce()

    async def down(self) -> None:
        """Take the addresses away and announce them no more.

        :raises SystemProblem: the kernel refuses.
        """
        self._up = False
        self._quiet()
        self._remove()

    async def recover(self) -> None:
        """Remove what an earlier run left.

        :raises SystemProblem: the kernel refuses.
        """
        if self._remove():
            self._context.log(Severity.WARNING, "virtual addresses that an earlier run left are removed")

    def leave(self) -> bool:
        """Announce them no more, and leave them where they are; whether that is here."""
        self._quiet()
        return self._up

    def take(self, *, here: bool) -> None:
        """Go on where another process has put them here, or has not.

        :raises SystemProblem: there is no device for them.
        """
        self._up = here
        if here:
            self._places = placing.plan(self._vip.interfaces)
            self.announce()

    def announce(self) -> None:
        """Tell everybody: at once, after 1 s and 3 s, then as ``arpreroute`` says. Nothing when they are not here."""
        self._quiet()
        if self._up:
            name = f"announcements of {self._context.name}"
            self._task = asyncio.create_task(self._repeat(self._places), name=name)

    def guarded(self) -> tuple[tuple[str, str], ...]:
        """Device and ``address/prefix`` of each: what the volume takes away when its lease ends.

        :raises SystemProblem: there is no device for them.
        """
        places = self._places if self._up else placing.plan(self._vip.interfaces)
        return tuple((each.link.name, each.text) for each in places)

    def missing(self) -> tuple[str, ...]:
        """The addresses that should be here and are not."""
        return placing.missing(self._places) if self._up else ()

    # --- inside -----------------------------------------------------------------------------------

    def _remove(self) -> bool:
        try:
            return placing.down(self._note)
        except OSError as error:
            text = f"the virtual addresses could not be removed: {error.strerror or error}"
            raise SystemProblem(Problem("vip.not-removed", text, "the agent needs CAP_NET_ADMIN")) from None

    def _quiet(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _repeat(self, places: tuple[Placed, ...]) -> None:
        clock = asyncio.get_running_loop().time
        for pause in FIRST:
            await asyncio.sleep(pause)
            self._tell(places)
        repeated = [each for each in places if each.interface.arpreroute]
        if not repeated:
            return
        end = clock() + max(each.interface.arpelapse for each in repeated)
        pause = min(each.interface.arpinterval for each in repeated)
        while clock() + pause <= end:
            await asyncio.sleep(pause)
            self._tell(repeated)

    def _tell(self, places: Iterable[Placed]) -> None:
        for place in places:
            if not place.link.asks:
                continue
            try:
                with socket.socket(
                    socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                ) as raw:
                    raw.bind((place.link.name, 0))
                    raw.send(announcement(place.addr, place.link.mac))
            except OSError as error:
                text = f"{place.addr} could not be announced on {place.link.name}: {error.strerror or error}"
                self._context.log(Severity.WARNING, text)

    async def _await_others(self, places: list[Placed]) -> None:
        """Give a machine that has one of the addresses a moment to let go of it."""
        heard = asyncio.Event()
        claims: list[Claims] = []
        try:
            for place in places:
                claims.append(Claims(place.addr, place.link, heard.set))
            holders = await self._holders(claims)
            if holders:
                self._context.log(
                    Severity.WARNING, f"another machine still has {holders}: waiting up to {PATIENCE:g} s"
                )
                end = asyncio.get_running_loop().time() + PATIENCE
                while holders and asyncio.get_running_loop().time() < end:
                    holders = await self._holders(claims)
                if holders:
                    self._context.log(Severity.WARNING, f"another machine keeps {holders}; this server takes it over")
        except OSError as error:
            text = f"whether another machine has the virtual addresses could not be asked: {error.strerror or error}"
            self._context.log(Severity.WARNING, text)
        finally:
            for each in claims:
                await each.close()

    async def _holders(self, claims: list[Claims]) -> str:
        """Who answers, in words; empty when nobody does."""
        for each in claims:
            each.ask()
        await asyncio.sleep(QUICK if claims else 0)
        mine = read().macs() if claims else frozenset()
        found = [(each.ip, mac) for each in claims for mac in each.take() - mine]
        return ", ".join(f"{ip} ({mac.hex(':')})" for ip, mac in sorted(found, key=str))
