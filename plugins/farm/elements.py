"""``<farm>`` and ``<vip>`` of userconfig.xml -> the values of ``model``.

A dead server is detected in slost_count pulses: 5 x 35 ms = 175 ms here. SafeKit's own defaults (100 ms, 20 and 10) are
slower; a file that names them gets what it names.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from safekit_py.api import Element, ElementNode

from .model import Farm, Group, Interface, Rule, Vip, VirtualAddr
from .schema import FARM_XSD, VIP_XSD

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


def build_farm(node: ElementNode) -> Farm:
    """The membership protocol; a pulse outside 10 ms to 10 s, no LAN, or a LAN named twice is reported."""
    pulse = node.duration("pulse", "ms") or 0.0
    if not 0.01 <= pulse <= 10:
        node.problem("farm.pulse", f"pulse is {pulse:g} s", "write a value from 10ms to 10s")
    lans = [each.get("name") or "default" for each in node.children("lan")]
    if not lans:
        node.problem("farm.no-lan", "The farm has no LAN", 'add <lan name="default"/> with a LAN of cluster.xml')
    for name in sorted({each for each in lans if lans.count(each) > 1}):
        node.problem("farm.lan-twice", f"The LAN '{name}' stands twice", "keep one of them")
    legacy = [inner for each in (node, *node.children("lan")) for inner in each.children("node")]
    if legacy:
        remedy = "delete them; cluster.xml names the servers"
        legacy[0].problem("farm.legacy-node", "<node> inside <farm> is not used any more", remedy, warning=True)
    return Farm(
        lans=tuple(lans),
        port=int(node.get("port") or 0),
        pulse=pulse,
        mlost_count=int(node.get("mlost_count") or 0),
        slost_count=int(node.get("slost_count") or 0),
    )


def build_vip(node: ElementNode) -> Vip:
    """The virtual addresses and the rules that share their traffic."""
    interfaces = [_interface(each) for part in node.children("interface_list") for each in part.children("interface")]
    groups = [each for part in node.children("loadbalancing_list") for each in part.children("group")]
    values = tuple(_group(each) for each in groups)
    addresses = [addr.addr for each in interfaces for addr in each.addresses]
    for addr in sorted({each for each in addresses if addresses.count(each) > 1}):
        node.problem("vip.addr-twice", f"The virtual address {addr} stands twice", "keep one of them")
    names = [each.name for each in values]
    for name in sorted({each for each in names if names.count(each) > 1}):
        node.problem("vip.group-twice", f"The group '{name}' is defined twice", "give each group its own name")
    _check_rules(groups, set(addresses), any(each.kind == "vmac_invisible" for each in interfaces))
    _not_acting(node, "tcpreset", "on", "connections are never reset when the address goes, whatever it says")
    _not_acting(node, "scriptcontrol", "off", "traffic opens after start_both and closes before stop_both by itself")
    return Vip(tuple(interfaces), values, node.get("tcpreset") == "on", node.get("scriptcontrol") == "on")


def _interface(node: ElementNode) -> Interface:
    if node.children("real_interface"):
        remedy = 'write <virtual_interface type="vmac_directed">'
        node.problem("vip.real-interface", "<real_interface> is for mirror modules", remedy)
    virtual = node.children("virtual_interface")
    if not virtual and not node.children("real_interface"):
        remedy = 'add <virtual_interface type="vmac_directed"> with a <virtual_addr>'
        node.problem("vip.no-virtual-interface", "The interface has no virtual address", remedy)
    kind = (virtual[0].get("type") if virtual else None) or "vmac_directed"
    if kind == "vmac_invisible":
        text = "vmac_invisible works as vmac_directed for now: each server answers with its own hardware address"
        virtual[0].problem("config.not-acting", text, 'write type="vmac_directed"', warning=True)
    mac = virtual[0].get("addr") if virtual else None
    if mac is not None and not (_MAC.fullmatch(mac) and not int(mac[:2], 16) & 1):
        virtual[0].problem(
            "vip.bad-mac", f'addr="{mac}" is no hardware address of one station', "write 5a:fe:c0:a8:38:14"
        )
    addresses = [_address(each) for part in virtual for each in part.children("virtual_addr")]
    return Interface(
        addresses=tuple(each for each in addresses if each is not None),
        name=node.get("name"),
        kind=kind,
        mac=mac.lower().replace("-", ":") if mac else None,
        check=node.get("check") == "on",
        arpreroute=node.get("arpreroute") == "on",
        arpinterval=_positive(node, "arpinterval", 60.0),
        arpelapse=node.duration("arpelapse", "s") or 0.0,
    )


def _address(node: ElementNode) -> VirtualAddr | None:
    where = node.get("where") or "alias"
    if where != "alias":
        node.problem("vip.where", f'where="{where}" is not possible in a farm', 'write where="alias"')
    _not_acting(node, "connections", "off", "the connections of the address are not counted")
    addr = _parse(node, "addr")
    return (
        VirtualAddr(addr, "alias", node.get("check") == "on", node.get("connections") == "on", _prefix(node))
        if addr
        else None
    )


def _parse(node: ElementNode, attribute: str) -> IPv4Address | None:
    text = (node.get(attribute) or "").strip()
    try:
        found = IPv4Address(text)
    except AddressValueError:
        try:
            IPv6Address(text.strip("[]").split("%")[0])
        except AddressValueError:
            node.problem("vip.bad-address", f'{attribute}="{text}" is no IPv4 address', "write one such as 10.0.0.50")
        else:
            node.problem("vip.ipv6", f"{text}: virtual addresses are IPv4 only for now", "write an IPv4 address")
        return None
    if found.is_multicast or found.is_unspecified or found.is_loopback or int(found) >= 0xF0000000:
        node.problem("vip.bad-address", f"{found} cannot be a virtual address", "write one of the servers' own network")
        return None
    return found


def _prefix(node: ElementNode) -> int | None:
    """The prefix length out of ``24`` or ``255.255.255.0``."""
    text = node.get("netmask")
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 32:
        return int(text)
    try:
        bits = f"{int(IPv4Address(text)):032b}"
    except AddressValueError:
        bits = ""
    if not re.fullmatch("1+0*", bits):
        node.problem("vip.bad-netmask", f'netmask="{text}" is no netmask', "write 24 or 255.255.255.0")
        return None
    return bits.count("1")


def _group(node: ElementNode) -> Group:
    hosts = [each for part in node.children("cluster") for each in part.children("host")]
    names = [each.get("name") for each in hosts]
    for name in sorted({each for each in names if each and names.count(each) > 1}):
        node.problem("vip.host-twice", f"The server '{name}' has two powers", "keep one <host> for each server")
    powers = tuple((each.get("name") or "", int(each.get("power") or 1)) for each in hosts)
    rules = tuple(each for each in map(_rule, node.children("rule")) if each is not None)
    return Group(node.get("name") or "", rules, powers)


def _rule(node: ElementNode) -> Rule | None:
    addr = None if node.get("virtual_addr") == "*" else _parse(node, "virtual_addr")
    if addr is None and node.get("virtual_addr") != "*":
        return None
    port = node.get("port")
    return Rule(node.get("proto") or "", node.get("filter") or "", 0 if port in (None, "*") else int(port), addr)


def _check_rules(groups: list[ElementNode], addresses: set[IPv4Address], invisible: bool) -> None:
    """What only the whole of ``<vip>`` can tell: unknown addresses, rules twice, and where arp fits."""
    seen: dict[tuple[str, str, str], int] = {}
    for node in [rule for group in groups for rule in group.children("rule")]:
        addr, port, proto = (node.get(each) or "*" for each in ("virtual_addr", "port", "proto"))
        key = (addr, "0" if port == "*" else str(int(port)), proto)
        if key in seen:
            node.problem("vip.rule-twice", f"Line {seen[key]} has a rule for the same packets", "keep one of them")
        seen.setdefault(key, node.line)
        if addr != "*" and addr not in {str(each) for each in addresses}:
            known = ", ".join(map(str, sorted(addresses))) or "none"
            node.problem("vip.unknown-addr", f"No <virtual_addr> has the address {addr}", f"write * or one of: {known}")
        if proto == "arp" and (node.get("filter") != "on_addr" or port != "*"):
            remedy = 'write filter="on_addr" and no port'
            node.problem("vip.arp-rule", "An arp rule shares by the client's address only", remedy)
        if proto == "arp" and invisible:
            remedy = "delete the rule, or use vmac_directed"
            node.problem("vip.arp-rule", "An arp rule needs interfaces of the type vmac_directed", remedy)


def _positive(node: ElementNode, attribute: str, default: float) -> float:
    value = node.duration(attribute, "s")
    if value == 0:
        node.problem("vip.zero", f"{attribute} is 0", "write at least 1s")
    return value or default


def _not_acting(node: ElementNode, attribute: str, default: str, note: str) -> None:
    value = node.get(attribute)
    if value != default:
        text = f'{attribute}="{value}" is accepted but not acting: {note}'
        node.problem("config.not-acting", text, f'write {attribute}="{default}"', warning=True)


ELEMENTS = (
    Element("farm", "service", FARM_XSD, build_farm),
    Element("vip", "service", VIP_XSD, build_vip),
)
