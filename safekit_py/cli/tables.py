"""Tables and status views for a terminal, made with rich; every view has its JSON beside it in the commands.

rich is imported where a view is made: commands that answer in JSON, or with one line, start sooner without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safekit_py.core import meaning as meanings

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

COLOURS = {"Ready": "green", "Transient": "yellow", "NotReady": "red", "": "bright_black"}
VALUES = {"up": "green", "down": "red", "init": "yellow", "unknown": "yellow"}


def age(seconds: float) -> str:
    """A duration at a glance: ``5 s``, ``3 min``, ``2 h``, ``4 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length * 2:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the one style of all commands."""
    from rich.table import Table  # noqa: PLC0415 - loaded only where needed

    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(what: RenderableType) -> None:
    """Print to stdout; without a terminal there are neither colours nor a width limit."""
    from safekit_py.cli.screen import Screen  # noqa: PLC0415 - loaded only where needed

    console = Screen()
    if not console.is_terminal:
        console = Screen(width=200)
    console.print(what)


def status(document: dict[str, Any], *, verbose: bool = False) -> RenderableType:
    """The modules of a server, each with what its state means and why it is so."""
    from rich.console import Group  # noqa: PLC0415 - loaded only where needed
    from rich.text import Text  # noqa: PLC0415 - loaded only where needed

    overview = table("MODULE", "MODE", "STATE", "SINCE", "MEANING")
    parts: list[RenderableType] = [Text(f"Server {document['server'] or '(not named yet)'}", style="bold")]
    for problem in document["problems"]:
        parts.append(Text(f"  {problem['message']} -> {problem['remedy']}", style="red"))
    details: list[RenderableType] = []
    for module in document["modules"]:
        readiness = module["readiness"]
        colour = COLOURS.get(readiness, "red")
        meaning = module["reason"] or meanings.of(module["mode"], module["state"], readiness)
        if module["busy"] and readiness == "Transient":
            meaning = f"{module['busy']} is being carried out; {meaning}"
        overview.add_row(
            Text(module["name"], style="bold"),
            module["mode"],
            Text(f"{module['state']} {readiness}".strip(), style=colour),
            age(module["age"]),
            meaning,
        )
        details += module_details(module, verbose=verbose)
    if not document["modules"]:
        parts.append(Text("No module is installed. Next: safekit-py module install apache.zip"))
    else:
        parts.append(overview)
    return Group(*parts, *details)


def module_details(module: dict[str, Any], *, verbose: bool) -> list[RenderableType]:
    """Resources, and for a farm the servers with their shares."""
    from rich.text import Text  # noqa: PLC0415 - loaded only where needed

    parts: list[RenderableType] = []
    for problem in module["pending"]:
        where = f"{problem['file']}:{problem['line']}: " if problem["file"] and problem["line"] else ""
        text = (
            f"\n{module['name']}: edited configuration not active: {where}{problem['message']} -> {problem['remedy']}"
        )
        parts.append(Text(text, style="red" if problem["severity"] == "error" else "yellow"))
    # What the module's type wants people to know, whether they ask for details or not.
    parts += [Text(f"{module['name']}: {each}") for each in module["report"].get("notes", [])]
    shares = module["report"].get("members", [])
    if shares:
        farm = table("SERVER", "IN THE FARM", *(f"SHARE {g}" for g in module["report"].get("groups", [])))
        for member in shares:
            state = Text(member["state"], style="green" if member["state"] == "member" else "red")
            farm.add_row(member["name"], state, *(f"{s:.1f} %" for s in member["shares"]))
        view = module["report"].get("view", "-")
        heading = f"\n{module['name']}: view {view}, {module['report'].get('cause', '')}"
        parts += [Text(heading, style="bold"), farm]
    if module["resources"]:
        resources = table("RESOURCE", "VALUE", "SINCE", "CAUSE")
        for item in module["resources"]:
            value = Text(item["value"], style=VALUES.get(item["value"], ""))
            resources.add_row(item["name"], value, age(item["age"]), item["cause"])
        parts += [Text(f"\n{module['name']}: resources", style="bold"), resources]
    if verbose and module["report"]:
        more = table("DETAIL", "VALUE")
        for key, value in module["report"].items():
            if key not in ("members", "groups", "view", "cause", "notes", "ports"):
                more.add_row(key, str(value))
        parts += [Text(f"\n{module['name']}: details", style="bold"), more]
    return parts
