"""Bytes of a notify.xml -> ``Notifications``: whom to tell what, or every error at once.

Flows through it: the file, and the notifiers that plugins bring; targets out, each with the value that its notifier
made of its element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from safekit_py.config.checked import failed, ordered
from safekit_py.config.node import Node
from safekit_py.config.problems import Finder
from safekit_py.config.schema import assemble_notify
from safekit_py.config.xml import parse
from safekit_py.errors import ConfigError, Problem
from safekit_py.model.notice import LEVELS, Notifications, Notifier, Target
from safekit_py.model.plugin import Element

OWN = """<xs:attribute name="repeat" type="sk-duration" default="1h"/>
<xs:attribute name="limit" default="20"><xs:simpleType><xs:restriction base="xs:unsignedInt">
  <xs:minInclusive value="1"/><xs:maxInclusive value="10000"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="window" type="sk-duration" default="10m"/>
<xs:attribute name="give_up" type="sk-duration" default="15m"/>"""

COMMON = f"""<xs:attribute name="name" type="sk-ident" use="required"/>
<xs:attribute name="least" default="warning"><xs:simpleType><xs:restriction base="xs:string">
  {"".join(f'<xs:enumeration value="{each}"/>' for each in LEVELS)}</xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="modules" type="xs:string" default="*"/>"""


@dataclass(frozen=True, slots=True)
class CheckedNotify:
    """A checked notify.xml; ``notifications`` is None if and only if ``problems`` holds an error."""

    notifications: Notifications | None
    problems: tuple[Problem, ...] = ()


def check_notify(data: bytes, file: str, notifiers: Mapping[str, Notifier]) -> CheckedNotify:
    """Check a whole file; never raises for a bad one.

    :param file: its name as the user knows it, for the problems.
    :param notifiers: what plugins bring, by tag.
    """
    elements = [Element(each.tag, "notify", each.xsd, each.build, many=True) for each in notifiers.values()]
    try:
        schema = assemble_notify(elements, OWN, COMMON)
        document = parse(data, file, "notify")
    except ConfigError as error:
        return CheckedNotify(None, error.problems)
    finder = Finder(document, schema, set())
    finder.run()
    problems = list(finder.problems)
    root = Node(document.root, schema.root, document, problems)
    targets: list[Target] = []
    for tag, notifier in notifiers.items():
        for node in root.children(tag):
            if node.element not in finder.bad:
                targets.append(_target(node, notifier, targets))
    found = Notifications(tuple(sorted(targets, key=lambda each: each.line)))
    if document.root not in finder.bad:
        durations = {name: root.duration(name, "s") for name in ("repeat", "window", "give_up")}
        for name in ("window", "give_up"):
            if durations[name] == 0:
                root.problem("notify.zero", f"{name} is 0", "write at least 1s")
        repeat, window, give_up = (value or 0.0 for value in durations.values())
        found = replace(found, limit=int(root.get("limit") or 1), repeat=repeat, window=window, give_up=give_up)
    return CheckedNotify(None if failed(problems) else found, ordered(problems))


def _target(node: Node, notifier: Notifier, others: list[Target]) -> Target:
    name = node.get("name") or ""
    if name in {each.name for each in others}:
        node.problem("notify.name-twice", f"The target '{name}' stands twice", "give each target its own name")
    patterns = tuple((node.get("modules") or "").replace(",", " ").split()) or ("*",)
    return Target(name, node.tag, node.get("least") or "warning", patterns, notifier.build(node), node.line)
