"""Elements that SafeKit knows and nothing here acts on yet: accepted with all they hold, with a warning."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import Element, hookimpl

NOTES = {
    ("vhost", "service"): "the application sees the server's own host name",
}
"""Tag and parent to what the user must know."""


def _xsd(tag: str) -> str:
    return (
        f'<xs:element name="{tag}"><xs:complexType mixed="true"><xs:sequence>'
        '<xs:any minOccurs="0" maxOccurs="unbounded" processContents="skip"/></xs:sequence>'
        '<xs:anyAttribute processContents="skip"/></xs:complexType></xs:element>'
    )


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """The elements without a builder."""
    return [Element(tag, parent, _xsd(tag), note=note) for (tag, parent), note in NOTES.items()]
