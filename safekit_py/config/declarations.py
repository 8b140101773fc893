"""The schema as a tree that can be asked: what may stand where, with which defaults, and what a value may be.

libxml2 decides whether a file is valid; this tree lets the messages say what would have been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lxml import etree

XS = "{http://www.w3.org/2001/XMLSchema}"
ONCE = "{urn:safekit}once"
"""Marks an element that may stand once although its container repeats."""
NAMESPACES = f'xmlns:xs="{XS[1:-1]}" xmlns:sk="urn:safekit"'

PHRASES = {
    "sk-duration": "a duration such as 10s or 2h (d h m s ms us)",
    "sk-onoff": "on or off",
    "sk-port": "a port from 1 to 65535",
    "sk-ident": "a name of letters, digits, '.', '_' and '-'",
    "sk-macro": "some text",
    "xs:positiveInteger": "a whole number from 1",
    "xs:nonNegativeInteger": "a whole number from 0",
    "xs:NMTOKEN": "one word",
}


@dataclass(frozen=True, slots=True)
class AttributeDeclaration:
    """One attribute: its default or None, and what it may hold in words (empty: nothing helpful to say)."""

    name: str
    default: str | None
    allowed: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """One element.

    :param single: the children that may stand only once.
    :param lenient: any child and any attribute is accepted.
    """

    tag: str
    attributes: Mapping[str, AttributeDeclaration] = field(default_factory=dict)
    children: Mapping[str, Declaration] = field(default_factory=dict)
    single: frozenset[str] = frozenset()
    lenient: bool = False


def declare(element: etree._Element) -> Declaration:
    """Read one ``<xs:element name>`` with everything inside it."""
    own = list(_own(element))
    children = [each for each in own if each.tag == XS + "element"]
    return Declaration(
        element.get("name", ""),
        {each.get("name", ""): _attribute(each) for each in own if each.tag == XS + "attribute"},
        {each.get("name", ""): declare(each) for each in children},
        frozenset(each.get("name", "") for each in children if not _repeats(each, element)),
        any(each.tag == XS + "any" for each in own),
    )


def _own(element: etree._Element) -> Iterator[etree._Element]:
    """What belongs to this element's declaration and not to that of a child."""
    for each in element:
        yield each
        if each.tag not in (XS + "element", XS + "attribute"):
            yield from _own(each)


def _repeats(child: etree._Element, top: etree._Element) -> bool:
    if child.get(ONCE):
        return False
    node: etree._Element | None = child
    while node is not None and node is not top:
        if node.get("maxOccurs", "1") != "1":
            return True
        node = node.getparent()
    return False


def _attribute(element: etree._Element) -> AttributeDeclaration:
    return AttributeDeclaration(element.get("name", ""), element.get("default"), _allowed(element))


def _allowed(element: etree._Element) -> str:
    type_ = element.get("type", "")
    if type_:
        return PHRASES.get(type_, "")
    values = [each.get("value", "") for each in element.iter(XS + "enumeration")]
    values[:0] = [PHRASES.get(each.get("memberTypes", ""), "") for each in element.iter(XS + "union")]
    if values:
        return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else values[0]
    low = next((each.get("value") for each in element.iter(XS + "minInclusive")), None)
    high = next((each.get("value") for each in element.iter(XS + "maxInclusive")), None)
    if low is not None and high is not None:
        return f"a whole number from {low} to {high}"
    return next((PHRASES.get(each.get("base", ""), "") for each in element.iter(XS + "restriction")), "")
