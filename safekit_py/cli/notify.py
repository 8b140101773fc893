"""``notify``: whom to tell what happens, and whether they can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Group, Session, emit, from_items, json_option, show_problems
from safekit_py.errors import NotFoundError, Problem
from safekit_py.runtime.clock import readable


@click.group(cls=Group)
def notify() -> None:
    """Mail, webhooks, SNMP traps and syslog about what happens to modules."""


def _put(session: Session, file: Path, *, check: bool, as_json: bool) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NotFoundError(Problem("notify.unreadable", f"{file} cannot be read: {reason}", "name a file")) from error
    body = {"xml": text, "file": str(file)}
    done = session.call("POST", "/notify/check", json=body) if check else session.call("PUT", "/notify", json=body)
    if as_json:
        emit(done)
        return
    show_problems(from_items(done["problems"]))
    names = ", ".join(each["name"] for each in done["targets"]) or "nobody"
    click.echo(f"{file} is right: it tells {names}" if check else f"this server tells {names}")


file_argument = click.argument("file", type=click.Path(path_type=Path))


@notify.command()
@file_argument
@json_option
@click.pass_obj
def check(session: Session, file: Path, as_json: bool) -> None:
    """Check a notify.xml, and the files of secrets that it names; change nothing."""
    _put(session, file, check=True, as_json=as_json)


@notify.command()
@file_argument
@json_option
@click.pass_obj
def config(session: Session, file: Path, as_json: bool) -> None:
    """Take a notify.xml on this server; from then on its targets are told."""
    _put(session, file, check=False, as_json=as_json)


@notify.command()
@click.pass_obj
def deconfig(session: Session) -> None:
    """Tell nobody any more, from this server."""
    session.call("DELETE", "/notify")
    click.echo("this server tells nobody")


@notify.command()
@json_option
@click.pass_obj
def show(session: Session, as_json: bool) -> None:
    """Show whom this server tells, and what became of the notices."""
    found = session.call("GET", "/notify")
    if as_json:
        emit(found)
        return
    show_problems(from_items(found["problems"]))
    if not found["targets"]:
        click.echo("this server tells nobody; next: safekit-py notify config FILE")
        return
    table = tables.table("TARGET", "BY", "FROM", "MODULES", "SENT", "WAITING", "HELD", "FAILED", "LAST FAILURE")
    for each in found["targets"]:
        counts = [str(each[what]) for what in ("sent", "waiting", "held", "failed")]
        table.add_row(each["name"], each["tag"], each["least"], " ".join(each["modules"]), *counts, each["last"])
    tables.show(table)


@notify.command()
@click.argument("name")
@click.pass_obj
def test(session: Session, name: str) -> None:
    """Send one notice to a target now, and say how it was taken."""
    session.call("POST", f"/notify/test/{name}")
    click.echo(f"{name} took it")


@notify.command()
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@json_option
@click.pass_obj
def unsent(session: Session, count: int, as_json: bool) -> None:
    """Show the last notices that could not be sent, and why."""
    found: list[dict[str, Any]] = session.call("GET", "/notify/unsent", params={"count": count})
    if as_json:
        emit(found)
        return
    for each in found:
        click.echo(f"{readable(each['time'])} {each['target']}: {each['notice']['subject']} ({each['why']})")
