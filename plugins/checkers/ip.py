"""Checker ``<ip>``: is an address on this server, and on no other machine? Resource ``ip.<ident>``, down: stopstart.

That it is removed is seen at once, by the kernel's events. Whether another machine has it is asked each interval by
duplicate-address detection (``dad``), and at once when another machine announces it. A machine counts only when it
answers two questions, one right after the other.

In a farm every server holds the address: ``Peers`` tells whose MAC an answer may come from. Invariant: a MAC that is
one of this server's, or that ``peers`` vouches for, never sets the resource to down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any, Protocol

from safekit_py.api import CheckerType, Element, ModuleContext, Severity, Status, hookimpl

from .claims import Claims
from .intf import BEAT, NETWORK, RETRY
from .ip_element import ELEMENT, IpCheck
from .names import Name, Unresolved
from .netlink import Ip, Link, Table
from .network import NetworkWatch, wait

WINDOW = 0.3  # seconds in which whoever holds the address answers; on a LAN it takes a thousandth of that
SLACK = 20.0  # seconds that a busy machine may add before the checker counts as hanging
RULE = "ip_failure"


class Peers(Protocol):
    """Other machines that hold the address by right."""

    def macs(self) -> frozenset[bytes]:
        """The MACs that are known to be theirs."""

    def doubt(self, mac: bytes, link: Link) -> str:
        """Why an unknown MAC that was heard on a device may be theirs all the same; empty when it cannot."""


class Alone:
    """No other machine may hold the address."""

    def macs(self) -> frozenset[bytes]:
        """None."""
        return frozenset()

    def doubt(self, mac: bytes, link: Link) -> str:
        """There is none."""
        return ""


class IpChecker:
    """Watches one address."""

    rule = RULE
    action = "stopstart"

    def __init__(
        self,
        check: IpCheck,
        when: str,
        warn: Callable[[str], None],
        peers: Peers | None = None,
        network: NetworkWatch = NETWORK,
    ) -> None:
        self.config = check
        self.resource = f"ip.{check.ident}"
        self.when = when
        self.limit = 2 * check.interval + SLACK
        self._network, self._peers, self._warn = network, peers or Alone(), warn
        self._name = Name(check.addr)
        self._claims: Claims | None = None
        self._told: set[str] = set()

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Watch until cancelled."""
        try:
            with self._network.listen() as woken:
                while True:
                    try:
                        async with asyncio.timeout(self.config.interval + SLACK / 2):
                            ip = ip_address(await self._name.address())
                    except (Unresolved, TimeoutError) as error:
                        report(Status.UNKNOWN, str(error) or f"no answer from the name server for {self.config.addr}")
                        await asyncio.sleep(RETRY)
                        continue
                    await self._watch(ip, woken, report)
        finally:
            await self._silence()

    async def _watch(self, ip: Ip, woken: asyncio.Event, report: Callable[[str, str], None]) -> None:
        """Until it is time to resolve the name again: an interval, or the next change."""
        woken.clear()
        link, failure = locate(self._network.current(), ip)
        if link is None or failure:
            await self._silence()
            report(Status.DOWN, failure)
            await wait(woken, BEAT)
            return
        strangers = await self._strangers(ip, link, woken)
        if strangers:
            strangers &= await self._strangers(ip, link, woken)
        if locate(self._network.current(), ip) != (link, ""):
            return
        if strangers:
            text = f"{ip} is also used by {', '.join(sorted(map(spelled, strangers)))}, seen on {link.name}"
            report(Status.DOWN, text)
        else:
            report(Status.UP, f"{ip} is on {link.name}")
        await wait(woken, self.config.interval)

    async def _strangers(self, ip: Ip, link: Link, woken: asyncio.Event) -> frozenset[bytes]:
        """Ask once; the MACs of others that answer, peers left out."""
        try:
            if not link.asks:
                return frozenset()
            claims = await self._open(ip, link, woken)
            claims.take()
            claims.ask()
            end = asyncio.get_running_loop().time() + WINDOW
            while (left := end - asyncio.get_running_loop().time()) > 0:
                woken.clear()
                await wait(woken, left)
                if locate(self._network.current(), ip)[0] != link:
                    return frozenset()
            heard = claims.take()
        except OSError as error:
            await self._silence()
            self._tell(f"whether another machine has {ip} cannot be asked on {link.name}: {error.strerror or error}")
            return frozenset()
        woken.clear()  # these answers are dealt with now
        unknown = heard - self._network.current().macs() - self._peers.macs()
        doubts = {mac: self._peers.doubt(mac, link) for mac in unknown}
        for mac, doubt in doubts.items():
            if doubt:
                self._tell(f"{spelled(mac)} on {link.name} answers for {ip} too: {doubt}")
        return frozenset(mac for mac, doubt in doubts.items() if not doubt)

    async def _open(self, ip: Ip, link: Link, woken: asyncio.Event) -> Claims:
        if self._claims is not None and (self._claims.ip, self._claims.link) != (ip, link):
            await self._silence()
        if self._claims is None:
            self._claims = Claims(ip, link, woken.set)
        return self._claims

    async def _silence(self) -> None:
        claims, self._claims = self._claims, None
        if claims is not None:
            await claims.close()

    def _tell(self, text: str) -> None:
        """Once in the module's log: it is asked again each interval."""
        if text not in self._told:
            self._told.add(text)
            self._warn(text)


def locate(table: Table, ip: Ip) -> tuple[Link | None, str]:
    """The device that has the address; with what is wrong with the address, in words."""
    held = table.holder(ip)
    link = table.links.get(held.index) if held is not None else None
    if held is None or link is None:
        return None, f"{ip} is on no device"
    return link, f"another machine has {ip}, as the kernel found on {link.name}" if held.duplicate else ""


def spelled(mac: bytes) -> str:
    """A MAC as people write it."""
    return mac.hex(":")


def usual_when(context: ModuleContext) -> str:
    """``when`` of a check that does not say it."""
    return "prim" if context.config.service.mode == "mirror" else "both"


def make(check: IpCheck, context: ModuleContext, peers: Peers | None = None) -> IpChecker:
    """The checker of one ``<ip>``."""
    return IpChecker(check, check.when or usual_when(context), lambda text: context.log(Severity.WARNING, text), peers)


def shared(context: ModuleContext) -> frozenset[str]:
    """The virtual addresses of a farm or a mirror: they make the checkers, for they know who else may hold them."""
    vip: Any = context.config.one("vip") if context.config.service.mode in ("farm", "mirror") else None
    return frozenset(str(a.addr) for i in vip.interfaces for a in i.addresses) if vip is not None else frozenset()


def _create(context: ModuleContext) -> Iterable[IpChecker]:
    checks: tuple[IpCheck, ...] = context.config.all("check/ip")
    return [make(check, context) for check in checks if check.addr not in shared(context)]


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<ip>`` below ``<check>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checker."""
    return (CheckerType("ip", _create),)
