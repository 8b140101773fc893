"""Bytes -> the place of every start tag and attribute; whatever is dangerous or not XML stops here.

This first pass uses expat only, so that the agent may use it too: it keeps the offsets that a small change of the text
needs, and it refuses a document type that says more than its name before anything in it is read.
Invariant: what passes has no entity of its own, no external reference, no namespace, and bounded size and depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from safekit_py.errors import ConfigError, Problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_TAGS = 5_000
MAX_ATTRIBUTES = 100  # of one element

_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>/"']+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_NAME = re.compile(rb"<[^\s/>]+")


@dataclass(frozen=True, slots=True)
class AttributePlace:
    """Where an attribute stands: its line, and the bytes of its value between the quotes."""

    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tag:
    """One start tag: name, 1-based line, depth (the root has 1), attributes as text, and their places."""

    name: str
    line: int
    depth: int
    attributes: dict[str, str]
    places: dict[str, AttributePlace]


@dataclass(slots=True)
class _Scanner:
    data: bytes
    file: str
    root: str
    tags: list[Tag] = field(default_factory=list)
    depth: int = 0
    parser: expat.XMLParserType = field(default_factory=expat.ParserCreate)

    def refuse(self, code: str, message: str, remedy: str, line: int = 0) -> NoReturn:
        raise ConfigError(Problem(f"config.{code}", message, remedy, self.file, line))

    def run(self) -> tuple[Tag, ...]:
        if len(self.data) > MAX_BYTES:
            self.refuse("too-big", f"The file has {len(self.data)} bytes; {MAX_BYTES} are allowed", "make it smaller")
        if self.data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in self.data[:4]:
            self.refuse("encoding", "The file is not UTF-8", "save it in UTF-8")
        parser = self.parser
        parser.StartDoctypeDeclHandler = self.doctype
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        try:
            parser.Parse(self.data, True)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            self.refuse("not-xml", f"This is not well-formed XML: {what}", "close every tag and quote", error.lineno)
        except (ValueError, LookupError) as error:
            self.refuse("encoding", f"The encoding of the file cannot be read: {error}", "save it in UTF-8")
        return tuple(self.tags)

    def doctype(self, name: str, system: str | None, public: str | None, subset: int) -> None:
        if name != self.root or system or public or subset:
            self.refuse(
                "doctype",
                "The document type names an external file, declares something or has another name",
                f"write <!DOCTYPE {self.root}> or leave the line out",
                self.parser.CurrentLineNumber,
            )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        line = self.parser.CurrentLineNumber
        if not self.depth and name != self.root:
            self.refuse("root", f"The file starts with <{name}>", f"put everything into <{self.root}>", line)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.refuse("too-deep", f"Elements stand more than {MAX_DEPTH} deep", "close the tags above", line)
        if len(self.tags) >= MAX_TAGS:
            self.refuse("too-many-elements", f"The file has more than {MAX_TAGS} elements", "make it smaller", line)
        if len(attributes) > MAX_ATTRIBUTES:
            message = f"<{name[:40]}> has more than {MAX_ATTRIBUTES} attributes"
            self.refuse("too-many-attributes", message, "delete those that mean nothing", line)
        foreign = next((each for each in (name, *attributes) if ":" in each or each == "xmlns"), None)
        if foreign:
            self.refuse("namespace", f"'{foreign}' uses an XML namespace", "take it out", line)
        offset = self.parser.CurrentByteIndex
        self.tags.append(Tag(name, line, self.depth, attributes, self.places(offset, line, len(attributes))))

    def end(self, _name: str) -> None:
        self.depth -= 1

    def places(self, offset: int, line: int, count: int) -> dict[str, AttributePlace]:
        """The attributes of the start tag at ``offset``; expat has found it well-formed, so this only measures."""
        found: dict[str, AttributePlace] = {}
        name = _NAME.match(self.data, offset)
        position = name.end() if name else offset
        for _ in range(count):
            match = _ATTRIBUTE.match(self.data, position)
            if not match:
                break
            line += self.data.count(b"\n", position, match.start(1))
            start, end = match.span(2) if match[2] is not None else match.span(3)
            found[match[1].decode("utf-8", "replace")] = AttributePlace(line, start, end)
            line += self.data.count(b"\n", match.start(1), match.end())
            position = match.end()
        return found


def scan(data: bytes, file: str, root: str) -> tuple[Tag, ...]:
    """Find every start tag, in document order.

    :param data: the file's bytes.
    :param file: its name, for the errors.
    :param root: the only accepted name of the first element.
    :raises ConfigError: not XML, too big, too deep, or with a document type that declares anything.
    """
    return _Scanner(data, file, root).run()
