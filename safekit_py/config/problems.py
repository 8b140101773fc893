"""Tree and schema -> every problem of the file, in our words, with its line.

libxml2 stops at the first child that it does not expect. So what the schema does not declare is found first and cut out
of a copy, then the copy is validated, what is reported as unexpected is cut out, and so on until nothing new comes.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable

from lxml import etree

from safekit_py.config.declarations import Declaration
from safekit_py.config.schema import Schema
from safekit_py.config.xml import Document
from safekit_py.errors import Problem

MAX_ROUNDS = 50

_ATTRIBUTE = re.compile(r"attribute '([^']+)'")
_EXPECTED = re.compile(r"Expected is (?:one of )?\( (.+?) \)")


class Finder:
    """One look at one file.

    :param unresolved: attributes about whose value something was said already.
    """

    def __init__(self, document: Document, schema: Schema, unresolved: set[tuple[etree._Element, str]]) -> None:
        self.document, self.schema, self.unresolved = document, schema, unresolved
        self.problems: list[Problem] = []
        self.bad: set[etree._Element] = {element for element, _ in unresolved}
        self.pruned_below: set[etree._Element] = set()
        self.reported: set[tuple[etree._Element, str]] = set()
        # Work on a copy: the builders of sound elements still get the whole tree.
        self.root = copy.deepcopy(document.root)
        self.original = dict(zip(self.root.iter(), document.root.iter(), strict=True))

    def run(self) -> None:
        """Fill ``problems`` and ``bad``, the elements that are wrong themselves."""
        self.structure(self.root, self.schema.root)
        for _ in range(MAX_ROUNDS):
            self.schema.validator.validate(self.root)
            # The stubs do not know that the log can be iterated.
            log: Iterable[etree._LogEntry] = self.schema.validator.error_log  # type: ignore[assignment]
            surplus = [self.entry(each) for each in log]
            if not self.cut(each for each in surplus if each is not None):
                return

    def add(self, element: etree._Element, code: str, message: str, remedy: str, attribute: str | None = None) -> None:
        """Report a problem at an element of the copy."""
        original = self.original[element]
        self.bad.add(original)
        self.problems.append(self.document.problem(original, code, message, remedy, attribute=attribute))

    def cut(self, elements: Iterable[etree._Element]) -> bool:
        """Take elements out of the copy; whether there was one."""
        done = False
        for each in elements:
            parent = each.getparent()
            if parent is not None:
                self.pruned_below.add(self.original[parent])
                parent.remove(each)
                done = True
        return done

    def structure(self, element: etree._Element, declared: Declaration) -> None:
        """Report and cut what is not declared, and what stands twice; the depth is bounded by the scan."""
        if declared.lenient:
            return
        for name in [str(each) for each in element.attrib if str(each) not in declared.attributes]:
            message = f"<{element.tag}> has no attribute '{name}'"
            self.add(element, "unknown-attribute", message, suggest(name, declared.attributes), name)
            del element.attrib[name]
        seen: dict[str, etree._Element] = {}
        surplus: list[etree._Element] = []
        for child in element:
            tag = str(child.tag)
            if tag not in declared.children:
                message = f"<{tag}> is not known inside <{element.tag}>"
                self.add(child, "unknown-element", message, suggest(tag, declared.children, "<{}>"))
                surplus.append(child)
            elif tag in seen and tag in declared.single:
                first = self.document.line(self.original[seen[tag]])
                message = f"<{tag}> stands twice inside <{element.tag}>; the first is in line {first}"
                self.add(child, "element-twice", message, "keep one of them")
                surplus.append(child)
            else:
                seen[tag] = child
                self.structure(child, declared.children[tag])
        # A surplus element that is known cannot be what is missing below.
        before = set(self.pruned_below)
        self.cut(surplus)
        if all(str(each.tag) in declared.children for each in surplus) and self.original[element] not in before:
            self.pruned_below.discard(self.original[element])

    def entry(self, entry: etree._LogEntry) -> etree._Element | None:
        """Translate one finding of libxml2; returns an unexpected element, which is to be cut out."""
        found = self.root.xpath(entry.path) if entry.path else [self.root]
        element = found[0] if isinstance(found, list) and found else self.root
        if not isinstance(element, etree._Element):
            element = self.root
        match = _ATTRIBUTE.search(entry.message)
        if entry.type_name == "SCHEMAV_ELEMENT_CONTENT":
            return self.content(element, entry.message)
        key = (self.original[element], match[1] if match else entry.type_name)
        if key in self.reported:
            return None
        self.reported.add(key)
        tag = element.tag
        if entry.type_name == "SCHEMAV_CVC_COMPLEX_TYPE_4" and match:
            remedy = f'add {match[1]}="..." with {self.allowed(element, match[1])}'
            self.add(element, "missing-attribute", f"<{tag}> needs the attribute '{match[1]}'", remedy)
        elif match:
            if key not in self.unresolved:
                value = element.get(match[1], "")
                shown = value if len(value) < 80 else value[:77] + "..."
                message = f'{match[1]}="{shown}" is not possible'
                self.add(element, "bad-value", message, f"write {self.allowed(element, match[1])}", match[1])
        elif entry.type_name.startswith("SCHEMAV_CVC_COMPLEX_TYPE_2"):
            self.add(element, "text", f"There is text inside <{tag}>", "delete it, or make it a comment <!-- ... -->")
        else:
            self.add(element, "invalid", entry.message, "correct it")
        return None

    def content(self, element: etree._Element, message: str) -> etree._Element | None:
        """A child that is missing, or one that may not stand where it does."""
        expected = _EXPECTED.search(message)
        names = expected[1].split(", ") if expected else []
        wanted = " or ".join(f"<{each}>" for each in names)
        if "Missing child" in message:
            key = (self.original[element], "missing child")
            if self.original[element] not in self.pruned_below and key not in self.reported:
                self.reported.add(key)
                self.add(element, "missing-element", f"Something is missing inside <{element.tag}>", f"add {wanted}")
            return None
        place = f"put {wanted} here first" if names else "delete it"
        parent = element.getparent()
        above = f" inside <{parent.tag}>" if parent is not None else ""
        if parent is None or self.original[parent] not in self.pruned_below:
            self.add(element, "misplaced-element", f"<{element.tag}> may not stand here{above}", place)
        return element

    def allowed(self, element: etree._Element, attribute: str) -> str:
        """What may be written in an attribute, in words."""
        declared = self.schema.declaration(element)
        found = declared.attributes.get(attribute) if declared else None
        return found.allowed if found and found.allowed else "a value that fits"


def suggest(name: str, known: Iterable[str], shape: str = "{}") -> str:
    """Did you mean …, and what there is to choose from."""
    names = sorted(known)
    if not names:
        return "delete it"
    near = difflib.get_close_matches(name.lower(), names, 1)
    hint = f"did you mean {shape.format(near[0])}? " if near else ""
    return f"{hint}possible: {', '.join(shape.format(each) for each in names)}"
