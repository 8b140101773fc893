"""Commands that show and keep what happened: log, logview, logsave, cmdlog."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from safekit_py.cli.common import Command, Session, emit, json_option, module_option
from safekit_py.errors import AccessError, Problem, SafekitError, SystemProblem
from safekit_py.model.text import set_in

WAIT = 20.0  # seconds that one call waits for news
PAUSE = 0.5  # seconds before the agent is asked again after a failure
PATIENCE = 30.0  # seconds that the agent may refuse, while it starts
AT_ONCE = 1000  # lines asked for with one call when following
ALL = 20_000  # lines that a log keeps at most
STYLES = {"C": "red", "E": "red", "W": "yellow"}

severity_option = click.option(
    "-s",
    "--severity",
    type=click.Choice(["C", "E", "W", "I", "D"], case_sensitive=False),
    help="Only this severity and graver: Critical, Error, Warning, Information, Debug.",
)


@click.command(cls=Command)
@module_option
@click.option(
    "-n", "--lines", default=100, show_default=True, type=click.IntRange(1, ALL), help="How many lines, at most."
)
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@severity_option
@json_option
@click.pass_obj
def log(session: Session, module: str, lines: int, follow: bool, severity: str | None, as_json: bool) -> None:
    """Show a module's log: time, severity (C E W I D), who speaks, what. With --json one event a line."""
    _show(session, module, lines, (severity or "D").upper(), follow=follow, as_json=as_json)


@click.command(cls=Command)
@module_option
@click.option("-A", "--all", "everything", is_flag=True, help="Also lines for debugging (D).")
@severity_option
@click.option(
    "-l", "--lines", default=20, show_default=True, type=click.IntRange(1, ALL), help="How many lines to begin with."
)
@click.option("-f", "--follow", is_flag=True, help="It follows anyway; for those who are used to write it.")
@json_option
@click.pass_obj
def logview(
    session: Session, module: str, everything: bool, severity: str | None, lines: int, follow: bool, as_json: bool
) -> None:
    """Follow a module's log until Ctrl-C, also over a restart of the agent."""
    least = severity.upper() if severity else "D" if everything else "I"
    _show(session, module, lines, least, follow=True, as_json=as_json)


@click.command(cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
@click.option("-A", "--all", "everything", is_flag=True, help="Also lines for debugging (D).")
@severity_option
@json_option
@click.pass_obj
def logsave(session: Session, file: Path, module: str, everything: bool, severity: str | None, as_json: bool) -> None:
    """Write a module's whole log to a new file; with --json one event a line."""
    least = severity.upper() if severity else "D" if everything else "I"
    parameters = {"lines": ALL, "severity": least}
    found = session.call("GET", f"/modules/{module}/log", params=parameters)
    text = "".join(f"{json.dumps(line) if as_json else plain(line)}\n" for line in found)
    write_new(file, text.encode())
    click.echo(f"{file}: {len(found)} lines")


@click.command(cls=Command)
@click.option(
    "-n", "--lines", default=100, show_default=True, type=click.IntRange(1, 10_000), help="How many, at most."
)
@click.option("-m", "--module", "module", metavar="NAME", help="Only those for this module.")
@json_option
@click.pass_obj
def cmdlog(session: Session, lines: int, module: str | None, as_json: bool) -> None:
    """Show the commands that changed something on this server, who gave them, and their result."""
    found = session.call("GET", "/commands", params={"lines": lines, "module": module or ""})
    if as_json:
        emit(found)
        return
    from safekit_py.cli import tables  # noqa: PLC0415 - loaded only where needed

    table = tables.table("TIME", "USER", "COMMAND", "MODULE", "RESULT", "BY")
    for item in found:
        words = " ".join(each for each in (item["command"], item["arguments"]) if each)
        by = ", ".join(each for each in (item["identity"] and f"-i {item['identity']}", item["program"]) if each)
        table.add_row(item["when"], item["user"], words, item["module"], item["result"], by)
    tables.show(table)


def plain(line: dict[str, Any]) -> str:
    """An event as one line of text; a line feed in a message begins a line that is set in."""
    return set_in(f"{line['when']} | {line['severity']} | {line['source']} | {line['message']}")


def write_new(path: Path, data: bytes) -> None:
    """Write a file that was not there; its content is for its owner only.

    :raises SafekitError: it is there, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except FileExistsError as error:
        raise SafekitError(Problem("output.exists", f"{path} is there already", "name a file that is new")) from error
    except OSError as error:
        problem = Problem("output.not-writable", f"{path} cannot be written: {error.strerror}", "name another place")
        raise SafekitError(problem) from error


def _show(session: Session, module: str, lines: int, least: str, *, follow: bool, as_json: bool) -> None:
    parameters: dict[str, Any] = {"lines": lines, "severity": least}
    try:
        found = session.call("GET", f"/modules/{module}/log", params=parameters)
        _print(found, as_json)
        if follow:
            for more in _news(session, module, found[-1]["number"] if found else 0, least):
                _print(more, as_json)
    except KeyboardInterrupt:
        return


def _news(session: Session, module: str, after: int, least: str) -> Iterator[list[dict[str, Any]]]:
    """What comes after a number, for ever; a restart of the agent is waited out."""
    client, silent_since = session.client(), None
    while True:
        parameters: dict[str, Any] = {"lines": AT_ONCE, "after": after, "severity": least, "wait": WAIT}
        try:
            found = client.call("GET", f"/modules/{module}/log", params=parameters)
        except AccessError:
            raise
        except SafekitError as error:
            now = time.monotonic()
            if silent_since is None:
                silent_since = now
                click.echo(f"-- {error.problems[0].message}; waiting", err=True)
            elif not isinstance(error, SystemProblem) and now - silent_since > PATIENCE:
                raise
            time.sleep(PAUSE)
            continue
        silent_since = None
        if found:
            after = found[-1]["number"]
            yield found


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    for line in found:
        if as_json:
            click.echo(json.dumps(line))
        else:
            click.secho(plain(line), fg=STYLES.get(line["severity"]))
