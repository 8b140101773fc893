"""``plugins``: which there are, what each brings, and what is wrong with one before it is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import FAILED, Group, Session, emit, from_items, json_option, show_problems
from safekit_py.errors import NotFoundError, Problem, SystemProblem

if TYPE_CHECKING:
    from rich.console import RenderableType

LIMIT = 60.0  # seconds that a check may take


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """Plugins: what there is, what each brings, and whether one is right."""
    if ctx.invoked_subcommand is None:
        _list(ctx.obj, as_json)


@plugins.command("list")
@json_option
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """Show every plugin, the hooks it implements, how often it failed, and what is wrong with it."""
    _list(session, as_json)


def _list(session: Session, as_json: bool) -> None:
    found = _ask(session)
    if as_json:
        emit(found)
        return
    table = tables.table("PLUGIN", "FROM", "HOOKS", "FAULTS", "PROBLEM")
    for item in found:
        problems = "\n".join(dict.fromkeys(p["message"] for p in item["problems"]))
        hooks = "\n".join(hook.removeprefix("safekit_") for hook in item["hooks"])
        table.add_row(item["name"], item["origin"], hooks, str(item["faults"] or ""), problems)
    tables.show(table)


@plugins.command()
@click.argument("name")
@json_option
@click.pass_obj
def info(session: Session, name: str, as_json: bool) -> None:
    """Show one plugin: what it brings, what is wrong with it, and its last fault."""
    found = _ask(session, name)
    if as_json:
        emit(found)
        return
    from rich.console import Group as Lines  # noqa: PLC0415 - loaded only where needed
    from rich.text import Text  # noqa: PLC0415 - loaded only where needed

    parts: list[RenderableType] = [Text(f"{found['name']} {found['version']}".rstrip(), style="bold")]
    table = tables.table("", "")
    table.show_header = False
    table.add_row("from", found["origin"])
    table.add_row("hooks", "\n".join(found["hooks"]) or "none")
    for kind, names in sorted(found["brings"].items()):
        table.add_row(kind, "\n".join(names))
    table.add_row("faults", str(found["faults"]))
    parts.append(table)
    if found["last"]:
        parts += [Text("last fault", style="bold"), Text(found["last"])]
    tables.show(Lines(*parts))
    show_problems(from_items(found["problems"]))


def _ask(session: Session, name: str = "") -> Any:
    """The agent's plugins; without an agent, those that this command finds itself."""
    try:
        return session.call("GET", f"/plugins/{name}" if name else "/plugins")
    except SystemProblem as error:
        if error.code != "agent.not-running":
            raise
    click.echo("No agent answers; these are the plugins as this command finds them.", err=True)
    from dataclasses import asdict  # noqa: PLC0415 - loaded only where needed

    from safekit_py.cli.plugincheck import NoModules  # noqa: PLC0415
    from safekit_py.runtime.plugins import load  # noqa: PLC0415

    manager = load(session.paths)
    if not name:
        return [asdict(each) for each in manager.plugins]
    manager.ask_all(NoModules(session.paths))
    manager.routes(NoModules(session.paths))
    entry = manager.entry(name)
    if entry is None:
        known = ", ".join(each.name for each in manager.plugins)
        raise NotFoundError(Problem("plugin.not-found", f"there is no plugin {name}", f"there are: {known}"))
    return asdict(entry)


@plugins.command()
@click.argument("target", metavar="NAME_OR_FILE")
@json_option
@click.pass_context
def check(ctx: click.Context, target: str, as_json: bool) -> None:
    """Load a plugin in a process of its own, and tell everything that is wrong with it.

    NAME_OR_FILE is a file, the name of an installed plugin, or a module that can be imported.
    """
    found = _checked(target)
    problems = from_items(found["problems"])
    errors = sum(each.severity == "error" for each in problems)
    if as_json:
        emit({**found, "accepted": not errors})
    else:
        show_problems(problems)
        if found["last"]:
            click.echo(found["last"], err=True)
        for kind, names in sorted(found["brings"].items()):
            click.echo(f"{kind}: {', '.join(names)}")
        verdict = "refused" if errors else "accepted"
        click.echo(f"{target}: {verdict}, {errors} errors, {len(problems) - errors} warnings")
    if errors:
        ctx.exit(FAILED)


def _checked(target: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "safekit_py.cli.plugincheck", target]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return _broken(target, f"the check took more than {LIMIT:g} s")
    sys.stderr.write(done.stderr)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return _broken(target, f"the check ended with status {done.returncode} and without an answer")
    return found


def _broken(target: str, why: str) -> dict[str, Any]:
    problem = Problem("plugin.load-failed", f"plugin {target} could not be loaded: {why}", "see what it printed")
    return {"name": target, "brings": {}, "hooks": [], "last": "", "problems": [problem.as_dict()]}
