"""Commands for maintenance: start with the server, checkers, the loop counter, processes."""

from __future__ import annotations

import signal
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import FAILED, Command, Group, Session, emit, json_option, module_option
from safekit_py.errors import NotFoundError, Problem

BOOT = {
    "on": "starts with the server",
    "off": "does not start with the server",
    "auto": "starts with the server when it ran before",
}


@click.group(cls=Group)
def boot() -> None:
    """Whether a module starts with the server."""


def _boot(session: Session, module: str, switch: str, as_json: bool) -> None:
    if switch == "status":
        item = session.call("GET", f"/modules/{module}/boot")
    else:
        item = session.call("PUT", f"/modules/{module}/boot/{switch}")
    if as_json:
        emit(item)
        return
    source = f'userconfig.xml: boot="{item["configured"]}"'
    if item["command"]:
        source += f", command: {item['command']}"
    click.echo(f"{module}: {BOOT[item['boot']]} ({source})")


def _boot_command(switch: str, text: str) -> None:
    @boot.command(switch, help=text, short_help=text)
    @module_option
    @json_option
    @click.pass_obj
    def command(session: Session, module: str, as_json: bool) -> None:
        _boot(session, module, switch, as_json)


_boot_command("on", 'Start the module with the server, where userconfig.xml says boot="ignore".')
_boot_command("off", 'Do not start it with the server, where userconfig.xml says boot="ignore".')
_boot_command("status", "Show whether it starts with the server, and who says so.")


@click.group(cls=Group)
def checker() -> None:
    """The checkers of a module; switched off, they look no more, and no rule follows from them."""


def _checker_command(verb: str, text: str) -> None:
    @checker.command(verb, help=text, short_help=text)
    @module_option
    @click.option(
        "-r", "--resource", default="*", show_default=True, help="Only these, for instance tcp.* or proc.httpd."
    )
    @json_option
    @click.pass_obj
    def command(session: Session, module: str, resource: str, as_json: bool) -> None:
        found = session.call("POST", f"/modules/{module}/checkers/{verb}", params={"resource": resource})
        show_checkers(found, as_json)


_checker_command("on", "Switch checkers on again.")
_checker_command("off", "Switch checkers off, until they are switched on again; for work on the application.")
_checker_command("enable", 'Enable checkers of class "custom".')
_checker_command("disable", 'Disable checkers of class "custom".')


@checker.command("list")
@module_option
@json_option
@click.pass_obj
def list_(session: Session, module: str, as_json: bool) -> None:
    """Show every checker, whether it looks, and what it sees."""
    show_checkers(session.call("GET", f"/modules/{module}/checkers"), as_json)


def show_checkers(found: list[dict[str, Any]], as_json: bool) -> None:
    """A table of checkers."""
    if as_json:
        emit(found)
        return
    table = tables.table("CHECKER", "WHEN", "LOOKS", "VALUE", "ACTION", "RULE", "CAUSE")
    for item in found:
        rule = "" if item["action"] == "noaction" else item["rule"]
        cells = (item["when"], item["state"], item["value"], item["action"], rule, item["cause"])
        table.add_row(item["resource"], *cells)
    tables.show(table)


def _loop_line(module: str, item: dict[str, Any]) -> str:
    if not item["interval"]:
        return f"{module}: automatic actions are not counted (loop_interval is 0)"
    left = max(0.0, item["interval"] - item["elapsed"]) / 3600
    text = f"{module}: {item['count']} of {item['maxloop']} automatic actions"
    return f"{text}; the count begins anew in {left:.1f} h" if item["count"] else text


@click.command(cls=Command)
@module_option
@click.option("-i", "--identity", default="incloop", help="Who counts, for the log.")
@json_option
@click.pass_obj
def incloop(session: Session, module: str, identity: str, as_json: bool) -> None:
    """Count an automatic action that a script takes itself; over maxloop, the module is stopped."""
    item = session.call("POST", f"/modules/{module}/loop/inc", params={"identity": identity})
    emit(item) if as_json else click.echo(_loop_line(module, item))


@click.command(cls=Command)
@module_option
@json_option
@click.pass_obj
def resetloop(session: Session, module: str, as_json: bool) -> None:
    """Begin the count of automatic actions anew."""
    item = session.call("POST", f"/modules/{module}/loop/reset")
    emit(item) if as_json else click.echo(_loop_line(module, item))


@click.command(cls=Command)
@module_option
@json_option
@click.pass_context
def checkloop(ctx: click.Context, module: str, as_json: bool) -> None:
    """Show the count of automatic actions; exit code 1 when the next one would stop the module."""
    item = ctx.obj.call("GET", f"/modules/{module}/loop")
    emit(item) if as_json else click.echo(_loop_line(module, item))
    if not item["allowed"]:
        ctx.exit(FAILED)


LEVELS = {"terminate": signal.SIGTERM, "9": signal.SIGKILL, "15": signal.SIGTERM}


@click.command(cls=Command)
@click.option("-name", "--name", "name", required=True, help="The processes' name, as ps -C takes it.")
@click.option("-argregex", "--argregex", "argregex", help="Only those whose command line matches this expression.")
@click.option(
    "-level",
    "--level",
    "level",
    type=click.Choice(["test", *LEVELS]),
    default="test",
    show_default=True,
    help="test: only show them; terminate and 15: SIGTERM; 9: SIGKILL.",
)
@json_option
def kill(name: str, argregex: str | None, level: str, as_json: bool) -> None:
    """Show or end the processes of a name; for stop scripts."""
    import re  # noqa: PLC0415 - loaded only where needed

    import psutil  # noqa: PLC0415 - loaded only where needed

    try:
        pattern = re.compile(argregex) if argregex else None
    except re.error as error:
        raise NotFoundError(
            Problem(
                "kill.bad-expression", f"{argregex} is no regular expression: {error}", "see the re module of Python"
            )
        ) from error
    found = []
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if process.info["name"] == name[:15] and (pattern is None or pattern.search(words)):
            found.append({"pid": process.info["pid"], "command": words or name})
            if level != "test":
                try:
                    process.send_signal(LEVELS[level])
                except psutil.NoSuchProcess:
                    continue
    if as_json:
        emit(found)
        return
    for item in found:
        click.echo(f"{item['pid']} {item['command']}")


@click.command(cls=Command)
@click.option(
    "-m", "--module", "module", envvar="SAFEMODULE", metavar="NAME", help="Also ask the module's script level."
)
@json_option
@click.pass_obj
def level(session: Session, module: str | None, as_json: bool) -> None:
    """Show the versions of safekit-py, Python and the kernel, and what the module's script ``level`` says."""
    import platform  # noqa: PLC0415 - loaded only where needed

    from safekit_py import __version__  # noqa: PLC0415 - loaded only where needed

    document = {"safekit-py": __version__, "python": platform.python_version(), "kernel": platform.release()}
    if module:
        document[module] = session.call("POST", f"/modules/{module}/script/level")["output"]
    if as_json:
        emit(document)
        return
    for name, value in document.items():
        click.echo(f"{name}: {value}")
