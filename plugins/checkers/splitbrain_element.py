"""``<check><splitbrain ident exec="ping" arg="w1 w2" when="pre"/></check>`` -> ``SplitbrainCheck``."""

from __future__ import annotations

from dataclasses import dataclass

from safekit_py.api import Element, ElementNode

from .names import possible

UPTODATE = "uptodate"  # the ident of the resource that the rule looks at


@dataclass(frozen=True, slots=True)
class SplitbrainCheck:
    """Witnesses: hosts that both servers reach as long as neither is cut off.

    :param ident: the resource is ``splitbrain.<ident>``.
    :param witnesses: addresses or host names.
    :param when: ``pre``: from before the start until the module is stopped.
    """

    ident: str
    witnesses: tuple[str, ...]
    when: str = "pre"


XSD = """<xs:element name="splitbrain"><xs:complexType>
<xs:attribute name="ident" type="sk:ident" use="required"/>
<xs:attribute name="exec" default="ping"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="ping"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="arg" type="sk:macro" use="required"/>
<xs:attribute name="when" default="pre"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="pre"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""


def build(node: ElementNode) -> SplitbrainCheck:
    """The value of ``<splitbrain>``."""
    ident = node.get("ident") or ""
    if ident == UPTODATE:
        text = f'ident="{UPTODATE}" is the name of another resource of this element'
        node.problem("splitbrain.bad-ident", text, 'write another one, as ident="witness"')
    witnesses = tuple(word.strip("[]") for word in (node.get("arg") or "").split())
    if not witnesses:
        node.problem("splitbrain.no-witness", "arg names no witness", 'write addresses, as arg="10.0.0.1 10.0.1.1"')
    for each in witnesses:
        if not possible(each):
            text = f"{each} is neither an address nor a host name"
            node.problem("splitbrain.bad-address", text, 'write addresses, as arg="10.0.0.1 10.0.1.1"')
    return SplitbrainCheck(ident, tuple(dict.fromkeys(witnesses)), node.get("when") or "pre")


ELEMENT = Element("splitbrain", "check", XSD, build)
