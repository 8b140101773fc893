"""Commands for resources, the things that are watched: get and set."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from safekit_py.cli.common import Command, Session, emit, json_option

MODULE = click.option(
    "-m",
    "--module",
    "module",
    envvar="SAFEMODULE",
    required=True,
    metavar="NAME",
    help="The module; within its scripts, that module.",
)


@click.command("get", cls=Command)
@MODULE
@click.option("-r", "--resource", "resource", metavar="RESOURCE", help="Only this one, for instance tcp.Check_Appli.")
@click.option(
    "--history", type=click.IntRange(1, 20_000), metavar="N", help="Show the last N changes with their causes."
)
@json_option
@click.pass_obj
def get(session: Session, module: str, resource: str | None, history: int | None, as_json: bool) -> None:
    """Print the value of a resource; without -r show all of them."""
    if history:
        parameters = {"resource": resource or "", "lines": history}
        found = session.call("GET", f"/modules/{module}/history", params=parameters)
        emit(found) if as_json else _changes(found)
    elif resource:
        item = session.call("GET", f"/modules/{module}/resources/{quote(resource)}")
        emit(item) if as_json else click.echo(item["value"])
    else:
        found = session.call("GET", f"/modules/{module}/resources")
        emit(found) if as_json else _resources(found)


def _resources(found: list[dict[str, Any]]) -> None:
    from safekit_py.cli import tables  # noqa: PLC0415 - loaded only where needed

    table = tables.table("RESOURCE", "VALUE", "SINCE", "CAUSE")
    for item in found:
        table.add_row(item["name"], item["value"], tables.age(item["age"]), item["cause"])
    tables.show(table)


def _changes(found: list[dict[str, Any]]) -> None:
    from safekit_py.cli import tables  # noqa: PLC0415 - loaded only where needed

    table = tables.table("TIME", "RESOURCE", "BEFORE", "VALUE", "CAUSE")
    for item in found:
        table.add_row(item["when"], item["name"], item["before"], item["value"], item["cause"])
    tables.show(table)


@click.command("set", cls=Command)
@MODULE
@click.option("-r", "--resource", "resource", required=True, metavar="RESOURCE", help="class.id, such as custom.disk.")
@click.option("-v", "--value", "value", required=True, help="init, up, down, unknown, or a short text.")
@click.option(
    "-n", "--no-log", "never", is_flag=True, help="Write no line to the log; the history has it all the same."
)
@click.option("-l", "--log", "always", is_flag=True, help="Write a line also when the value is the same.")
@click.option("-i", "--identity", default="", help="Who sets it; shown as the cause.")
@json_option
@click.pass_obj
def set_(
    session: Session, module: str, resource: str, value: str, never: bool, always: bool, identity: str, as_json: bool
) -> None:
    """Set a resource; for the scripts of custom checkers. What follows from it, the failover rules say."""
    if never and always:
        raise click.UsageError("-n and -l exclude each other")
    log = "never" if never else "always" if always else "changes"
    given = {"value": value, "log": log if log != "changes" else "", "identity": identity}
    parameters = {name: text for name, text in given.items() if text or name == "value"}
    item = session.call("PUT", f"/modules/{module}/resources/{quote(resource)}", params=parameters)
    if as_json:
        emit(item)


set = set_  # noqa: A001 - a command is found by its name
