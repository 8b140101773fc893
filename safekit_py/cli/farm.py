"""Commands of farm modules: their scripts open and close the traffic."""

from __future__ import annotations

import click

from safekit_py.cli import farmbuild, farmlook
from safekit_py.cli.common import Command, Group, Session, emit, json_option, module_option

SAFEKITS = {"all": True, "none": False}


def _set(session: Session, module: str, *, opened: bool, as_json: bool) -> None:
    answer = session.call("POST", f"/modules/{module}/traffic/{'open' if opened else 'close'}")
    if as_json:
        emit(answer)
    else:
        click.echo(f"{module}: traffic is {'open' if opened else 'closed'}")


@click.group(cls=Group)
def farm() -> None:
    """Farm modules: who takes which clients."""


@farm.command("open")
@module_option
@json_option
@click.pass_obj
def open_(session: Session, module: str, as_json: bool) -> None:
    """Let clients in; for scripts of a module with scriptcontrol="on".

    In prestart it is remembered until the addresses are there.
    """
    _set(session, module, opened=True, as_json=as_json)


@farm.command()
@module_option
@json_option
@click.pass_obj
def close(session: Session, module: str, as_json: bool) -> None:
    """Give new clients to the other servers; those that are here go on."""
    _set(session, module, opened=False, as_json=as_json)


for each in (farmlook.show, farmlook.trace, farmlook.doctor, farmbuild.build):
    farm.add_command(each)


@click.command("saferpc_send", cls=Command, hidden=True)
@click.argument("words", nargs=-1)
@click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
@click.pass_obj
def saferpc_send(session: Session, words: tuple[str, ...], module: str) -> None:
    """SafeKit's own form: safekit -r saferpc_send vipd SETGROUPS all all all, or none none none."""
    wishes = {SAFEKITS.get(word) for word in words[2:]}
    opened = wishes.pop() if len(wishes) == 1 else None
    if words[:2] != ("vipd", "SETGROUPS") or opened is None:
        raise click.UsageError("write: vipd SETGROUPS all all all, or none none none")
    _set(session, module, opened=opened, as_json=False)
