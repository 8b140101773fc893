"""``<vip>`` of userconfig.xml -> the values of ``model``.

Which of its forms fit a mode is said by the type of that mode, which sees the whole configuration.
"""

from __future__ import annotations

import contextlib
import re
from ipaddress import AddressValueError, IPv4Address, ip_address

from safekit_py.api import Element, ElementNode

from .model import ALIAS, ONE_SIDE_ALIAS, REAL, Group, Interface, Ip, Rule, Vip, VirtualAddr
from .schema import VIP_XSD

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


def build_vip(node: ElementNode) -> Vip:
    """The virtual addresses and the rules that share their traffic."""
    interfaces = [_interface(each) for part in node.children("interface_list") for each in part.children("interface")]
    groups = [each for part in node.children("loadbalancing_list") for each in part.children("group")]
    values = tuple(_group(each) for each in groups)
    addresses = [addr.addr for each in interfaces for addr in each.addresses]
    for addr in sorted({str(each) for each in addresses if addresses.count(each) > 1}):
        node.problem("vip.addr-twice", f"The virtual address {addr} stands twice", "keep one of them")
    names = [each.name for each in values]
    for name in sorted({each for each in names if names.count(each) > 1}):
        node.problem("vip.group-twice", f"The group '{name}' is defined twice", "give each group its own name")
    _check_rules(groups, set(addresses), all(each.vmac for each in interfaces))
    return Vip(tuple(interfaces), values, node.get("tcpreset") == "on", node.get("scriptcontrol") == "on")


def _interface(node: ElementNode) -> Interface:
    virtual, real = node.children("virtual_interface"), node.children("real_interface")
    if virtual and real:
        text = "The interface has both <virtual_interface> and <real_interface>"
        node.problem("vip.both-kinds", text, "keep the first in a farm, the second in a mirror")
    kind = (virtual[0].get("type") or "") if virtual else REAL if real else ""
    mac = virtual[0].get("addr") if virtual else None
    if mac is not None and not (_MAC.fullmatch(mac) and not int(mac[:2], 16) & 1):
        virtual[0].problem(
            "vip.bad-mac", f'addr="{mac}" is no hardware address of one station', "write 5a:fe:c0:a8:38:14"
        )
    usual = ONE_SIDE_ALIAS if kind == REAL else ALIAS
    addresses = [_address(each, usual) for part in (*virtual, *real) for each in part.children("virtual_addr")]
    return Interface(
        addresses=tuple(each for each in addresses if each is not None),
        name=node.get("name"),
        kind=kind,
        mac=mac.lower().replace("-", ":") if mac else None,
        check=node.get("check") == "on",
        arpreroute=node.get("arpreroute") == "on",
        arpinterval=_positive(node, "arpinterval", 60.0),
        arpelapse=node.duration("arpelapse", "s") or 0.0,
        line=node.line,
    )


def _address(node: ElementNode, usual: str) -> VirtualAddr | None:
    addr = _parse(node, "addr")
    if addr is None:
        return None
    return VirtualAddr(
        addr,
        where=node.get("where") or usual,
        check=node.get("check") == "on",
        connections=node.get("connections") == "on",
        netmask=_prefix(node, addr),
        line=node.line,
    )


def _parse(node: ElementNode, attribute: str) -> Ip | None:
    text = (node.get(attribute) or "").strip()
    try:
        found = ip_address(text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text)
    except ValueError:
        remedy = "write one such as 10.0.0.50 or fd00::50"
        node.problem("vip.bad-address", f'{attribute}="{text}" is no IP address', remedy)
        return None
    if found.is_multicast or found.is_unspecified or found.is_loopback or _unfit(found):
        node.problem("vip.bad-address", f"{found} cannot be a virtual address", "write one of the servers' own network")
        return None
    return found


def _unfit(found: Ip) -> bool:
    if isinstance(found, IPv4Address):
        return int(found) >= 0xF0000000
    return found.is_link_local or found.scope_id is not None or found.ipv4_mapped is not None


def _prefix(node: ElementNode, addr: Ip) -> int | None:
    """The prefix length out of ``24`` or ``255.255.255.0``."""
    text = node.get("netmask")
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= addr.max_prefixlen:
        return int(text)
    try:
        bits = f"{int(IPv4Address(text)):032b}" if addr.version == 4 else ""
    except AddressValueError:
        bits = ""
    if not re.fullmatch("1+0*", bits):
        remedy = "write 24 or 255.255.255.0" if addr.version == 4 else "write 64, or another number up to 128"
        node.problem("vip.bad-netmask", f'netmask="{text}" is no netmask', remedy)
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


def _check_rules(groups: list[ElementNode], addresses: set[Ip], invisible: bool) -> None:
    """What only the whole of ``<vip>`` can tell: unknown addresses, rules twice, and where arp fits."""
    seen: dict[tuple[str, str, str], int] = {}
    for node in [rule for group in groups for rule in group.children("rule")]:
        addr, port, proto = (node.get(each) or "*" for each in ("virtual_addr", "port", "proto"))
        with contextlib.suppress(ValueError):  # else it has been reported
            addr = str(ip_address(addr.strip().strip("[]")))
        key = (addr, "0" if port == "*" else str(int(port)), proto)
        if key in seen:
            node.problem("vip.rule-twice", f"Line {seen[key]} has a rule for the same packets", "keep one of them")
        seen.setdefault(key, node.line)
        if addr != "*" and addr not in {str(each) for each in addresses}:
            known = ", ".join(sorted(map(str, addresses))) or "none"
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


ELEMENTS = (Element("vip", "service", VIP_XSD, build_vip),)
