"""``<vip>`` as frozen values.

A line of the file is kept for messages only: it takes no part in comparisons, so that a module whose elements have only
moved has not changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

Ip = IPv4Address | IPv6Address

ALIAS, ONE_SIDE_ALIAS, ONE_SIDE = "alias", "one_side_alias", "one_side"
REAL = "real"  # kind of an interface with <real_interface>
INVISIBLE = "vmac_invisible"


@dataclass(frozen=True, slots=True)
class VirtualAddr:
    """``<virtual_addr>``: a virtual IP.

    :param where: ``alias``: on every server of a farm; ``one_side_alias``: on the primary of a mirror; ``one_side``:
        there too, and with IPv6 the kernel may choose it as the source of the primary's own connections.
    :param netmask: prefix length, or None to take that of the interface's network.
    :param line: of the file.
    """

    addr: Ip
    where: str = ALIAS
    check: bool = True
    connections: bool = False
    netmask: int | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Interface:
    """``<interface>``: a network device and the virtual addresses on it.

    :param name: device name, or None: the device whose network contains the first virtual address.
    :param kind: ``vmac_directed``, ``vmac_invisible``, ``real``, or empty when it has no virtual address.
    :param arpinterval: seconds between two repeated announcements.
    :param arpelapse: seconds after a change during which they are repeated.
    :param line: of the file.
    """

    addresses: tuple[VirtualAddr, ...]
    name: str | None = None
    kind: str = "vmac_directed"
    mac: str | None = None
    check: bool = True
    arpreroute: bool = False
    arpinterval: float = 60.0
    arpelapse: float = 1200.0
    line: int = field(default=0, compare=False)

    @property
    def vmac(self) -> bytes | None:
        """The virtual MAC of ``vmac_invisible``: the one that is named, else 5a:fe and the first IPv4 address.

        Where there is none, and 32 bits of the first IPv6 address.
        """
        if self.kind != INVISIBLE:
            return None
        if self.mac is not None:
            return bytes.fromhex(self.mac.replace(":", ""))
        ordered = sorted((each.addr for each in self.addresses), key=lambda addr: addr.version)
        return b"\x5a\xfe" + ordered[0].packed[-4:] if ordered else None


@dataclass(frozen=True, slots=True)
class Rule:
    """``<rule>``: which packets a group takes.

    :param virtual_addr: None means every virtual address (``*``).
    :param port: 0 means every port (``*``).
    :param proto: ``tcp``, ``udp`` or ``arp``.
    :param filter: ``on_addr``, ``on_port`` or ``on_ipid``.
    """

    proto: str
    filter: str
    port: int = 0
    virtual_addr: Ip | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """``<group>``: rules that share one table of owners.

    :param powers: server name to relative share; a server that is not named has power 1.
    """

    name: str
    rules: tuple[Rule, ...]
    powers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Vip:
    """``<vip>``."""

    interfaces: tuple[Interface, ...] = ()
    groups: tuple[Group, ...] = ()
    tcpreset: bool = True
    scriptcontrol: bool = False
