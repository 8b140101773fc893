"""``<check><module name ident when><to addr port interval timeout secure/></module></check>`` -> ``ModuleCheck``."""

from __future__ import annotations

from dataclasses import dataclass

from safekit_py.api import Element, ElementNode

from .names import literal, possible

LOCAL = "127.0.0.1"
PORT = 9010


@dataclass(frozen=True, slots=True)
class ModuleCheck:
    """One module that must be ready.

    :param name: the module.
    :param resource: ``module.<ident>``, by default ``module.<name>_<addr>``.
    :param when: ``pre`` (before the start), ``both``, ``prim`` or ``second``.
    :param addr: the server that is asked: address or host name.
    :param interval: seconds between two looks.
    :param timeout: seconds that one look may take.
    :param secure: ask by HTTPS.
    """

    name: str
    resource: str
    when: str = "pre"
    addr: str = LOCAL
    port: int = PORT
    interval: float = 10.0
    timeout: float = 5.0
    secure: bool = False

    @property
    def local(self) -> bool:
        """Whether it is a module of this server."""
        address = literal(self.addr)
        return self.addr == "localhost" or (address is not None and address.is_loopback)


XSD = """<xs:element name="module"><xs:complexType>
<xs:sequence><xs:element name="to" minOccurs="0"><xs:complexType>
  <xs:attribute name="addr" type="sk:macro"/>
  <xs:attribute name="port" type="sk:port"/>
  <xs:attribute name="interval" type="sk:duration" default="10"/>
  <xs:attribute name="timeout" type="sk:duration" default="5"/>
  <xs:attribute name="secure" type="sk:onoff" default="off"/></xs:complexType></xs:element></xs:sequence>
<xs:attribute name="name" use="required"><xs:simpleType><xs:restriction base="xs:string">
  <xs:pattern value="[A-Za-z0-9._\\-]{1,64}"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="ident" type="sk:ident"/>
<xs:attribute name="when" default="pre"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="prim"/><xs:enumeration value="second"/><xs:enumeration value="both"/>
  <xs:enumeration value="pre"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""


def build(node: ElementNode) -> ModuleCheck:
    """The value of one ``<module>``."""
    name, when, ident = node.get("name") or "", node.get("when") or "pre", node.get("ident")
    below = node.children("to")
    if not below:
        return ModuleCheck(name, f"module.{ident or f'{name}_{LOCAL}'}", when)
    to = below[0]
    addr = (to.get("addr") or LOCAL).strip("[]")
    if not possible(addr):
        text = f'addr="{addr}" is neither an address nor a host name'
        to.problem("module.bad-address", text, "write one, as 10.0.0.1; without <to> it is a module of this server")
    interval, timeout = to.duration("interval", "s"), to.duration("timeout", "s")
    for attribute, value in (("interval", interval), ("timeout", timeout)):
        if value == 0:
            to.problem("module.zero", f"{attribute} is 0", "write at least 1s")
    return ModuleCheck(
        name=name,
        resource=f"module.{ident or f'{name}_{addr}'}",
        when=when,
        addr=addr,
        port=int(to.get("port") or PORT),
        interval=interval or 10.0,
        timeout=timeout or 5.0,
        secure=to.get("secure") == "on",
    )


ELEMENT = Element("module", "check", XSD, build, many=True)
