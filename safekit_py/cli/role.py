"""Commands that give a server of a mirror its role, or exchange the two roles.

What a command would discard is said before it does so, and asked for.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from safekit_py.cli.common import Command, Session, emit, json_option, module_option

yes_option = click.option("-y", "--yes", is_flag=True, help="Do it without asking, whatever it discards.")


def order(session: Session, module: str, verb: str, *arguments: str) -> dict[str, Any]:
    """Give one command to a module with roles."""
    answer: dict[str, Any] = session.call("POST", f"/modules/{module}/role/{verb}", json={"arguments": list(arguments)})
    return answer


def carry_out(session: Session, module: str, verb: str, *arguments: str, yes: bool, as_json: bool) -> None:
    """Say what a command discards, ask, then do it."""
    seen = order(session, module, verb, *arguments, "look")
    if seen["discards"] and not yes:
        click.echo(f"{verb} {module} discards: {seen['discards']}", err=True)
        click.confirm("Do it?", abort=True, err=True)
    answer = order(session, module, verb, *arguments)
    if as_json:
        emit(answer)
    else:
        item = answer["module"]
        click.echo(
            f"{verb} {module}: {answer['text'] or 'done'} ({item['state']} {item['readiness']})".replace(" )", ")")
        )


def module_and(word: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The module as ``-m NAME`` or as argument, and before or after it an optional word, passed on as ``option``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.argument("words", nargs=-1, metavar=f"[NAME] [{word}]")
        @click.option("-m", "--module", "module", metavar="NAME", help="The module.")
        @functools.wraps(function)
        def wrapper(*args: Any, words: tuple[str, ...], module: str | None, **kwargs: Any) -> Any:
            names = [each for each in words if each != word]
            chosen = module or (names.pop(0) if names else os.environ.get("SAFEMODULE"))
            if names or not chosen:
                raise click.UsageError(f"name the module, and after it nothing but {word}")
            return function(*args, module=chosen, option=word if word in words else None, **kwargs)

        return wrapper

    return decorate


@click.command(cls=Command)
@module_and("fullsync")
@yes_option
@json_option
@click.pass_obj
def prim(session: Session, module: str, option: str | None, yes: bool, as_json: bool) -> None:
    """Start a module as primary: for its first start, or when both servers are down and this one has the data.

    With fullsync, the other server gets everything anew.
    """
    carry_out(session, module, "prim", *filter(None, (option,)), yes=yes, as_json=as_json)


@click.command(cls=Command)
@module_option
@yes_option
@json_option
@click.pass_obj
def primforce(session: Session, module: str, yes: bool, as_json: bool) -> None:
    """Start as primary with the data of this server, whatever the other one has; that is discarded."""
    carry_out(session, module, "primforce", yes=yes, as_json=as_json)


@click.command(cls=Command)
@module_and("fullsync")
@yes_option
@json_option
@click.pass_obj
def second(session: Session, module: str, option: str | None, yes: bool, as_json: bool) -> None:
    """Start a module as secondary: it takes what differs from the primary, and with fullsync everything anew."""
    carry_out(session, module, "second", *filter(None, (option,)), yes=yes, as_json=as_json)


@click.command(cls=Command)
@module_option
@click.option("-d", "--date", metavar="DATE", help="Accepted as in SafeKit; checksums find what differs, not dates.")
@yes_option
@json_option
@click.pass_obj
def secondforce(session: Session, module: str, date: str | None, yes: bool, as_json: bool) -> None:
    """Start as secondary although the data do not come from the same history: they are compared and replaced."""
    carry_out(session, module, "secondforce", *filter(None, (date,)), yes=yes, as_json=as_json)


@click.command(cls=Command)
@module_and("nosync")
@json_option
@click.pass_obj
def swap(session: Session, module: str, option: str | None, as_json: bool) -> None:
    """Exchange the roles of the two servers: the secondary takes the application over, planned and without loss.

    On either server. nosync is accepted as in SafeKit: a swap is only done between equal data, so there is nothing to
    synchronise.
    """
    carry_out(session, module, "swap", *filter(None, (option,)), yes=True, as_json=as_json)
