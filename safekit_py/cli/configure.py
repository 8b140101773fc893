"""``confcheck``, which works without an agent, and the commands that make a module's configuration active.

``config``, ``config list|diff|restore``, ``confinfo``, ``update`` and ``deconfig`` ask the agent.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from safekit_py.cli.common import (
    FAILED,
    Command,
    Group,
    Session,
    emit,
    from_items,
    json_option,
    module_option,
    reports_errors,
    show_problems,
)

apply_option = click.option("--apply", is_flag=True, help="Stop and start a running module where that is needed.")
named_option = click.option("-m", "--module", "module", metavar="NAME", help="The module.  [default: $SAFEMODULE]")


def _chosen(module: str | None) -> str:
    name = module or os.environ.get("SAFEMODULE")
    if not name:
        raise click.UsageError("name the module: -m NAME")
    return name


def _done(module: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    show_problems(from_items(answer["problems"]))
    item = answer["module"]
    click.echo(f"{module}: {answer['text']}; {item['state']} {item['readiness']}".rstrip())


@click.command(cls=Command)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-m", "--module", "module", metavar="NAME", help="The configuration of an installed module.")
@json_option
@click.pass_context
def confcheck(ctx: click.Context, file: Path | None, module: str | None, as_json: bool) -> None:
    """Check a userconfig.xml: every error at once, each with its line and what to write instead."""
    from safekit_py.runtime.configcheck import check_blocking  # noqa: PLC0415 - loaded only where needed

    session: Session = ctx.obj
    if (file is None) == (module is None):
        raise click.UsageError("name either a file or -m NAME")
    path = file or session.paths.userconfig(str(module))
    checked = check_blocking(path.read_bytes(), str(path), {})
    good = checked.config is not None
    if as_json:
        emit({"file": str(path), "accepted": good, "problems": [p.as_dict() for p in checked.problems]})
    else:
        show_problems(checked.problems)
        errors = sum(p.severity == "error" for p in checked.problems)
        warnings = len(checked.problems) - errors
        verdict = "accepted" if good else "refused"
        click.echo(f"{path}: {verdict}, {errors} errors, {warnings} warnings")
    if not good:
        ctx.exit(FAILED)


class Config(Group):
    """A group that is a command too, so that its own errors are reported."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, or the command that was named."""
        return reports_errors(lambda as_json: super(Config, self).invoke(ctx))(as_json=bool(ctx.params.get("as_json")))


@click.group(cls=Config, invoke_without_command=True)
@named_option
@apply_option
@json_option
@click.pass_context
def config(ctx: click.Context, module: str | None, apply: bool, as_json: bool) -> None:
    """Make a module's edited configuration the active one.

    A module that runs takes what can change while it runs, and goes on. What cannot needs --apply: the module is
    stopped, gets the new configuration, and is started again.
    """
    if ctx.invoked_subcommand is not None:
        return
    name = _chosen(module)
    session: Session = ctx.obj
    _done(name, session.call("PUT", f"/configurations/{name}", params={"apply": apply}), as_json)


@config.command()
@named_option
@json_option
@click.pass_context
def compare(ctx: click.Context, module: str | None, as_json: bool) -> None:
    """Compare a module's files on all servers with those of this one; exit code 1 when they differ."""
    from safekit_py.cli import compare as comparing  # noqa: PLC0415 - loaded only where needed

    ctx.exit(comparing.run(ctx.obj, _chosen(module), as_json=as_json))


@config.command("list")
@named_option
@json_option
@click.pass_obj
def list_(session: Session, module: str | None, as_json: bool) -> None:
    """Show the configurations that are kept: the active one and those before it."""
    from safekit_py.cli import tables  # noqa: PLC0415 - loaded only where needed
    from safekit_py.runtime.clock import readable  # noqa: PLC0415 - the same

    document = session.call("GET", f"/configurations/{_chosen(module)}")
    if as_json:
        emit(document["versions"])
        return
    table = tables.table("NUMBER", "SINCE", "SIGNATURE", "WHY")
    for each in reversed(document["versions"]):
        number = f"{each['number']} (active)" if each["active"] else str(each["number"])
        table.add_row(number, readable(each["time"]), each["signature"] or "configuration only", each["cause"])
    tables.show(table)


@config.command()
@click.argument("number", required=False, type=click.IntRange(min=1))
@named_option
@json_option
@click.pass_obj
def diff(session: Session, number: int | None, module: str | None, as_json: bool) -> None:
    """Show what makes the module's files of the configuration NUMBER; without it, of the active one."""
    parameters = {} if number is None else {"number": number}
    answer = session.call("GET", f"/configurations/{_chosen(module)}/diff", params=parameters)
    emit(answer) if as_json else click.echo(answer["diff"], nl=False)


@config.command()
@click.argument("number", type=click.IntRange(min=1))
@named_option
@apply_option
@json_option
@click.pass_obj
def restore(session: Session, number: int, module: str | None, apply: bool, as_json: bool) -> None:
    """Put a module's files back as they were with the configuration NUMBER, and make it active again."""
    name = _chosen(module)
    answer = session.call("POST", f"/configurations/{name}/versions/{number}", params={"apply": apply})
    _done(name, answer, as_json)


@click.command(cls=Command)
@module_option
@json_option
@click.pass_obj
def update(session: Session, module: str, as_json: bool) -> None:
    """Take an edited configuration while the module runs; refused when that needs a stop."""
    _done(module, session.call("POST", f"/configurations/{module}/update"), as_json)


@click.command(cls=Command)
@module_option
@json_option
@click.pass_obj
@click.pass_context
def confinfo(ctx: click.Context, session: Session, module: str, as_json: bool) -> None:
    """Show which configuration is active, since when, and whether the files are the same.

    Compare the signatures between servers. Exit code 1 when an edited configuration waits or is wrong.
    """
    from safekit_py.runtime.clock import readable  # noqa: PLC0415 - loaded only where needed

    document = session.call("GET", f"/configurations/{module}")
    if as_json:
        emit(document)
    else:
        active = next((each for each in document["versions"] if each["active"]), None)
        if active is None:
            click.echo(f"{module}: no configuration is active")
        else:
            signature = active["signature"] or "not known"
            since = readable(active["time"])
            click.echo(f"{module}: configuration {active['number']} is active since {since}: {active['cause']}")
            click.echo(f"signature of the active files  {signature}")
        click.echo(f"signature of the files now     {document['edited'] or 'not known'}")
        if document["differs"]:
            click.echo(f"userconfig.xml is not as it is active: safekit-py config diff -m {module}")
        show_problems(from_items(document["pending"]))
    if document["pending"]:
        ctx.exit(FAILED)


@click.command(cls=Command)
@module_option
@json_option
@click.pass_obj
def deconfig(session: Session, module: str, as_json: bool) -> None:
    """Stop a module and take its configuration back; its files stay, and config brings it back."""
    answer = session.call("DELETE", f"/configurations/{module}")
    emit(answer) if as_json else click.echo(
        f"{module}: not configured any more. Back with: safekit-py config -m {module}"
    )
