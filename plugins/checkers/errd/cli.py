"""``safekit-py errd``: switch the watching of processes off and on, and show it."""

from __future__ import annotations

import json
from typing import Any

import click

from safekit_py.api import NotFoundError, Problem

PATTERN = "proc.*"
CLASSES = ("prim", "both", "pre", "second", "sec", "custom")

_module = click.option(
    "-m", "--module", "module", metavar="NAME", envvar="SAFEMODULE", required=True, help="The module.  [$SAFEMODULE]"
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def errd() -> None:
    """The processes and services that a module watches (<errd> in its userconfig.xml)."""


@errd.command("list")
@_module
@_json
@click.pass_obj
def list_(session: Any, module: str, as_json: bool) -> None:
    """Show every process that is watched, whether it is looked at, and what was seen."""
    _show(_all(session, module), as_json)


def _switch(verb: str, text: str) -> None:
    @errd.command(verb, help=text, short_help=text)
    @_module
    @_json
    @click.pass_obj
    def command(session: Any, module: str, as_json: bool) -> None:
        session.call("POST", f"/modules/{module}/checkers/{verb}", params={"resource": PATTERN})
        _show(_all(session, module), as_json)


_switch("off", "Watch no process, until it is switched on again; for work on the application.")
_switch("on", "Watch them again.")


def _select(verb: str, text: str) -> None:
    @errd.command(verb, help=text, short_help=text)
    @click.argument("kind", metavar="CLASS", type=click.Choice(CLASSES))
    @click.argument("process", required=False)
    @_module
    @_json
    @click.pass_obj
    def command(session: Any, kind: str, process: str | None, module: str, as_json: bool) -> None:
        """Those of class custom wait to be enabled; all others are switched off or on one by one."""
        when = "second" if kind == "sec" else kind
        wanted = None if process is None else f"proc.{process}"
        found = [e for e in _all(session, module) if e["when"] == when and wanted in (None, e["resource"])]
        if not found:
            what = f'a process {process} of class="{kind}"' if process else f'a process of class="{kind}"'
            problem = Problem("errd.none", f"{module} does not watch {what}", f"safekit-py errd list -m {module}")
            raise NotFoundError(problem)
        plain = {"enable": "on", "disable": "off"}[verb]
        for each in found:
            path = f"/modules/{module}/checkers/{verb if when == 'custom' else plain}"
            session.call("POST", path, params={"resource": each["resource"]})
        _show(_all(session, module), as_json)


_select("enable", "Watch the processes of a class, or one of them.")
_select("disable", "Do not watch them, until they are enabled again.")


def _all(session: Any, module: str) -> list[dict[str, Any]]:
    found = session.call("GET", f"/modules/{module}/checkers")
    return [each for each in found if each["resource"].startswith("proc.")]


def _show(items: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(items, indent=2))
        return
    if not items:
        click.echo("no process is watched")
        return
    rows = [("PROCESS", "CLASS", "LOOKS", "VALUE", "CAUSE")]
    rows += [(e["resource"].removeprefix("proc."), e["when"], e["state"], e["value"], e["cause"]) for e in items]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for *cells, cause in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        click.echo("  ".join([*padded, cause]).rstrip())
