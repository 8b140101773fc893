"""``status -v``: what a module's state depends on, as a tree with since when and why."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from rich.tree import Tree

from safekit_py.cli.tables import COLOURS, VALUES, age


def dependencies(module: dict[str, Any], rules: list[dict[str, Any]], told: str) -> Tree:
    """State, then the rules with the resources that they look at, then the resources that no rule names.

    :param rules: the rules of the failover document.
    :param told: what the module's script ``state`` printed.
    """
    state = Text(f"{module['state']} {module['readiness']}", style=COLOURS.get(module["readiness"], "red"))
    why = f": {module['reason']}" if module["reason"] else ""
    root = Tree(Text.assemble((module["name"], "bold"), " ", state, f" for {age(module['age'])}{why}"))
    if told:
        root.add(Text(f"its script state says: {told}"))
    resources = {item["name"]: item for item in module["resources"]}
    named: set[str] = set()
    for rule in rules:
        branch = root.add(_rule(rule))
        for operand in rule["operands"]:
            for name, value in operand["values"].items():
                named.add(name)
                branch.add(_resource(resources.get(name) or {"name": name, "value": value, "age": None, "cause": ""}))
    others = [item for name, item in resources.items() if name not in named]
    if others:
        branch = root.add(Text("resources that no rule looks at"))
        for item in others:
            branch.add(_resource(item))
    root.add(Text(_switches(module)))
    return root


def _rule(rule: dict[str, Any]) -> Text:
    if not rule["true"]:
        return Text.assemble(("rule ", ""), (rule["label"], "bold"), f" -> {rule['action']}: ", ("not true", "green"))
    held = "" if rule["since"] is None else f" for {age(rule['since'])}"
    following = f"; {rule['why']}" if rule["why"] else ""
    parts = (("rule ", ""), (rule["label"], "bold"), f" -> {rule['action']}: ", (f"true{held}", "red"), following)
    return Text.assemble(*parts)


def _resource(item: dict[str, Any]) -> Text:
    since = "" if item["age"] is None else f" for {age(item['age'])}"
    cause = f": {item['cause']}" if item["cause"] else ""
    return Text.assemble(f"{item['name']} ", (item["value"], VALUES.get(item["value"], "")), f"{since}{cause}")


def _switches(module: dict[str, Any]) -> str:
    parts = [f"failover {'on' if module['failover'] else 'OFF: no automatic action is taken'}"]
    if module["suspended"]:
        parts.append(f"checkers switched OFF: {', '.join(module['suspended'])}")
    parts += [f"automatic actions {module['loop']}", f"boot {module['boot']}"]
    return "; ".join(parts)
