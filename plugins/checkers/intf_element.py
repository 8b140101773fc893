"""``<check><intf ident when><to local_addr/></intf></check>`` -> ``IntfCheck``."""

from __future__ import annotations

from dataclasses import dataclass

from safekit_py.api import Element, ElementNode

from .names import literal, possible


@dataclass(frozen=True, slots=True)
class IntfCheck:
    """One watched network device. It is found by one of the last three, of which the other two are empty.

    :param ident: the resource is ``intf.<ident>``.
    :param local_addr: an address of this server, or the name of one.
    :param device: the device's own name.
    :param network: an address that is in the network of one of the device's addresses.
    """

    ident: str
    local_addr: str = ""
    device: str = ""
    network: str = ""


XSD = """<xs:element name="intf"><xs:complexType>
<xs:sequence><xs:element name="to"><xs:complexType>
  <xs:attribute name="local_addr" type="sk:macro" use="required"/></xs:complexType></xs:element></xs:sequence>
<xs:attribute name="ident" type="sk:ident" use="required"/>
<xs:attribute name="when" default="pre"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="pre"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""


def build(node: ElementNode) -> IntfCheck:
    """The value of one ``<intf>``."""
    to = node.children("to")[0]
    addr = (to.get("local_addr") or "").strip("[]")
    address = literal(addr)
    if not possible(addr) or (address is not None and address.is_unspecified):
        text = f'local_addr="{addr}" is neither an address nor a host name'
        to.problem("intf.bad-address", text, "write an address of this server, as 10.0.0.1")
    return IntfCheck(node.get("ident") or "", local_addr=addr)


ELEMENT = Element("intf", "check", XSD, build, many=True)
