"""Commands for support: snapshot, dump, clean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from safekit_py.cli.common import Command, Session, emit, json_option, module_option
from safekit_py.cli.log import write_new
from safekit_py.errors import SafekitError
from safekit_py.runtime.clock import readable, wall

WHAT = ("all", "log", "process", "resource")


@click.command(cls=Command)
@click.option("-m", "--module", "module", metavar="NAME", help="Only this module.  [default: all]")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The zip file; it is new.  [default: snapshot-SERVER-TIME.zip, here]",
)
@json_option
@click.pass_obj
def snapshot(session: Session, module: str | None, output: Path | None, as_json: bool) -> None:
    """Pack what support needs into a zip file: configuration, scripts, logs, states. No key and no password is in it.

    Works also when the agent does not run; then there is less.
    """
    from safekit_py.cli.snapshot import collect, pack  # noqa: PLC0415 - loaded only where needed

    found = collect(session, module)
    stamp = "".join(each for each in readable(wall())[:19] if each.isdigit())
    target = output or Path.cwd() / f"snapshot-{found.server}-{stamp}.zip"
    write_new(target, pack(found))
    names = sorted(found.files)
    emit({"file": str(target), "entries": names}) if as_json else click.echo(f"{target}: {len(names)} entries")


@click.command(cls=Command)
@module_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A new file.  [default: stdout]")
@click.pass_obj
def dump(session: Session, module: str, output: Path | None) -> None:
    """Show what a module and the agent are doing right now, as JSON, for support."""
    text = json.dumps(dumped(session, module), indent=2)
    if output is None:
        click.echo(text)
    else:
        write_new(output, f"{text}\n".encode())
        click.echo(f"{output}")


def dumped(session: Session, module: str) -> dict[str, Any]:
    """State, rules, checkers and the last changes of a module, and the tasks of the agent."""
    client = session.client()
    document: dict[str, Any] = {"time": readable(wall())}
    parts = {
        "module": f"/modules/{module}",
        "rules": f"/modules/{module}/failover",
        "checkers": f"/modules/{module}/checkers",
        "history": f"/modules/{module}/history",
        "agent": "/dump",
    }
    for part, path in parts.items():
        try:
            document[part] = client.call("GET", path)
        except SafekitError as error:
            if part == "module":
                raise
            document[part] = {"problems": [each.as_dict() for each in error.problems]}
    return document


@click.command(cls=Command)
@click.argument("what", type=click.Choice(WHAT), default="all")
@click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
@json_option
@click.pass_obj
def clean(session: Session, what: str, module: str, as_json: bool) -> None:
    """Empty a module's logs, forget its resources' past, end what its stopped application left; or all of that.

    process, and so all, needs the module stopped.
    """
    answer = session.call("POST", f"/modules/{module}/clean/{what}")
    if as_json:
        emit(answer)
        return
    click.echo(f"{module}: cleaned: {', '.join(answer['done'])}")
    for each in answer["processes"]:
        click.echo(f"  ended: {each}")
