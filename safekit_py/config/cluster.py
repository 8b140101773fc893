"""Bytes of a cluster.xml -> ``Cluster``: the servers and their addresses on each LAN, or every error at once."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from safekit_py.config.checked import CheckedCluster, failed, ordered
from safekit_py.config.node import Node
from safekit_py.config.problems import Finder
from safekit_py.config.schema import compile_schema
from safekit_py.config.xml import Document, parse
from safekit_py.errors import ConfigError, Problem
from safekit_py.model.config import Cluster, Lan, LanNode

MAX_SERVERS = 254
OBSOLETE = ("console", "framework", "connect")

_COUNT = """<xs:simpleType><xs:restriction base="xs:unsignedInt">
<xs:minInclusive value="3"/><xs:maxInclusive value="1000"/></xs:restriction></xs:simpleType>"""

XSD = f"""<xs:element name="cluster"><xs:complexType><xs:all>
<xs:element name="lans"><xs:complexType>
 <xs:sequence><xs:element name="lan" maxOccurs="unbounded"><xs:complexType>
  <xs:sequence><xs:element name="node" maxOccurs="unbounded"><xs:complexType>
   <xs:attribute name="name" type="sk-ident" use="required"/>
   <xs:attribute name="addr" type="xs:string" use="required"/>
   <xs:attribute name="laddr" type="xs:string"/></xs:complexType></xs:element></xs:sequence>
  <xs:attribute name="name" type="sk-ident" use="required"/>
  <xs:attribute name="command" type="sk-onoff"/></xs:complexType></xs:element></xs:sequence>
 <xs:attribute name="port" type="sk-port" default="4800"/>
 <xs:attribute name="pulse" type="sk-duration" default="100"/>
 <xs:attribute name="mlost_count" default="20">{_COUNT}</xs:attribute>
 <xs:attribute name="slost_count" default="10">{_COUNT}</xs:attribute></xs:complexType></xs:element>
</xs:all></xs:complexType></xs:element>"""

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def address(text: str) -> str | None:
    """An address or a host name as the model holds it (IPv6 without brackets), None when it is neither."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        parsed: IPv4Address | IPv6Address = ip_address(bare)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        # A name whose last label is a number can only be an address with a mistake in it.
        fits = len(text) <= 253 and all(_LABEL.fullmatch(each) for each in labels) and not labels[-1].isdigit()
        return text if fits else None
    return None if parsed.is_unspecified or parsed.is_multicast else str(parsed)


def check_cluster(data: bytes, file: str) -> CheckedCluster:
    """Check a whole file; never raises for a bad one.

    :param file: its name as the user knows it, for the problems.
    """
    schema = compile_schema(XSD)
    try:
        document = parse(data, file, "cluster")
    except ConfigError as error:
        return CheckedCluster(None, error.problems)
    problems = _obsolete(document)
    finder = Finder(document, schema, set())
    finder.run()
    problems += finder.problems
    lans: list[Lan] = []
    root = Node(document.root, schema.root, document, problems)
    for group in root.children("lans")[:1]:
        cluster = _cluster(group, finder, lans)
        if not failed(problems):
            return CheckedCluster(cluster, ordered(problems))
    return CheckedCluster(None, ordered(problems))


def _obsolete(document: Document) -> list[Problem]:
    problems = []
    for element, tag in document.tags.items():
        for name in OBSOLETE:
            if name in element.attrib:
                del element.attrib[name]
                line = document.line(element, name)
                message = f"The attribute '{name}' of <{tag.name}> is obsolete and not used"
                problems.append(Problem("cluster.obsolete", message, "delete it", document.file, line, "warning"))
    return problems


def _cluster(group: Node, finder: Finder, lans: list[Lan]) -> Cluster:
    """The value of ``<lans>``; what is wrong is reported at its node."""
    names: dict[str, None] = {}
    for lan in group.children("lan"):
        name = lan.get("name") or ""
        if name in {each.name for each in lans}:
            lan.problem("cluster.lan-twice", f"The LAN '{name}' is defined twice", "give each LAN its own name")
        nodes = tuple(each for each in map(_node, lan.children("node")) if each is not None)
        _unique(lan, nodes)
        names.update(dict.fromkeys(each.name for each in nodes))
        lans.append(Lan(name, nodes, lan.get("command") == "on"))
    if lans and not any(each.command for each in lans):
        lans[0] = Lan(lans[0].name, lans[0].nodes, True)
    if len(names) > MAX_SERVERS:
        group.problem("cluster.too-many", f"{len(names)} servers; {MAX_SERVERS} are possible", "make two clusters")
    pulse = group.duration("pulse", "ms") if group.element not in finder.bad else 0.1
    if pulse is not None and not 0.01 <= pulse <= 10:
        group.problem("cluster.pulse", f"pulse is {pulse:g} s", "write a value from 10ms to 10s")
    if group.element in finder.bad:
        return Cluster()
    return Cluster(
        lans=tuple(lans),
        port=int(group.get("port") or 4800),
        pulse=pulse or 0.1,
        mlost_count=int(group.get("mlost_count") or 20),
        slost_count=int(group.get("slost_count") or 10),
        nodes=tuple(names),
    )


def _node(node: Node) -> LanNode | None:
    name, addr, local = node.get("name"), node.get("addr"), node.get("laddr")
    if name is None or addr is None:
        return None
    for attribute, value in (("addr", addr), ("laddr", local)):
        if value is not None and address(value) is None:
            message = f'{attribute}="{value}" of server {name} is neither an address nor a host name'
            node.problem("cluster.bad-address", message, "write one such as 10.0.0.1, [fd00::1] or server1.example.org")
    if local is not None and local != addr:
        note = "laddr is accepted but not acting: servers behind address translation are not supported yet"
        node.problem("config.not-acting", note, "use addresses that the servers reach directly", warning=True)
    return LanNode(name, address(addr) or addr)


def _unique(lan: Node, nodes: tuple[LanNode, ...]) -> None:
    for kind, remedy, values in (
        ("server", "each server stands once in a LAN", [each.name for each in nodes]),
        ("address", "each server has its own address", [each.addr for each in nodes]),
    ):
        for value in dict.fromkeys(each for each in values if values.count(each) > 1):
            message = f"The {kind} {value} stands twice in the LAN '{lan.get('name')}'"
            lan.problem(f"cluster.{kind}-twice", message, remedy)
