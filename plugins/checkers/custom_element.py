"""``<check><custom ident when exec arg action/></check>`` -> ``CustomCheck``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from safekit_py.api import Element, ElementNode


@dataclass(frozen=True, slots=True)
class CustomCheck:
    """One program that watches something in its own way.

    :param ident: the resource is ``custom.<ident>``.
    :param when: ``pre`` (before the start), ``both``, ``prim`` or ``second``.
    :param program: a file of the module's bin, or an absolute path.
    :param arguments: what it gets after the module's name and the resource's.
    :param action: what follows when it has set its resource down.
    """

    ident: str
    when: str
    program: str
    arguments: tuple[str, ...] = ()
    action: str = "noaction"


XSD = """<xs:element name="custom"><xs:complexType>
<xs:attribute name="ident" type="sk:ident" use="required"/>
<xs:attribute name="when" use="required"><xs:simpleType><xs:restriction base="xs:string">
  <xs:enumeration value="prim"/><xs:enumeration value="second"/><xs:enumeration value="both"/>
  <xs:enumeration value="pre"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="exec" type="sk:macro" use="required"/>
<xs:attribute name="arg" type="xs:string"/>
<xs:attribute name="action" type="xs:NMTOKEN" default="noaction"/>
</xs:complexType></xs:element>"""


def build(node: ElementNode) -> CustomCheck:
    """The value of one ``<custom>``."""
    program = node.get("exec") or ""
    if program in (".", "..") or ("/" in program and not program.startswith("/")):
        text = f'exec="{program}" is neither the name of a file in the module\'s bin nor an absolute path'
        node.problem("custom.bad-exec", text, f'write exec="{program.rpartition("/")[2].strip(".") or "checker"}"')
    text, words = node.get("arg") or "", []
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f'arg="{text}" cannot be split into words: {str(error).lower()}'
        node.problem("custom.bad-arg", message, "close each quote; no shell reads it")
    return CustomCheck(
        ident=node.get("ident") or "",
        when=node.get("when") or "both",
        program=program,
        arguments=tuple(words),
        action=node.get("action") or "noaction",
    )


ELEMENT = Element("custom", "check", XSD, build, many=True)
