"""What a farm must know of a network device, and what follows from it for its administrator.

:func:`facts` reads the device: netlink, ethtool's ioctl, the machine's vendor. :func:`notes` is pure: facts and the
type of the virtual interface in, what is well and what is not out, each with its remedy. The agent may load this.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..checkers import netlink
from ..checkers.network import dump
from ..vip.model import INVISIBLE

OK, WARNING, PROBLEM = "ok", "warning", "problem"

IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_PROMISCUITY = 4, 5, 10, 18, 30
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_MACVLAN_MODE = 1, 2, 1
MACVLAN_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}

SIOCETHTOOL = 0x8946
GET_DRIVER = 0x03
GET_FLAGS, FLAG_LRO, FLAG_RX_VLAN = 0x25, 1 << 15, 1 << 8
SWITCHES = {"gro": 0x2B, "tso": 0x1E, "gso": 0x23}

VENDORS = Path("/sys/class/dmi/id")
CPUINFO = Path("/proc/cpuinfo")
HYPERVISORS = {
    "vmware": "VMware",
    "microsoft corporation virtual machine": "Hyper-V",
    "qemu": "KVM",
    "kvm": "KVM",
    "red hat": "KVM",
    "ovirt": "KVM",
    "innotek": "VirtualBox",
    "virtualbox": "VirtualBox",
    "xen": "Xen",
    "amazon ec2": "a public cloud",
    "google": "a public cloud",
}
TAKES_FRAMES = ("bridge", "openvswitch", "bond", "team")  # other masters, as a VRF, leave them to the port
UNKNOWN = "a hypervisor"  # the processor says that there is one, and nothing says which


@dataclass(frozen=True, slots=True)
class Facts:
    """A network device.

    :param kind: of a virtual device, as ``bridge``, ``vlan``, ``bond``, ``macvlan``, ``veth``; else empty.
    :param mode: of a macvlan.
    :param driver: as ``ethtool -i`` shows it; empty when it tells none.
    :param master: the bridge, bond or other device that it is a port of, and that one's kind; empty: none.
    :param lower: the device that it stands on, as a VLAN does; empty: none, or in another namespace.
    :param promiscuity: how many have asked to hear every frame; the kernel too, where the device cannot filter by a
        second MAC.
    :param offloads: ``gro``, ``lro``, ``tso``, ``gso``, ``rx-vlan``; None: the device does not say.
    :param hypervisor: of this machine; empty: none is seen.
    """

    name: str
    index: int
    mac: bytes
    up: bool
    running: bool
    mtu: int
    kind: str = ""
    mode: str = ""
    driver: str = ""
    master: str = ""
    master_kind: str = ""
    lower: str = ""
    promiscuity: int = 0
    offloads: Mapping[str, bool | None] = field(default_factory=dict)
    hypervisor: str = ""

    @property
    def is_bridge_port(self) -> bool:
        """Whether a bridge has its frames."""
        return self.master_kind in {"bridge", "openvswitch"}

    def filters_unicast(self, vmac_placed: bool) -> bool | None:
        """Whether it takes a second MAC without hearing everything; None: it cannot be told before one is placed.

        A capture that runs on the device makes it look as if it could not.
        """
        return self.promiscuity == 0 if vmac_placed else None


@dataclass(frozen=True, slots=True)
class Note:
    """What follows from the facts.

    :param state: ``ok``, ``warning`` or ``problem``.
    :param remedy: empty when there is nothing to do.
    """

    state: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


def facts(device: str) -> Facts:
    """Read a device.

    :raises LookupError: this server has no such device.
    :raises OSError: the kernel refuses to tell.
    """
    links = {}
    for message in dump(netlink.GET_LINK, netlink.LINK.size):
        link = netlink.link_of(message.body)
        if link is not None:
            links[link.index] = (link, netlink.attributes(message.body, netlink.LINK.size))
    found = next(((link, more) for link, more in links.values() if link.name == device), None)
    if found is None:
        raise LookupError(f"this server has no network device {device}")
    link, more = found
    kind, mode = _kind(more)
    master = links.get(_number(more, IFLA_MASTER))
    lower = links.get(_number(more, IFLA_LINK))
    return Facts(
        name=device,
        index=link.index,
        mac=link.mac,
        up=link.up,
        running=link.running,
        mtu=_number(more, IFLA_MTU),
        kind=kind,
        mode=mode,
        driver=_driver(device),
        master=master[0].name if master else "",
        master_kind=_kind(master[1])[0] if master else "",
        # A veth gives the number of its other end, which in another namespace is some other device's here.
        lower=lower[0].name if lower and kind in {"vlan", "macvlan", "ipvlan"} else "",
        promiscuity=_number(more, IFLA_PROMISCUITY),
        offloads=_offloads(device),
        hypervisor=hypervisor(),
    )


def hypervisor() -> str:
    """Which hypervisor this machine runs on, as its firmware tells it; empty: none is seen."""
    words = []
    for name in ("sys_vendor", "product_name"):
        with contextlib.suppress(OSError):
            words.append((VENDORS / name).read_text(encoding="utf-8", errors="replace").strip())
    said = " ".join(words).lower()
    known = next((each for part, each in HYPERVISORS.items() if part in said), "")
    if known:
        return known
    with contextlib.suppress(OSError):
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(line.startswith("flags") and " hypervisor" in line for line in lines):
            return UNKNOWN
    return ""


def notes(found: Facts, kind: str) -> tuple[Note, ...]:
    """What a device's facts mean for a virtual interface.

    :param kind: ``vmac_directed`` or ``vmac_invisible``.
    :returns: at least one; only one that is ``ok`` when all is well.
    """
    bad = tuple(_bad(found, kind == INVISIBLE))
    return bad or (Note(OK, f"{found.name} is fit for {kind}"),)


def _bad(found: Facts, invisible: bool) -> Iterator[Note]:
    name = found.name
    if len(found.mac) != netlink.MAC or not any(found.mac):
        yield Note(PROBLEM, f"{name} has no hardware address", "a farm needs an Ethernet device")
    if not found.up or not found.running:
        state = "is set down" if not found.up else "has no link"
        yield Note(PROBLEM, f"{name} {state}", f"ip link set {name} up, and look at the cable")
    if found.master_kind in TAKES_FRAMES:
        text = f"{name} is a port of the {found.master_kind} {found.master}, which has its frames"
        yield Note(PROBLEM, text, f'put the addresses on it: <interface name="{found.master}">')
    if found.kind == "ipvlan":
        yield Note(
            PROBLEM, f"{name} is an ipvlan, which has no hardware address of its own", "use a macvlan, or no such"
        )
    if found.offloads.get("lro"):
        text = f"{name} joins received packets so that they cannot be sent on (large-receive-offload)"
        yield Note(WARNING, text, f"ethtool -K {name} lro off")
    if invisible:
        yield from _invisible(found)
    elif found.hypervisor == "a public cloud":
        text = "the network of a public cloud lets no second server answer for an address"
        yield Note(WARNING, text, "use the cloud's own load balancer in front of modules of the type light")


def _invisible(found: Facts) -> Iterator[Note]:
    name = found.name
    if found.kind == "macvlan" and found.mode != "passthru":
        text = f"{name} is a macvlan, which gets frames for its own MAC only"
        yield Note(PROBLEM, text, "write vmac_directed, or put the addresses on the device below it")
    if remedy := ALLOW.get(found.hypervisor):
        text = f"this server runs on {found.hypervisor}, whose switch may keep frames for the virtual MAC from {name}"
        yield Note(WARNING, text, remedy)


ALLOW = {
    "VMware": "accept the promiscuous mode in the security policy of the port group; frames never come from the virtual"
    " MAC, so forged transmits may stay rejected",
    "Hyper-V": "allow MAC address spoofing on the network adapter of the virtual machine, or write vmac_directed",
    "KVM": "a Linux bridge floods by itself; for macvtap write trustGuestRxFilters='yes' into the domain's interface",
    "VirtualBox": "set the adapter's promiscuous mode to allow all",
    "Xen": "a Linux bridge or Open vSwitch floods by itself; look whether anti-spoofing rules or port locking are set",
    "a public cloud": "it floods nothing: use the cloud's own load balancer in front of modules of the type light",
    UNKNOWN: "look whether its virtual switch floods unknown addresses to this server, or write vmac_directed",
}
"""What to do where a virtual switch stands between the servers and their clients, by hypervisor."""


def _number(more: Mapping[int, bytes], attribute: int) -> int:
    raw = more.get(attribute, b"")
    return int(struct.unpack("=I", raw)[0]) if len(raw) == 4 else 0


def _kind(more: Mapping[int, bytes]) -> tuple[str, str]:
    info = netlink.attributes(more.get(IFLA_LINKINFO, b""), 0)
    kind = info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")
    data = netlink.attributes(info.get(IFLA_INFO_DATA, b""), 0) if kind == "macvlan" else {}
    return kind, MACVLAN_MODES.get(_number(data, IFLA_MACVLAN_MODE), "")


def _driver(device: str) -> str:
    answer = _ethtool(device, struct.pack("=I", GET_DRIVER).ljust(196, b"\0"))
    return answer[4:36].split(b"\0")[0].decode(errors="replace")


def _offloads(device: str) -> dict[str, bool | None]:
    found: dict[str, bool | None] = {name: _value(device, code) for name, code in SWITCHES.items()}
    flags = _ethtool(device, struct.pack("=II", GET_FLAGS, 0))
    for name, bit in (("lro", FLAG_LRO), ("rx-vlan", FLAG_RX_VLAN)):
        found[name] = bool(struct.unpack("=II", flags)[1] & bit) if flags else None
    return found


def _value(device: str, code: int) -> bool | None:
    answer = _ethtool(device, struct.pack("=II", code, 0))
    return bool(struct.unpack("=II", answer)[1]) if answer else None


def _ethtool(device: str, request: bytes) -> bytes:
    """The kernel's answer; empty when the device has none."""
    buffer = ctypes.create_string_buffer(request, len(request))
    question = struct.pack("@16sP16x", device.encode(), ctypes.addressof(buffer))
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_one,
    ):
        fcntl.ioctl(any_one, SIOCETHTOOL, question)
        return buffer.raw
    return b""
