"""Virtual addresses on devices, by netlink, in the network namespace that this process is in.

Everything may be done twice: adding what is there and removing what is gone are no errors. While a virtual address is
on a device, ``arp_announce`` is 2 there: a server must ask by ARP in its own name, or the ARP tables of clients and
routers would follow whichever server asked last.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ..vip.model import Interface, Ip
from . import shared

IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
FOREVER = 0xFFFFFFFF
SYSCTL = Path("/proc/sys/net/ipv4/conf")
IN_OWN_NAME = "2"  # of arp_announce: the best address of the target's network, never a virtual one


def networks(netlink: IPRoute) -> list[tuple[int, str, IPv4Interface | IPv6Interface]]:
    """Every address of this host: interface index, device name, address with its prefix."""
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
    found = []
    for message in (*netlink.get_addr(family=socket.AF_INET), *netlink.get_addr(family=socket.AF_INET6)):
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        index = message["index"]
        found.append((index, names.get(index, ""), ip_interface(f"{address}/{message['prefixlen']}")))
    return found


def device_of(netlink: IPRoute, interface: Interface) -> tuple[int, str]:
    """Index and name of an ``<interface>``'s device: the named one, or that in the network of its first address.

    :raises LookupError: there is none; the text says what was looked for.
    """
    if interface.name is not None:
        found = netlink.link_lookup(ifname=interface.name)
        if not found:
            names = sorted(link.get_attr("IFLA_IFNAME") for link in netlink.get_links())
            raise LookupError(f"this server has no network device {interface.name}; it has {', '.join(names)}")
        return found[0], interface.name
    if not interface.addresses:
        raise LookupError("an interface without a name needs a virtual address by which its device can be found")
    wanted = interface.addresses[0].addr
    # The longest prefix is the most particular network; an address of /32 (often a virtual one) is no network.
    matches = [
        entry
        for entry in networks(netlink)
        if entry[2].network.prefixlen < entry[2].max_prefixlen
        and entry[2].version == wanted.version
        and wanted in entry[2].network
    ]
    if not matches:
        known = ", ".join(f"{address} on {name}" for _, name, address in networks(netlink)) or "none"
        raise LookupError(f"no network device is in the network of {wanted}; this server's addresses: {known}")
    index, name, _ = max(matches, key=lambda entry: entry[2].network.prefixlen)
    return index, name


def mac_of(netlink: IPRoute, index: int) -> bytes:
    """The six bytes of a device's MAC.

    :raises LookupError: no such device, or one without a MAC.
    """
    with contextlib.suppress(NetlinkError):
        for link in netlink.get_links(index):
            if text := link.get_attr("IFLA_ADDRESS"):
                return bytes.fromhex(text.replace(":", ""))
    raise LookupError(f"network device {index} is gone or has no MAC address")


def add(netlink: IPRoute, index: int, address: Ip, netmask: int | None = None) -> int:
    """Put a virtual address on a device.

    :param netmask: prefix length, or None: that of the device's network that contains it, else 32 (IPv6: 128).
    :returns: the prefix length that it has now.
    :raises NetlinkError: the kernel refused.
    """
    around = []
    for device, _, present in networks(netlink):
        if device == index and present.ip == address and netmask in {None, present.network.prefixlen}:
            return present.network.prefixlen
        if device == index and present.ip != address and address in present.network:
            around.append(present.network.prefixlen)
    prefix = netmask if netmask is not None else max(around, default=address.max_prefixlen)
    # The device's own address has made the route to its network: ours must not add a second, nor take it along later.
    flags = IFA_F_NOPREFIXROUTE if prefix in around else 0
    more: dict[str, int] = {}
    if address.version == 6:
        # All servers have it: detection would find it twice. Deprecated, no connection of this server starts from it.
        flags |= IFA_F_NODAD
        more = {"preferred_lft": 0, "valid_lft": FOREVER}
    try:
        netlink.addr("add", index=index, address=str(address), prefixlen=prefix, flags=flags, **more)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
    return prefix


def remove(netlink: IPRoute, index: int, address: Ip) -> bool:
    """Take a virtual address off a device, whatever its prefix length; whether it was there."""
    gone = False
    for device, _, present in networks(netlink):
        if device == index and present.ip == address:
            try:
                netlink.addr("del", index=index, address=str(address), prefixlen=present.network.prefixlen)
                gone = True
            except NetlinkError as error:
                if error.code not in {errno.EADDRNOTAVAIL, errno.ENODEV}:
                    raise
    return gone


def ask_in_own_name(device: str, user: str, memory: Path) -> None:
    """Set the device's ``arp_announce`` to 2 and remember what it was.

    :param user: who needs it (a module): the old value comes back with the last user.
    :param memory: a file, the same for all modules of this server; it outlives a crash.
    """
    setting = SYSCTL / device / "arp_announce"
    shared.take(memory, device, user, lambda: setting.read_text(encoding="ascii").strip())
    setting.write_text(IN_OWN_NAME, encoding="ascii")


def ask_as_before(device: str, user: str, memory: Path) -> None:
    """Undo :func:`ask_in_own_name`; a device that is gone, or was never changed, is fine."""

    def restore(before: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (SYSCTL / device / "arp_announce").write_text(before, encoding="ascii")

    shared.give_back(memory, device, user, restore)
