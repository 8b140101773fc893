"""``<witness kind addr lease/>`` below ``<heart>`` -> ``Witness``."""

from __future__ import annotations

from safekit_py.api import Element, ElementNode

from ..model import Witness
from .addresses import endpoint
from .protocol import LONGEST

FILES = {"safekit": ("key",), "etcd": ("ca", "cert", "keyfile")}
"""By kind the attributes that name files."""

XSD = """<xs:element name="witness"><xs:complexType>
<xs:attribute name="kind" default="safekit"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="safekit"/><xs:enumeration value="etcd"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="addr" type="sk:macro" use="required"/>
<xs:attribute name="lease" type="sk:duration" default="3"/>
<xs:attribute name="ident" type="sk:ident" default="witness"/>
<xs:attribute name="key" type="sk:macro"/>
<xs:attribute name="ca" type="sk:macro"/>
<xs:attribute name="cert" type="sk:macro"/>
<xs:attribute name="keyfile" type="sk:macro"/>
</xs:complexType></xs:element>"""


def build(node: ElementNode) -> Witness:
    """The value of ``<witness>``."""
    kind = node.get("kind") or "safekit"
    addresses = tuple(each.strip() for each in (node.get("addr") or "").split(",") if each.strip())
    _check_addresses(node, kind, addresses)
    lease = node.duration("lease", "s") or 0.0
    shortest = 2e9 if kind == "etcd" else 1e9  # whole seconds are written, and etcd gives none shorter
    if not shortest <= lease * 1e9 <= LONGEST:
        text = f"a lease of {lease:g} s cannot be given by {kind}"
        node.problem("witness.lease", text, f"write a value from {shortest / 1e9:g}s to {LONGEST / 1e9:g}s")
    options = []
    for name in sorted({each for names in FILES.values() for each in names}):
        value = node.get(name)
        if value is None:
            continue
        if name not in FILES[kind]:
            here = ", ".join(FILES[kind])
            node.problem("witness.option", f'{name} means nothing with kind="{kind}"', f"delete it; there is {here}")
        options.append((name, value))
    return Witness(kind, addresses, lease, tuple(options))


def _check_addresses(node: ElementNode, kind: str, addresses: tuple[str, ...]) -> None:
    if not addresses or (kind == "safekit" and len(addresses) > 1):
        text = f'{len(addresses)} addresses; kind="{kind}" takes {"one" if kind == "safekit" else "one or more"}'
        node.problem("witness.addresses", text, 'write host:port, as addr="10.0.0.9:4850"')
    for each in addresses:
        bare = each.removeprefix("https://") if kind == "etcd" else each
        try:
            endpoint(bare, 1)
        except ValueError:
            text = f"{each} is no host and port"
            node.problem("witness.bad-address", text, 'write host:port, as addr="10.0.0.9:4850"')


ELEMENT = Element("witness", "heart", XSD, build)
