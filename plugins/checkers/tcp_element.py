"""``<check><tcp ident when action><to addr port interval timeout/></tcp></check>`` -> ``TcpCheck``."""

from __future__ import annotations

from dataclasses import dataclass

from safekit_py.api import Element, ElementNode

from .names import possible


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """One checked port.

    :param ident: the resource is ``tcp.<ident>``.
    :param when: ``pre`` (before the start), ``both``, ``prim`` or ``second``.
    :param action: what follows when the port does not answer.
    :param addr: address or host name.
    :param interval: seconds between two looks.
    :param timeout: seconds that one look may take.
    """

    ident: str
    when: str
    action: str
    addr: str
    port: int
    interval: float = 10.0
    timeout: float = 5.0


XSD = """<xs:element name="tcp"><xs:complexType>
<xs:sequence><xs:element name="to"><xs:complexType>
  <xs:attribute name="addr" type="sk:macro" use="required"/>
  <xs:attribute name="port" type="sk:port" use="required"/>
  <xs:attribute name="interval" type="sk:duration" default="10"/>
  <xs:attribute name="timeout" type="sk:duration" default="5"/></xs:complexType></xs:element></xs:sequence>
<xs:attribute name="ident" type="sk:ident" use="required"/>
<xs:attribute name="when" use="required"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="prim"/><xs:enumeration value="second"/><xs:enumeration value="both"/>
  <xs:enumeration value="pre"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="action" type="xs:NMTOKEN"/>
</xs:complexType></xs:element>"""


def build(node: ElementNode) -> TcpCheck:
    """The value of one ``<tcp>``; without ``action`` a check before the start waits, any other restarts."""
    to = node.children("to")[0]
    when = node.get("when") or "both"
    addr = (to.get("addr") or "").strip("[]")
    if not possible(addr):
        to.problem("tcp.bad-address", f'addr="{addr}" is neither an address nor a host name', "write one, as 10.0.0.1")
    interval, timeout = to.duration("interval", "s"), to.duration("timeout", "s")
    for name, value in (("interval", interval), ("timeout", timeout)):
        if value == 0:
            to.problem("tcp.zero", f"{name} is 0", "write at least 1s")
    return TcpCheck(
        ident=node.get("ident") or "",
        when=when,
        action=node.get("action") or ("wait" if when == "pre" else "restart"),
        addr=addr,
        port=int(to.get("port") or 0),
        interval=interval or 10.0,
        timeout=timeout or 5.0,
    )


ELEMENT = Element("tcp", "check", XSD, build, many=True)
