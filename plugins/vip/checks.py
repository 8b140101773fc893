"""``check="on"``: the checkers that are made of interfaces and virtual addresses.

Resources ``intf.<network, or device>`` (down: the module waits) and ``ip.<address>`` (down: stopstart); an ``<intf>``
or ``<ip>`` of the same ident takes the generated one's place. In a farm every server holds the virtual addresses, in a
mirror the other server may for a moment: ``Members`` knows the MACs by which they do, so that they never accuse each
other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network

from safekit_py.api import ModuleContext

from ..checkers import ip
from ..checkers.intf import NETWORK, IntfChecker
from ..checkers.intf_element import IntfCheck
from ..checkers.ip_element import IpCheck
from ..checkers.netlink import Ip, Link
from ..checkers.network import NetworkWatch, neighbours, read
from .model import Interface, Vip

Macs = Mapping[int, frozenset[bytes]]


class Members:
    """The module's other servers, as those who hold the virtual addresses by right.

    :param seen: by server number the MACs that it has told in a view, of all servers that were ever seen in one.
    :param what: of which the servers are, in words.
    """

    def __init__(
        self, context: ModuleContext, seen: Callable[[], Macs], network: NetworkWatch = NETWORK, what: str = "farm"
    ) -> None:
        self._cluster, self._me = context.cluster, context.node
        self._seen, self._network, self._what = seen, network, what

    def macs(self) -> frozenset[bytes]:
        """Those told in a view."""
        return frozenset(mac for macs in self._seen().values() for mac in macs)

    def doubt(self, mac: bytes, link: Link) -> str:
        """Heartbeats may be cut while ARP is not: a server that no view has shown yet may answer, and be in its right.

        It cannot when its own address is in a network of the device, and the kernel knows no such MAC for it.
        """
        known = neighbours()
        networks = [a.network for a in self._network.current().addresses.values() if a.index == link.index]
        unclear = []
        for number, node in enumerate(self._cluster.nodes):
            if node == self._me:
                continue
            addresses = list(self._addresses(node))
            if any(known.get(address) == mac for address in addresses):
                return f"it is {node}, a server of this {self._what}"
            if not self._seen().get(number) and not any(a in n for a in addresses for n in networks):
                unclear.append(node)
        return f"it may be {' or '.join(unclear)}, not seen in the {self._what} yet" if unclear else ""

    def _addresses(self, node: str) -> Iterable[Ip]:
        for lan in self._cluster.lans:
            with contextlib.suppress(ValueError):  # a host name: it tells nothing here
                yield ip_address(self._cluster.address(node, lan.name) or "")


def interfaces(context: ModuleContext) -> Iterable[IntfChecker]:
    """One for each device of the interfaces with ``check="on"``."""
    vip: Vip = context.config.one("vip") or Vip()
    taken = {check.ident for check in context.config.all("check/intf")}
    made: dict[str, IntfCheck] = {}
    for interface in vip.interfaces:
        if interface.check and (interface.addresses or interface.name):
            check = _check_of(interface)
            if check.ident not in taken:
                made.setdefault(check.ident, check)
    return [IntfChecker(check) for check in made.values()]


def _check_of(interface: Interface) -> IntfCheck:
    """Named after the device, or the network of its first virtual address; after that itself while it is in none."""
    if interface.name is not None:
        return IntfCheck(interface.name, device=interface.name)
    first = interface.addresses[0]
    prefix = first.netmask
    if prefix is None:
        around = read().around(first.addr)
        prefix = around.prefix if around is not None else None
    ident = first.addr if prefix is None else ip_network((first.addr, prefix), strict=False).network_address
    return IntfCheck(str(ident), network=str(first.addr))


def addresses(context: ModuleContext, seen: Callable[[], Macs], what: str = "farm") -> Iterable[ip.IpChecker]:
    """One for each virtual address with ``check="on"``, and those of ``<ip>`` that are about a virtual address."""
    vip: Vip = context.config.one("vip") or Vip()
    members = Members(context, seen, what=what)
    asked: tuple[IpCheck, ...] = context.config.all("check/ip")
    checks = [check for check in asked if check.addr in ip.shared(context)]
    taken = {check.ident for check in asked}
    held = [str(a.addr) for i in vip.interfaces for a in i.addresses if a.check]
    checks += [IpCheck(addr, addr) for addr in held if addr not in taken]
    return [ip.make(check, context, members) for check in checks]
