"""``<failover>`` -> its value: attributes, and the rules of its text with macros replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping

from safekit_py.config import macros as macro
from safekit_py.config.node import Node
from safekit_py.config.rules import parse
from safekit_py.config.source import inside
from safekit_py.errors import Problem
from safekit_py.model.config import Failover
from safekit_py.model.rules import Rule

_REFERENCE = re.compile(rf"%(?:%|({macro.NAME.pattern})%)")


def build(node: Node, data: bytes, values: Mapping[str, str], broken: frozenset[str]) -> Failover | None:
    """The value of the element; None when something is wrong with it, which is reported.

    :param data: the file's bytes.
    :param values: each macro's expanded value.
    :param broken: macros that were reported already; text that uses one is not judged.
    """
    before = len(node.problems)
    period, handle_time = node.duration("period", "ms"), node.duration("handle_time", "ms")
    if period is not None and handle_time is not None:
        _check_times(node, round(period * 1000), round(handle_time * 1000))
    rules = _rules(node, data, _Macros(values, broken))
    if rules is None or len(node.problems) > before:
        return None
    return Failover(node.get("extends") == "yes", period or 0.0, handle_time or 0.0, rules)


def _rules(node: Node, data: bytes, macros: _Macros) -> tuple[Rule, ...] | None:
    """The rules of the text, None when it cannot be judged."""
    source = inside(data, node.document.file, list(node.document.tags).index(node.element), macros.expand)
    for each in dict.fromkeys(macros.unknown):
        remedy = f'add <macro name="{each}" value="..."/>; a percent sign is %%'
        node.problem("config.unknown-macro", f"No macro is named '{each}'", remedy)
    if macros.unknown or macros.skipped:
        return None
    rules, problems = parse(source)
    node.problems += problems
    return rules


def _check_times(node: Node, period: int, handle_time: int) -> None:
    """Both in milliseconds."""
    line = node.document.line(node.element, "period")
    if not period:
        text = "period is the time between two looks: it cannot be 0"
        node.problems.append(Problem("config.handle-time", text, 'write period="5000"', node.document.file, line))
    elif handle_time % period:
        text = f"handle_time, {handle_time} ms, is no multiple of period, {period} ms"
        near = max(1, round(handle_time / period)) * period
        remedy = f'write handle_time="{near}", or another period'
        line = node.document.line(node.element, "handle_time")
        node.problems.append(Problem("config.handle-time", text, remedy, node.document.file, line))


class _Macros:
    """Replaces the macros of a piece of text and remembers those that have no value."""

    def __init__(self, values: Mapping[str, str], broken: frozenset[str]) -> None:
        self._values, self._broken = values, broken
        self.unknown: list[str] = []
        self.skipped = False

    def expand(self, text: str) -> list[tuple[int, str, bool]]:
        """Offset, text and whether it replaces a macro, of each part."""
        parts: list[tuple[int, str, bool]] = []
        end = 0
        for match in _REFERENCE.finditer(text):
            parts.append((end, text[end : match.start()], False))
            parts.append((match.start(), self._value(match[1]) if match[1] else "%", True))
            end = match.end()
        parts.append((end, text[end:], False))
        return [each for each in parts if each[1]]

    def _value(self, name: str) -> str:
        if name in self._values:
            return self._values[name]
        if name in self._broken:
            self.skipped = True
        else:
            self.unknown.append(name)
        return ""
