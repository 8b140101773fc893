"""``<errd polltimer><proc name …/></errd>`` -> ``Errd``."""

from __future__ import annotations

import re

from safekit_py.api import Element, ElementNode

from .model import ACTIONS, LONGEST, Errd, Proc

CLASSES = ("prim", "both", "pre", "second", "sec", "custom")

XSD = f"""<xs:element name="errd"><xs:complexType>
<xs:sequence><xs:element name="proc" minOccurs="0" maxOccurs="unbounded"><xs:complexType>
  <xs:attribute name="name" use="required"><xs:simpleType><xs:restriction base="xs:string">
    <xs:pattern value="[A-Za-z0-9._:@+\\-]{{1,255}}"/></xs:restriction></xs:simpleType></xs:attribute>
  <xs:attribute name="service" default="no"><xs:simpleType><xs:restriction base="xs:string">
    <xs:enumeration value="no"/><xs:enumeration value="yes"/></xs:restriction></xs:simpleType></xs:attribute>
  <xs:attribute name="nameregex" type="sk:macro"/>
  <xs:attribute name="argregex" type="sk:macro"/>
  <xs:attribute name="atleast" default="1"><xs:simpleType><xs:restriction base="xs:integer">
    <xs:minInclusive value="0"/><xs:maxInclusive value="100000"/></xs:restriction></xs:simpleType></xs:attribute>
  <xs:attribute name="atmax" default="-1"><xs:simpleType><xs:restriction base="xs:integer">
    <xs:minInclusive value="-1"/><xs:maxInclusive value="100000"/></xs:restriction></xs:simpleType></xs:attribute>
  <xs:attribute name="action" type="xs:NMTOKEN" default="stopstart"/>
  <xs:attribute name="restart_services" type="sk:macro"/>
  <xs:attribute name="class" default="both"><xs:simpleType><xs:restriction base="xs:string">
    {"".join(f'<xs:enumeration value="{each}"/>' for each in CLASSES)}</xs:restriction></xs:simpleType></xs:attribute>
  <xs:attribute name="start_after" default="1"><xs:simpleType><xs:restriction base="xs:integer">
    <xs:minInclusive value="1"/><xs:maxInclusive value="10000"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element></xs:sequence>
<xs:attribute name="polltimer" type="sk:duration" default="30"/>
</xs:complexType></xs:element>"""

_ELSEWHERE = ("wait", "swap")  # actions of failover rules that a missing process cannot ask for
_FOR_PROCESSES = {"nameregex": None, "argregex": None, "atleast": "1", "atmax": "-1"}


def build(node: ElementNode) -> Errd:
    """The value of ``<errd>``."""
    polltimer = node.duration("polltimer", "s")
    if polltimer == 0:
        node.problem("errd.zero", "polltimer is 0", "write at least 1s")
    lines: dict[str, int] = {}
    for each in node.children("proc"):
        name = each.get("name") or ""
        if name in lines:
            text = f'<proc name="{name}"> stands in line {lines[name]} already, and both would be proc.{name}'
            each.problem("errd.name-twice", text, "give one another name, and its process's name in nameregex")
        lines.setdefault(name, each.line)
    return Errd(polltimer or 30.0, tuple(_proc(each) for each in node.children("proc")))


def _proc(node: ElementNode) -> Proc:
    name, service = node.get("name") or "", node.get("service") == "yes"
    action, when = node.get("action") or "", node.get("class") or ""
    if service:
        _service(node, name)
    elif len(name) > LONGEST:
        text = f'name="{name}" is longer than the {LONGEST} characters that the kernel keeps of a name'
        node.problem("errd.long-name", text, f'write name="{name[:LONGEST]}"; argregex can tell such processes apart')
    for attribute in ("nameregex", "argregex"):
        _expression(node, attribute)
    atleast, atmost = int(node.get("atleast") or 0), int(node.get("atmax") or -1)
    if 0 <= atmost < atleast:
        text = f"at most {atmost} processes may run, and at least {atleast} must"
        node.problem("errd.range", text, "write atmax=-1 for any number, or at least the value of atleast")
    if action in _ELSEWHERE or action.startswith("."):
        text = f'action="{action}" cannot follow from a process that is missing'
        node.problem("errd.bad-action", text, f"one of {', '.join(ACTIONS)}, or a script of the module's bin")
    return Proc(
        name=name,
        service=service,
        nameregex=node.get("nameregex") or "",
        argregex=node.get("argregex") or "",
        atleast=atleast,
        atmost=atmost,
        action=action,
        services=_services(node, action),
        when="second" if when == "sec" else when,
        start_after=int(node.get("start_after") or 1),
    )


def _service(node: ElementNode, name: str) -> None:
    if name.startswith("-"):
        text = f'name="{name}" cannot be a unit of systemd'
        node.problem("errd.bad-unit", text, "write one such as apache2.service; systemctl list-units shows them")
    given = [each for each, default in _FOR_PROCESSES.items() if node.get(each) != default]
    if given:
        text = f'{", ".join(given)} means nothing with service="yes": systemd says whether the service runs'
        node.problem("errd.not-for-services", text, "leave it out", warning=True)


def _expression(node: ElementNode, attribute: str) -> None:
    text = node.get(attribute)
    if text is None:
        return
    try:
        re.compile(text)
    except re.error as error:
        message = f'{attribute}="{text}" is no regular expression: {error}'
        node.problem("errd.bad-expression", message, "put a backslash before a character that stands for itself")


def _services(node: ElementNode, action: str) -> tuple[str, ...]:
    text = node.get("restart_services")
    if text is None:
        return ()
    if action != "restart":
        message = f'restart_services means nothing with action="{action}"'
        node.problem("errd.not-for-action", message, 'write action="restart", or leave it out', warning=True)
    return tuple(word for word in (each.strip() for each in text.split(",")) if word)


ELEMENT = Element("errd", "service", XSD, build)
