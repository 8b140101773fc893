"""Checker ``<intf>``: is a network device up? Resource ``intf.<ident>``, down: the module waits.

The kernel tells each change by itself, so a device that goes down is seen at once and costs nothing while it stays up.
Down means: set down, no carrier, gone, or the address by which it is known is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from safekit_py.api import CheckerType, Element, ModuleContext, Status, hookimpl

from .intf_element import ELEMENT, IntfCheck
from .names import Name, Unresolved
from .netlink import Link, Table
from .network import NetworkWatch, wait

BEAT = 10.0  # seconds after which it reports again though nothing has changed
RETRY = 5.0  # seconds between two attempts to resolve a host name
RULE = "interface_failure"

NETWORK = NetworkWatch()  # one for the process: all who listen share one socket


class IntfChecker:
    """Watches one device."""

    rule = RULE
    action = "wait"
    limit = 3 * BEAT

    def __init__(self, check: IntfCheck, network: NetworkWatch = NETWORK) -> None:
        self.config = check
        self.resource = f"intf.{check.ident}"
        self.when = "pre"
        self._network, self._name = network, Name(check.local_addr or check.network)

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Watch until cancelled."""
        with self._network.listen() as woken:
            last = ""  # where the address was last seen, to say what became of it
            while True:
                woken.clear()
                try:
                    addr = "" if self.config.device else await self._name.address()
                except Unresolved as error:
                    report(Status.UNKNOWN, str(error))
                    await wait(woken, RETRY)
                    continue
                table = self._network.current()
                link, failure = find(table, self.config, addr, last)
                last = link.name if link is not None else last
                failure = failure or (trouble(link) if link is not None else "")
                report(Status.DOWN if failure else Status.UP, failure or f"{last} is up")
                await wait(woken, BEAT)


def find(table: Table, check: IntfCheck, addr: str, last: str = "") -> tuple[Link | None, str]:
    """The device of a check, or why there is none.

    :param addr: the check's address, resolved.
    :param last: the device where it was seen before.
    """
    if check.device:
        return table.named(check.device), "" if table.named(check.device) else f"there is no device {check.device}"
    ip = ip_address(addr)
    held = table.holder(ip) if check.local_addr else table.around(ip)
    link = table.links.get(held.index) if held is not None else None
    if link is not None:
        return link, ""
    there = table.named(last) if last else None
    if there is not None and trouble(there):
        return None, trouble(there)  # a device that goes down may lose its addresses: say what came first
    if last and there is None:
        return None, f"{last} is gone"
    where = f", it was on {last}" if last else ""
    return None, f"{addr} is on no device{where}" if check.local_addr else f"no device is in the network of {addr}"


def trouble(link: Link) -> str:
    """What is wrong with a device, or empty."""
    if not link.up:
        return f"{link.name} is set down"
    return "" if link.running else f"{link.name} has no carrier"


def _create(context: ModuleContext) -> Iterable[IntfChecker]:
    return [IntfChecker(check) for check in context.config.all("check/intf")]


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<intf>`` below ``<check>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checker."""
    return (CheckerType("intf", _create),)
