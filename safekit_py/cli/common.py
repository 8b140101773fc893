"""What every command shares: the context, the module argument, errors as text or JSON, exit codes."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from safekit_py.errors import Problem, SafekitError, StateError, SystemProblem
from safekit_py.model.paths import Paths
from safekit_py.model.text import visible

if TYPE_CHECKING:
    from safekit_py.control.client import Client

FAILED = 1  # the command was refused or failed
USAGE = 2  # click's own code: the command line is wrong
NO_AGENT = 69  # EX_UNAVAILABLE: the agent does not run, or this server lacks something


@dataclass(slots=True)
class Session:
    """One run of the command line.

    :param here: the files of this server.
    :param node: the server that the command is for; empty: this one.
    """

    here: Paths
    node: str = ""

    @property
    def paths(self) -> Paths:
        """The files of the server that the command is for.

        :raises StateError: it is another one, whose files cannot be had.
        """
        if self.node:
            text = "this command works with files of the server it runs on, and -H names others"
            raise StateError(Problem("node.local-only", text, f"run it on {self.node}"))
        return self.here

    def client(self) -> Client:
        """The agent's client, imported only by commands that need it."""
        from safekit_py.control.client import Client  # noqa: PLC0415 - loaded only where needed

        return Client(self.here, self.node)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One call of the control API."""
        return self.client().call(method, path, **arguments)


def paint(problem: Problem) -> str:
    """One finding for a terminal; colours vanish in a pipe."""
    colour = "yellow" if problem.severity == "warning" else "red"
    head = click.style(problem.severity, fg=colour, bold=True)
    place = f"{problem.place}: " if problem.place else ""
    remedy = "\n    " + click.style("-> ", fg="green") + visible(problem.remedy) if problem.remedy else ""
    return f"{place}{head} [{problem.code}] {visible(problem.message)}{remedy}"


def show_problems(problems: list[Problem] | tuple[Problem, ...]) -> None:
    """Findings go to stderr."""
    for problem in problems:
        click.echo(paint(problem), err=True)


def from_items(items: list[dict[str, Any]]) -> list[Problem]:
    """Findings of an API answer."""
    return [Problem.from_dict(item) for item in items]


def reports_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Print a SafekitError as findings, or as JSON when ``--json`` was given, and exit with its code."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SafekitError as error:
            if kwargs.get("as_json"):
                click.echo(json.dumps({"problems": [p.as_dict() for p in error.problems]}, indent=2))
            else:
                show_problems(error.problems)
            sys.exit(NO_AGENT if isinstance(error, SystemProblem) else FAILED)

    return wrapper


class Command(click.Command):
    """A command whose SafekitErrors are reported."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        as_json = bool(ctx.params.get("as_json"))
        return reports_errors(lambda as_json: super(Command, self).invoke(ctx))(as_json=as_json)


class Group(click.Group):
    """A group of such commands; a mistyped name gets a suggestion."""

    command_class = Command
    group_class = type

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or say which one was meant."""
        import difflib  # noqa: PLC0415 - loaded only where needed

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            raise click.UsageError(f"{error.message} Did you mean {near[0]}?" if near else error.message, ctx) from None


def _complete_module(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    root = ctx.find_root().params.get("root") or os.environ.get("SAFEKIT_ROOT", "/")
    folder = Paths(__import__("pathlib").Path(root)).modules
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name.startswith(incomplete) and p.name[0] != ".")


def module_option(function: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """``-m NAME`` or the name as argument; within a module's script, that module.

    :param required: otherwise the command gets None when none is named.
    """

    @click.argument("name", required=False, shell_complete=_complete_module)
    @click.option("-m", "--module", "module", metavar="NAME", help="The module.", shell_complete=_complete_module)
    @functools.wraps(function)
    def wrapper(*args: Any, name: str | None, module: str | None, **kwargs: Any) -> Any:
        if name and module and name != module:
            raise click.UsageError(f"two modules are named: {module} and {name}")
        chosen = module or name or os.environ.get("SAFEMODULE")
        if not chosen and required:
            raise click.UsageError("name the module: as an argument, or with -m NAME")
        return function(*args, module=chosen or None, **kwargs)

    return wrapper


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def emit(value: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(value, indent=2))
