"""Plugin ``errd``: the element, the checkers and the command. What costs memory is imported where it is needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from safekit_py.api import Checker, CheckerType, Element, ModuleConfig, ModuleContext, Problem, SafekitError, hookimpl

from .element import ELEMENT

if TYPE_CHECKING:
    import click


def check(config: ModuleConfig) -> Iterable[Problem]:
    """What a configuration lacks: restarting means to run scripts."""
    if config.one("errd") is not None and config.user is None:
        text = "<errd> watches processes, and without <user> no script runs that could start them again"
        yield Problem("errd.no-user", text, "add <user/> to <service>")


def _create(context: ModuleContext) -> Iterable[Checker]:
    errd = context.config.one("errd")
    if errd is None or not errd.procs:
        return []
    if problems := tuple(check(context.config)):
        raise SafekitError(problems)
    from .checker import create  # noqa: PLC0415 - psutil costs memory in every agent that has no use for it

    return create(context, errd.procs, errd.polltimer)


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<errd>`` below ``<service>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """One checker for each ``<proc>``."""
    return (CheckerType("errd", _create, check),)


@hookimpl
def safekit_commands() -> Iterable[click.Command]:
    """The command ``errd``."""
    from .cli import errd  # noqa: PLC0415 - the agent has no use for it

    return (errd,)
