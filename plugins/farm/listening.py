"""A device receives frames for a virtual MAC that is not its own: by its unicast filter, else by hearing everything.

The filter of a device takes the MAC as ``bridge fdb add MAC dev DEVICE self`` gives it. Where a device cannot filter by
a second MAC, the kernel by itself makes it hear everything; where the driver refuses, we do. All of it is counted by
module and undone with the last one, and what an administrator had set before stays.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from safekit_py.api import Problem, SystemProblem

from . import shared

NTF_SELF, NUD_PERMANENT = 0x02, 0x80
AF_BRIDGE = 7
IFF_PROMISC = 0x100
MACVLAN_PASSTHRU = "passthru"
# On a bridge a filter's entry would also keep the frames of the machines behind it from the other servers.
HEARS_ALL = ("bridge",)
SHARES_LOWER = ("macvlan", "ipvlan")  # they get only what their lower device knows to be theirs


def listen(netlink: IPRoute, index: int, vmac: bytes, user: str, memory: Path) -> str:
    """Let a device receive frames for a virtual MAC.

    :param user: the module that needs it.
    :param memory: a file, the same for all modules of this server; it outlives a crash.
    :returns: ``filter`` or ``promiscuous``.
    :raises SystemProblem: ``farm.no-vmac``: the device cannot.
    """
    link = netlink.get_links(index)[0]
    device, (kind, mode) = link.get_attr("IFLA_IFNAME"), _kind(link)
    if link.get_attr("IFLA_ADDRESS") == vmac.hex(":"):
        raise _refused(
            device, vmac, "it is the device's own address, and each frame that it sends would teach the switch"
        )
    if kind in SHARES_LOWER and mode != MACVLAN_PASSTHRU:
        raise _refused(device, vmac, f"it is a {kind}, which gets frames for its own MAC only")
    if kind not in HEARS_ALL:
        shared.take(memory, f"{device} {vmac.hex(':')}", user, lambda: "there" if _has(netlink, index, vmac) else "")
        try:
            netlink.fdb("add", ifindex=index, lladdr=vmac.hex(":"), flags=NTF_SELF, state=NUD_PERMANENT)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                shared.give_back(memory, f"{device} {vmac.hex(':')}", user, lambda before: None)
                return _hear_all(netlink, index, vmac, user, memory)
        return "filter"
    return _hear_all(netlink, index, vmac, user, memory)


def listen_no_more(netlink: IPRoute, user: str, memory: Path) -> None:
    """Undo every :func:`listen` of a module; devices that are gone are fine."""
    for key in shared.taken(memory, user):
        device, _, mac = key.partition(" ")
        shared.give_back(memory, key, user, lambda before, d=device, m=mac: _restore(netlink, d, m, before))  # type: ignore[misc]


def _hear_all(netlink: IPRoute, index: int, vmac: bytes, user: str, memory: Path) -> str:
    link = netlink.get_links(index)[0]
    device = link.get_attr("IFLA_IFNAME")
    shared.take(memory, device, user, lambda: "there" if link["flags"] & IFF_PROMISC else "")
    try:
        netlink.link("set", index=index, flags=IFF_PROMISC, mask=IFF_PROMISC)
    except NetlinkError as error:
        shared.give_back(memory, device, user, lambda before: None)
        raise _refused(device, vmac, str(error)) from error
    return "promiscuous"


def _restore(netlink: IPRoute, device: str, mac: str, before: str) -> None:
    if before:
        return
    for index in netlink.link_lookup(ifname=device):
        try:
            if mac:
                netlink.fdb("del", ifindex=index, lladdr=mac, flags=NTF_SELF, state=NUD_PERMANENT)
            else:
                netlink.link("set", index=index, flags=0, mask=IFF_PROMISC)
        except NetlinkError as error:
            if error.code not in {errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL}:
                raise


def _has(netlink: IPRoute, index: int, vmac: bytes) -> bool:
    return any(
        m["ifindex"] == index and m.get_attr("NDA_LLADDR") == vmac.hex(":")
        for m in netlink.get_neighbours(family=AF_BRIDGE)
    )


def _kind(link: Any) -> tuple[str, str]:
    """Kind of a device and, of a macvlan, its mode."""
    info = link.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    data = info.get_attr("IFLA_INFO_DATA") if kind == "macvlan" else None
    return kind, (data.get_attr("IFLA_MACVLAN_MODE") or "") if data else ""


def _refused(device: str, vmac: bytes, why: str) -> SystemProblem:
    text = f"device {device} does not take frames for the virtual MAC {vmac.hex(':')}: {why}"
    remedy = 'write <virtual_interface type="vmac_directed">, or use another device'
    return SystemProblem(Problem("farm.no-vmac", text, remedy))
