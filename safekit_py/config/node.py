"""One element as a plugin's ``build`` sees it: macros replaced, defaults filled in, problems with their place."""

from __future__ import annotations

from dataclasses import dataclass, field

from lxml import etree

from safekit_py.config import durations
from safekit_py.config.declarations import Declaration
from safekit_py.config.xml import Document
from safekit_py.errors import Problem


@dataclass(slots=True)
class Node:
    """Implements :class:`safekit_py.model.plugin.ElementNode`: ``tag`` is the name, ``line`` that of the start tag."""

    element: etree._Element
    declared: Declaration
    document: Document
    problems: list[Problem]

    tag: str = field(init=False)
    line: int = field(init=False)

    def __post_init__(self) -> None:
        self.tag = str(self.element.tag)
        self.line = self.document.line(self.element)

    def get(self, attribute: str) -> str | None:
        """The attribute's text, the schema's default, or None."""
        found = self.declared.attributes.get(attribute)
        return self.element.get(attribute, found.default if found else None)

    def duration(self, attribute: str, unit: str) -> float | None:
        """The attribute in seconds; None when absent, or when it is finer than its unit, which is reported."""
        text = self.get(attribute)
        if text is None:
            return None
        try:
            return durations.parse(text, unit)
        except ValueError as error:
            code, message = "config.bad-duration", f"{attribute}: {error}"
            line = self.document.line(self.element, attribute)
            remedy = f"write a duration such as 10{unit}"
            self.problems.append(Problem(code, message, remedy, self.document.file, line))
            return None

    def children(self, tag: str) -> tuple[Node, ...]:
        """The child elements of that tag, in document order."""
        declared = self.declared.children.get(tag, Declaration(tag, lenient=True))
        return tuple(Node(each, declared, self.document, self.problems) for each in self.element.iterchildren(tag))

    def problem(self, code: str, message: str, remedy: str = "", *, warning: bool = False) -> None:
        """Report something wrong here."""
        severity = "warning" if warning else "error"
        self.problems.append(Problem(code, message, remedy, self.document.file, self.line, severity))
