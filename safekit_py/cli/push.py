"""One configuration for several servers: ``-H NODES -E MODULE`` and ``-H NODES -G``, on all of them or on none.

Flows through it: what this server has, a module's folder or cluster.xml, in; first every server checks it and changes
nothing; only when all accept it each takes it. Where one fails nevertheless, those that have taken it get back what
they had. Invariant: as long as a server refuses in the first round, nothing has changed anywhere.
"""

from __future__ import annotations

import abc
import contextlib
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from safekit_py.cli.common import FAILED, Session, from_items, paint
from safekit_py.errors import NotFoundError, Problem, SafekitError, StateError

MOST = 32  # servers at a time


@dataclass(frozen=True, slots=True)
class Done:
    """What a server answered: its warnings, or why it refused."""

    server: str
    problems: tuple[Problem, ...] = ()
    failed: bool = False


class Push(abc.ABC):
    """Something to be put on several servers.

    :param name: what it is, for messages.
    """

    name: str

    @abc.abstractmethod
    def check(self, server: Session) -> Any:
        """Have a server check it; the answer's document."""

    @abc.abstractmethod
    def before(self, server: Session) -> Any:
        """What the server has now, for :meth:`undo`."""

    @abc.abstractmethod
    def apply(self, server: Session) -> Any:
        """Have a server take it; the answer's document."""

    @abc.abstractmethod
    def undo(self, server: Session, before: Any) -> None:
        """Give a server back what it had."""


class ModulePush(Push):
    """A module's folder on this server.

    :param apply: servers on which the module runs stop it, replace it and start it.
    """

    def __init__(self, session: Session, name: str, folder: Path, *, apply: bool) -> None:
        from safekit_py.bundle import install as bundle  # noqa: PLC0415 - loaded only where needed

        source = session.here.module(name)
        if not source.is_dir():
            problem = Problem("module.not-installed", f"module {name} is not installed on this server", "")
            raise NotFoundError(problem)
        self.name, self._module, self._apply = f"module {name}", name, apply
        self._data = bundle.package(source, folder / "module.zip").read_bytes()

    def _put(self, server: Session, **parameters: Any) -> Any:
        parameters["apply"] = self._apply
        heads = {"content-type": "application/zip"}
        return server.call("PUT", f"/modules/{self._module}", params=parameters, content=self._data, headers=heads)

    def check(self, server: Session) -> Any:
        """See :class:`Push`."""
        found = server.call("GET", "/status")
        state = next((each["state"] for each in found["modules"] if each["name"] == self._module), "")
        if state not in ("", "STOP", "NOT_CONFIGURED") and not self._apply:
            remedy = "stop it first, or push with --apply, which stops it, replaces it and starts it"
            raise StateError(Problem("module.running", f"{self._module} is running there ({state})", remedy))
        return self._put(server, check=True)

    def before(self, server: Session) -> Any:
        """See :class:`Push`."""
        with contextlib.suppress(SafekitError):
            versions = server.call("GET", f"/configurations/{self._module}")["versions"]
            return next((each["number"] for each in versions if each["active"]), None)
        return None

    def apply(self, server: Session) -> Any:
        """See :class:`Push`."""
        return self._put(server)

    def undo(self, server: Session, before: Any) -> None:
        """See :class:`Push`."""
        if before is None:
            server.call("DELETE", f"/modules/{self._module}")
        else:
            path = f"/configurations/{self._module}/versions/{before}"
            server.call("POST", path, params={"apply": self._apply})


class ClusterPush(Push):
    """This server's cluster.xml."""

    name = "cluster.xml"

    def __init__(self, session: Session) -> None:
        self._text = session.call("GET", "/cluster/config")["text"]
        if not self._text:
            raise StateError(Problem("node.no-cluster", "this server has no cluster.xml", ""))

    @staticmethod
    def _put(server: Session, text: str, **parameters: Any) -> Any:
        return server.call("PUT", "/cluster/config", content=text.encode(), params=parameters)

    def check(self, server: Session) -> Any:
        """See :class:`Push`."""
        return self._put(server, self._text, check=True)

    def before(self, server: Session) -> Any:
        """See :class:`Push`."""
        return server.call("GET", "/cluster/config")["text"]

    def apply(self, server: Session) -> Any:
        """See :class:`Push`."""
        return self._put(server, self._text)

    def undo(self, server: Session, before: Any) -> None:
        """See :class:`Push`."""
        if before:
            self._put(server, before)
        else:
            server.call("DELETE", "/cluster/config")


def push(what: Push, session: Session, names: Sequence[str]) -> int:
    """Put it on the servers; tells how each fares. The exit code."""
    servers = {name: Session(session.here, name) for name in names}
    checked = _each(servers, what.check)
    if _tell(checked):
        click.echo(f"{what.name}: nothing was changed on any server", err=True)
        return FAILED
    before: dict[str, Any] = {}

    def apply(server: Session) -> Any:
        before[server.node] = what.before(server)
        return what.apply(server)

    applied = _each(servers, apply)
    if not _tell(applied, warnings=False):
        click.echo(f"{what.name}: taken by {', '.join(names)}")
        return 0
    taken = {done.server: servers[done.server] for done in applied if not done.failed}
    undone = _each(taken, lambda server: what.undo(server, before[server.node]))
    left = [done.server for done in undone if done.failed]
    _tell(undone)
    if left:
        click.echo(f"{what.name}: still the new one on {', '.join(left)}: put it right there", err=True)
    else:
        click.echo(f"{what.name}: every server has what it had before", err=True)
    return FAILED


def _each(servers: dict[str, Session], call: Callable[[Session], Any]) -> list[Done]:
    def one(item: tuple[str, Session]) -> Done:
        name, server = item
        try:
            answer = call(server)
        except SafekitError as error:
            return Done(name, tuple(error.problems), failed=True)
        return Done(name, tuple(from_items((answer or {}).get("problems", []))))

    if not servers:
        return []
    with ThreadPoolExecutor(min(MOST, len(servers))) as pool:
        return list(pool.map(one, servers.items()))


def _tell(found: Sequence[Done], *, warnings: bool = True) -> bool:
    """Print what servers said; whether one refused."""
    for done in found:
        if done.failed or warnings:
            for problem in done.problems:
                click.echo(f"{done.server}: {paint(problem)}", err=True)
    return any(done.failed for done in found)


def run(session: Session, names: Sequence[str], module: str | None, *, apply: bool) -> int:
    """``-E`` a module, or ``-G`` the cluster.xml, of this server on those that are named; the exit code."""
    if module is None:
        return push(ClusterPush(session), session, names)
    with tempfile.TemporaryDirectory(prefix="safekit-") as folder:
        return push(ModulePush(session, module, Path(folder), apply=apply), session, names)
