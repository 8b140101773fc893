"""``<macro name value>`` and ``%name%``: the tree's attribute values are replaced before the schema sees them.

A value given by the caller wins over the file's, a macro over a variable of the environment, and the environment counts
only where the caller hands one in. ``%%`` stands for one percent sign; any other text with ``%`` stays as it is.
Invariant: an expansion ends, within a bounded size, and text without ``%`` is unchanged.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from safekit_py.config.checked import OPEN_SUFFIX, Macro
from safekit_py.config.xml import Document
from safekit_py.errors import Problem

MAX_DEPTH = 32
MAX_LENGTH = 65_536
MAX_TOTAL = 4 << 20

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"%(?:%|([A-Za-z_][A-Za-z0-9_]*)%)")


class MacroError(Exception):
    """A text cannot be expanded: code, message, remedy, and the macro whose text it is, None for any other text."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy
        self.macro: str | None = None


class BrokenMacroError(Exception):
    """A text uses a macro that is itself wrong; that one is reported where it stands, so this text is not."""


@dataclass(slots=True)
class Table:
    """The macros in force.

    :param values: name to text as written.
    :param environment: consulted for names that no macro has; its values are taken literally.
    """

    values: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    _done: dict[str, str] = field(default_factory=dict)
    _spent: int = 0

    def expand(self, text: str, stack: tuple[str, ...] = ()) -> str:
        """Replace every ``%name%``.

        :raises MacroError: an unknown name, a loop, or too much text.
        :raises BrokenMacroError: it uses a macro of ``broken``.
        """
        if "%" not in text:
            return text
        parts: list[str] = []
        end = length = 0
        for match in _REFERENCE.finditer(text):
            value = self.value(match[1], stack) if match[1] else "%"
            parts += (text[end : match.start()], value)
            length += match.start() - end + len(value)
            end = match.end()
            if length > MAX_LENGTH:
                raise MacroError("macro-too-long", "The text is too long after its macros", "use fewer macros")
        parts.append(text[end:])
        self._spent += length
        if self._spent > MAX_TOTAL:
            raise MacroError("macro-too-long", "The file is too long after its macros", "use fewer macros")
        return "".join(parts)

    def value(self, name: str, stack: tuple[str, ...] = ()) -> str:
        """The expanded value of one macro; errors as :meth:`expand`."""
        if name in stack:
            chain = " -> ".join((*stack[stack.index(name) :], name))
            raise MacroError("macro-loop", f"Macro '{name}' contains itself: {chain}", "break the loop")
        if name in self._done:
            return self._done[name]
        if name in self.broken:
            raise BrokenMacroError(name)
        if len(stack) >= MAX_DEPTH:
            raise MacroError(
                "macro-too-deep", f"Macros stand more than {MAX_DEPTH} deep in one another", "flatten them"
            )
        if name in self.values:
            try:
                self._done[name] = self.expand(self.values[name], (*stack, name))
            except MacroError as error:
                self.broken.add(name)
                error.macro = error.macro or name
                raise
            return self._done[name]
        if name in self.environment:
            return self.environment[name]
        raise self.unknown(name)

    def unknown(self, name: str) -> MacroError:
        """The error for a name that nothing defines."""
        known = sorted(self.values)
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean %{near[0]}%? " if near else ""
        list_ = f"the macros are {', '.join(known)}" if known else f'add <macro name="{name}" value="..."/>'
        return MacroError("unknown-macro", f"No macro is named '{name}'", f"{hint}{list_}; a percent sign is %%")


def declared(document: Document, overrides: Mapping[str, str]) -> tuple[tuple[Macro, ...], list[Problem]]:
    """The macros of a file, children of ``<safe>`` or ``<service>``, with the caller's values for the file's."""
    found: dict[str, Macro] = {}
    problems: list[Problem] = []
    parents = {document.root, *document.root.iterchildren("service")}
    for element in document.root.iter("macro"):
        name, value = element.get("name"), element.get("value")
        if element.getparent() not in parents or name is None or value is None:
            continue  # the schema says what is missing or misplaced
        if not NAME.fullmatch(name):
            remedy = "use letters, digits and _, and no digit first"
            problems.append(document.problem(element, "macro-name", f"'{name}' cannot name a macro", remedy))
        elif name in found:
            first = f"it stands in line {found[name].line} already; keep one"
            problems.append(document.problem(element, "macro-twice", f"Macro '{name}' is defined twice", first))
        else:
            found[name] = Macro(name, overrides.get(name, value), document.line(element))
    for name, value in overrides.items():
        found.setdefault(name, Macro(name, value))
    return tuple(found.values()), problems


def open_macros(macros: tuple[Macro, ...], file: str) -> list[Problem]:
    """An error for each macro that the user has yet to fill in."""
    return [
        Problem(
            "config.open-macro",
            f"Macro '{each.name}' has no value yet",
            f"give it one with --set {each.name}=VALUE, or in the file",
            file,
            each.line,
        )
        for each in macros
        if each.open
    ]


def apply(
    document: Document, macros: tuple[Macro, ...], environment: Mapping[str, str] | None = None
) -> tuple[tuple[tuple[str, str], ...], list[Problem], set[tuple[etree._Element, str]]]:
    """Replace the macros in every attribute of the tree.

    :return: name and expanded value of each macro; the problems; the attributes that could not be expanded or are
        placeholders, about whose value nothing more should be said.
    """
    table = Table({each.name: each.value for each in macros}, environment or {})
    table.broken.update(each.name for each in macros if each.open)
    problems = open_macros(macros, document.file)
    lines = {each.name: each.line for each in macros}
    expanded: list[tuple[str, str]] = []
    for macro in macros:
        if macro.open:
            continue
        try:
            expanded.append((macro.name, table.value(macro.name)))
        except MacroError as error:
            line = lines[error.macro or macro.name]
            problems.append(Problem(f"config.{error.code}", error.message, error.remedy, document.file, line))
        except BrokenMacroError:
            table.broken.add(macro.name)
    unresolved: set[tuple[etree._Element, str]] = set()
    for element, tag in document.tags.items():
        if tag.name == "macro":
            continue
        for name, text in tag.attributes.items():
            try:
                value = table.expand(text)
            except MacroError as error:
                problems.append(document.problem(element, error.code, error.message, error.remedy, attribute=name))
                unresolved.add((element, name))
            except BrokenMacroError:
                unresolved.add((element, name))
            else:
                element.set(name, value)
                if OPEN_SUFFIX in value:
                    message = f'{name}="{value}" is a placeholder'
                    problems.append(
                        document.problem(element, "placeholder", message, "write the real value", attribute=name)
                    )
                    unresolved.add((element, name))
    return tuple(expanded), problems, unresolved
