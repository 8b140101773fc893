"""``<farm>`` and ``<vip>`` as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class Farm:
    """``<farm>``: the membership protocol.

    :param port: UDP port, 0 means the module's own: 4803 + 3 x module id.
    :param pulse: seconds between two heartbeats.
    :param mlost_count: pulses without the coordinator before a new one is elected.
    :param slost_count: pulses without a member before the coordinator removes it.
    :param lans: names of the LANs of cluster.xml that heartbeats use.
    """

    lans: tuple[str, ...]
    port: int = 0
    pulse: float = 0.035
    mlost_count: int = 5
    slost_count: int = 5


@dataclass(frozen=True, slots=True)
class VirtualAddr:
    """``<virtual_addr>``: a virtual IP.

    :param netmask: prefix length, or None to take that of the interface's network.
    """

    addr: IPv4Address
    where: str = "alias"
    check: bool = True
    connections: bool = False
    netmask: int | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """``<interface>``: a network device and the virtual addresses on it.

    :param name: device name, or None: the device whose network contains the first virtual address.
    :param kind: ``vmac_directed`` or ``vmac_invisible``.
    :param arpinterval: seconds between two repeated announcements.
    :param arpelapse: seconds after a change during which they are repeated.
    """

    addresses: tuple[VirtualAddr, ...]
    name: str | None = None
    kind: str = "vmac_directed"
    mac: str | None = None
    check: bool = True
    arpreroute: bool = False
    arpinterval: float = 60.0
    arpelapse: float = 1200.0


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
    virtual_addr: IPv4Address | None = None


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
