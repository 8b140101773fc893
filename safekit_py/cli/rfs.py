"""Commands about a mirror's replicated data: compare, copy from outside, grow, give back."""

from __future__ import annotations

import sys
from typing import Any

import click

from safekit_py.cli.common import Command, Group, Session, emit, json_option, module_option
from safekit_py.cli.role import order, yes_option

DIFFERENT = 1  # exit code when the two servers' data differ


def _compared(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(answer["data"])
    else:
        click.echo(answer["text"])
        for each in answer["data"].get("differences", []):
            click.echo(f"  {each}")
    if answer["data"].get("different"):
        sys.exit(DIFFERENT)


@click.command(cls=Command)
@module_option
@json_option
@click.pass_obj
def rfsverify(session: Session, module: str, as_json: bool) -> None:
    """Compare the data of the two servers while the application runs; exit code 1 when they differ."""
    _compared(order(session, module, "rfsverify"), as_json)


@click.command(cls=Command)
@module_option
@json_option
@click.pass_obj
def rfsdiff(session: Session, module: str, as_json: bool) -> None:
    """List the blocks in which the data of the two servers differ."""
    _compared(order(session, module, "rfsdiff"), as_json)


@click.command(cls=Command)
@click.argument("way", type=click.Choice(["external"]))
@click.argument("role", type=click.Choice(["prim", "second"]))
@click.argument("uid")
@click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
@yes_option
@json_option
@click.pass_obj
def rfssync(session: Session, way: str, role: str, uid: str, module: str, yes: bool, as_json: bool) -> None:
    """After a first copy by other means: say that both servers' volumes are the same copy, named by the same UID.

    On a stopped module: copy the image files of $SAFEVAR/volumes from one server to the other, then give this command
    on both, as prim and as second.
    """
    seen = order(session, module, "rfssync", way, role, uid, "look")
    if seen["discards"] and not yes:
        click.echo(f"rfssync discards: {seen['discards']}", err=True)
        click.confirm("Do it?", abort=True, err=True)
    answer = order(session, module, "rfssync", way, role, uid)
    emit(answer) if as_json else click.echo(answer["text"])


@click.group(cls=Group)
def rfs() -> None:
    """Look after replicated directories."""


@rfs.command()
@click.argument("directory")
@click.argument("size")
@click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
@json_option
@click.pass_obj
def resize(session: Session, directory: str, size: str, module: str, as_json: bool) -> None:
    """Let a replicated directory grow to SIZE (such as 20G) while it is used; on the primary."""
    answer = order(session, module, "rfs-resize", directory, size)
    emit(answer) if as_json else click.echo(answer["text"])


@rfs.command()
@click.argument("directory")
@click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
@json_option
@click.pass_obj
def export(session: Session, directory: str, module: str, as_json: bool) -> None:
    """Give a replicated directory back: its content becomes an ordinary directory again; on a stopped module."""
    answer = order(session, module, "rfs-export", directory)
    emit(answer) if as_json else click.echo(answer["text"])
