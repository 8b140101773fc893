"""The XSD of userconfig.xml, assembled from the engine's own elements and those that plugins contribute.

Elements below one parent may come in any order: XSD can say that only for a fixed list without repetition, so a
container takes any number of any of its elements, and ``problems`` reports one that stands twice.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from safekit_py.config import durations
from safekit_py.config.declarations import NAMESPACES, ONCE, XS, Declaration, declare
from safekit_py.errors import ConfigError, Problem
from safekit_py.model.plugin import Element

TYPES = f"""
<xs:simpleType name="sk-duration"><xs:restriction base="xs:string">
  <xs:minLength value="1"/><xs:pattern value="{html.escape(durations.PATTERN)}"/></xs:restriction></xs:simpleType>
<xs:simpleType name="sk-onoff"><xs:restriction base="xs:string">
  <xs:enumeration value="on"/><xs:enumeration value="off"/></xs:restriction></xs:simpleType>
<xs:simpleType name="sk-port"><xs:restriction base="xs:unsignedShort"><xs:minInclusive value="1"/></xs:restriction>
</xs:simpleType>
<xs:simpleType name="sk-ident"><xs:restriction base="xs:string"><xs:pattern value="[A-Za-z0-9._\\-]{{1,64}}"/>
</xs:restriction></xs:simpleType>
<xs:simpleType name="sk-macro"><xs:restriction base="xs:string"><xs:minLength value="1"/></xs:restriction>
</xs:simpleType>
"""

MACRO = """<xs:element name="macro"><xs:complexType>
<xs:attribute name="name" type="xs:string" use="required"/><xs:attribute name="value" type="xs:string" use="required"/>
</xs:complexType></xs:element>"""

USER = """<xs:element name="user"><xs:complexType>
<xs:sequence><xs:element name="var" minOccurs="0" maxOccurs="unbounded"><xs:complexType>
  <xs:attribute name="name" use="required"><xs:simpleType><xs:restriction base="xs:string">
    <xs:pattern value="[A-Za-z_][A-Za-z0-9_]*"/></xs:restriction></xs:simpleType></xs:attribute>
  <xs:attribute name="value" type="xs:string" use="required"/></xs:complexType></xs:element></xs:sequence>
<xs:attribute name="nicestoptimeout" type="sk-duration" default="300"/>
<xs:attribute name="forcestoptimeout" type="sk-duration" default="300"/>
<xs:attribute name="logging" default="userlog"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="userlog"/><xs:enumeration value="none"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="userlogsize" default="2048"><xs:simpleType><xs:restriction base="xs:unsignedInt">
  <xs:minInclusive value="1"/><xs:maxInclusive value="1048576"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""

FAILOVER = """<xs:element name="failover"><xs:complexType mixed="true">
<xs:attribute name="extends" default="yes"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="yes"/><xs:enumeration value="no"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="period" type="sk-duration" default="5000"/>
<xs:attribute name="handle_time" type="sk-duration" default="15000"/>
</xs:complexType></xs:element>"""

SERVICE_ATTRIBUTES = """
<xs:attribute name="mode" type="xs:NMTOKEN" use="required"/>
<xs:attribute name="boot" default="ignore"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="on"/><xs:enumeration value="off"/><xs:enumeration value="auto"/>
  <xs:enumeration value="ignore"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="boot_delay" type="sk-duration" default="0"/>
<xs:attribute name="failover" type="sk-onoff" default="on"/>
<xs:attribute name="defaultprim" type="xs:NMTOKEN" default="alone"/>
<xs:attribute name="maxloop" default="3"><xs:simpleType><xs:restriction base="xs:unsignedInt">
  <xs:minInclusive value="0"/><xs:maxInclusive value="1000"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="loop_interval" type="sk-duration" default="24"/>
<xs:attribute name="automatic_reboot" type="sk-onoff" default="off"/>
"""

OWN = (("user", USER), ("failover", FAILOVER))
"""Elements of the engine below ``<service>``: name and schema."""

CONTAINERS = ("check",)
"""Elements of the engine that only hold plugins' elements."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled schema and what it declares for the root element."""

    validator: etree.XMLSchema
    root: Declaration
    text: bytes

    def declaration(self, element: etree._Element) -> Declaration | None:
        """What the schema says about the element at this place, None where it says nothing."""
        parent = element.getparent()
        if parent is None:
            return self.root
        above = self.declaration(parent)
        return above.children.get(str(element.tag)) if above else None


def compile_schema(root: str) -> Schema:
    """Compile the text of the root's ``<xs:element>``.

    :raises ConfigError: not a schema; only a plugin's fault can be the reason.
    """
    text = f"<xs:schema {NAMESPACES}>{TYPES}{root}</xs:schema>".encode()
    try:
        tree = etree.fromstring(text)
        validator = etree.XMLSchema(tree)
    except (etree.XMLSyntaxError, etree.XMLSchemaParseError) as error:
        raise _broken(f"The assembled schema is not valid: {error}") from error
    return Schema(validator, declare(tree[-1]), text)


def assemble(elements: Sequence[Element]) -> Schema:
    """The schema of userconfig.xml with these elements.

    :raises ConfigError: an element's schema is wrong, its parent is unknown, or its place is taken.
    """
    inside: dict[str, dict[str, str]] = {"service": {}, **{each: {} for each in CONTAINERS}}
    inside |= {each.tag: {} for each in elements if each.parent == "service" and each.build is not None}
    taken = {("service", each) for each in (*CONTAINERS, "macro", *(tag for tag, _ in OWN))}
    for element in elements:
        if element.parent not in inside:
            raise _broken(f"<{element.tag}> asks for the parent '{element.parent}'; it may be {', '.join(inside)}")
        if (element.parent, element.tag) in taken:
            raise _broken(f"<{element.tag}> below '{element.parent}' is contributed twice")
        taken.add((element.parent, element.tag))
        inside[element.parent][element.tag] = _fragment(element)
    service = [MACRO, *(_fragment(Element(tag, "service", xsd)) for tag, xsd in OWN)]
    service += [_fragment(Element(name, "service", _complex(name, inside[name].values()))) for name in CONTAINERS]
    service.extend(_hosting(tag, text, inside.get(tag, {})) for tag, text in inside["service"].items())
    whole = _fragment(Element("service", "", _complex("service", service, SERVICE_ATTRIBUTES)))
    return compile_schema(_complex("safe", [MACRO, whole]))


def assemble_notify(elements: Sequence[Element], own: str, common: str) -> Schema:
    """The schema of notify.xml with these elements.

    :param own: attributes of the root, as text.
    :param common: attributes that each element gets besides its own.
    :raises ConfigError: an element's schema is wrong.
    """
    inside = []
    for each in elements:
        element = etree.fromstring(_fragment(each))
        holder = element.find(f"{XS}complexType")
        if holder is None:
            raise _broken(f"The schema of <{each.tag}> has no xs:complexType of its own")
        holder.extend(etree.fromstring(f"<x {NAMESPACES}>{common}</x>"))
        inside.append(etree.tostring(element, encoding="unicode"))
    return compile_schema(_complex("notify", inside, own))


def _hosting(tag: str, text: str, guests: Mapping[str, str]) -> str:
    """An element with those that plugins put inside it."""
    if not guests:
        return text
    element = etree.fromstring(text)
    choice = element.find(f"{XS}complexType/{XS}choice[@maxOccurs='unbounded']")
    if choice is None:
        raise _broken(f"<{tag}> takes no element of another plugin: its children are no unbounded xs:choice")
    choice.extend(etree.fromstring(each) for each in guests.values())
    return etree.tostring(element, encoding="unicode")


def _complex(name: str, children: Iterable[str], attributes: str = "") -> str:
    """An element that takes any of the children in any order."""
    inside = "".join(children)
    choice = f'<xs:choice minOccurs="0" maxOccurs="unbounded">{inside}</xs:choice>' if inside else ""
    return f'<xs:element name="{name}"><xs:complexType>{choice}{attributes}</xs:complexType></xs:element>'


def _fragment(element: Element) -> str:
    """The element's own text with the names of the engine's types as they are here, marked when it may stand once."""
    try:
        parent = etree.fromstring(f"<x {NAMESPACES}>{element.xsd}</x>")
    except etree.XMLSyntaxError as error:
        raise _broken(f"The schema of <{element.tag}> is not XML: {error}") from error
    if len(parent) != 1 or parent[0].tag != XS + "element" or parent[0].get("name") != element.tag:
        raise _broken(f'The schema of <{element.tag}> is not one <xs:element name="{element.tag}">')
    for each in parent.iter(etree.Element):
        for name in ("type", "base", "itemType", "memberTypes"):
            if name in each.attrib:
                # A prefix cannot stand for "no namespace", so the types' names carry a dash instead.
                each.set(name, str(each.get(name)).replace("sk:", "sk-"))
    if not element.many:
        parent[0].set(ONCE, "yes")
    return etree.tostring(parent[0], encoding="unicode")


def _broken(message: str) -> ConfigError:
    return ConfigError(Problem("config.plugin-schema", message, "correct or remove the plugin"))
