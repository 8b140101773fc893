"""``<check><ip ident when><to addr interval/></ip></check>`` -> ``IpCheck``."""

from __future__ import annotations

from dataclasses import dataclass

from safekit_py.api import Element, ElementNode

from .names import literal, possible


@dataclass(frozen=True, slots=True)
class IpCheck:
    """One address that must be on this server, and on no other machine.

    :param ident: the resource is ``ip.<ident>``.
    :param addr: address or host name.
    :param when: ``both`` or ``prim``; empty: prim in a mirror, both in any other module.
    :param interval: seconds between two questions whether another machine has it.
    """

    ident: str
    addr: str
    when: str = ""
    interval: float = 10.0


XSD = """<xs:element name="ip"><xs:complexType>
<xs:sequence><xs:element name="to"><xs:complexType>
  <xs:attribute name="addr" type="sk:macro" use="required"/>
  <xs:attribute name="interval" type="sk:duration" default="10"/></xs:complexType></xs:element></xs:sequence>
<xs:attribute name="ident" type="sk:ident" use="required"/>
<xs:attribute name="when"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="prim"/><xs:enumeration value="both"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""


def build(node: ElementNode) -> IpCheck:
    """The value of one ``<ip>``."""
    to = node.children("to")[0]
    addr = (to.get("addr") or "").strip("[]")
    address = literal(addr)
    if not possible(addr) or (address is not None and address.is_unspecified):
        to.problem("ip.bad-address", f'addr="{addr}" is neither an address nor a host name', "write one, as 10.0.0.1")
    interval = to.duration("interval", "s")
    if interval == 0:
        to.problem("ip.zero", "interval is 0", "write at least 1s")
    return IpCheck(node.get("ident") or "", addr, node.get("when") or "", interval or 10.0)


ELEMENT = Element("ip", "check", XSD, build, many=True)
