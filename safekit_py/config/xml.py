"""Bytes -> an lxml tree with the exact line of each element and attribute.

``scan`` has refused all that is dangerous before lxml sees a byte; lxml is still told to load and resolve nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from safekit_py.config.scan import Tag, scan
from safekit_py.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    :param tags: the start tag of each element; holding the elements keeps their identity, which lxml does not promise
        otherwise.
    """

    file: str
    root: etree._Element
    tags: dict[etree._Element, Tag]

    def line(self, element: etree._Element, attribute: str | None = None) -> int:
        """The line of an element, or of one of its attributes where it has that one."""
        tag = self.tags[element]
        place = tag.places.get(attribute) if attribute else None
        return place.line if place else tag.line

    def problem(
        self, element: etree._Element, code: str, message: str, remedy: str = "", *, attribute: str | None = None
    ) -> Problem:
        """An error at this element or attribute."""
        return Problem(f"config.{code}", message, remedy, self.file, self.line(element, attribute))


def parse(data: bytes, file: str, root: str) -> Document:
    """Parse a file safely.

    :param root: the only accepted name of the first element.
    :raises ConfigError: see :func:`safekit_py.config.scan.scan`.
    """
    tags = scan(data, file, root)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        tree = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 0
        raise ConfigError(
            Problem("config.not-xml", f"This is not well-formed XML: {error.msg}", "correct it", file, line)
        ) from error
    elements = list(tree.iter())
    assert len(elements) == len(tags), "both parsers see the same elements"
    return Document(file, tree, dict(zip(elements, tags, strict=True)))
