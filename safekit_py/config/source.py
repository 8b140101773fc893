"""The text inside one element, and where each of its characters stands in the file.

Entities, CDATA, comments and macros make the text another one than the file's; a message must still point into the
file. Flows through it: the file's bytes in, a :class:`Source` out. Uses expat, which tells the place of every piece.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from xml.parsers import expat

WIDTH = 110  # characters of a source line that a message shows


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the text.

    :param start: offset in the text.
    :param line: 1-based line in the file.
    :param column: 0-based, in characters.
    :param fixed: all of it stands at that place: it replaces a macro.
    """

    start: int
    line: int
    column: int
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A text with its places.

    :param file: name for the messages.
    :param lines: the file's lines.
    :param pieces: by offset; never empty.
    """

    text: str
    file: str
    lines: tuple[str, ...]
    pieces: tuple[Piece, ...]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of a character of the text."""
        piece = self.pieces[max(0, bisect_right(self.pieces, offset, key=lambda each: each.start) - 1)]
        return piece.line, piece.column + 1 + (0 if piece.fixed else offset - piece.start)

    def shown(self, offset: int) -> str:
        """The file's line that holds a character, and below it a caret under that character."""
        line, column = self.place(offset)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        cut = max(0, column - WIDTH * 3 // 4) if len(text) > WIDTH else 0
        before = re.sub(r"[^\t]", " ", text[cut : column - 1])
        return f"    {text[cut : cut + WIDTH]}\n    {before}^"


def plain(text: str, file: str = "") -> Source:
    """A text that is a file by itself."""
    lines = text.split("\n")
    starts = [0]
    for each in lines[:-1]:
        starts.append(starts[-1] + len(each) + 1)
    return Source(text, file, tuple(lines), tuple(Piece(at, n, 0) for n, at in enumerate(starts, 1)))


def inside(data: bytes, file: str, ordinal: int, expand: Callable[[str], list[tuple[int, str, bool]]]) -> Source:
    """The text that stands directly in one element.

    :param data: a file that the scan has let through.
    :param ordinal: which start tag, from 0, in document order.
    :param expand: replaces the macros of a piece: for each part its offset there, its text, and whether it replaces
        one.
    """
    reader = _Reader(ordinal)
    reader.run(data)
    pieces: list[Piece] = []
    parts: list[str] = []
    length = 0
    for line, column, text in reader.found:
        for at, part, fixed in expand(text):
            pieces.append(Piece(length, line, column + at, fixed))
            parts.append(part)
            length += len(part)
    lines = data.decode("utf-8", "replace").split("\n")
    return Source("".join(parts), file, tuple(each.rstrip("\r") for each in lines), tuple(pieces or [Piece(0, 1, 0)]))


class _Reader:
    """Collects line, column and text of each piece that expat reports in the wanted element."""

    def __init__(self, ordinal: int) -> None:
        self.found: list[tuple[int, int, str]] = []
        self._count, self._wanted = -1, ordinal
        self._open: list[int] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = False  # each line and each entity comes by itself
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def run(self, data: bytes) -> None:
        self._parser.Parse(data, True)

    def _start(self, _name: str, _attributes: dict[str, str]) -> None:
        self._count += 1
        self._open.append(self._count)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        if self._open[-1] == self._wanted:
            self.found.append((self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber, text))
