"""This server as plugins' routes and metrics may see it: names, states and resources, and what may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safekit_py.errors import NotFoundError, Problem
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import ModuleHandle

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent
    from safekit_py.runtime.runner import ModuleRunner

NOT_CONFIGURED = "NOT_CONFIGURED"  # in place of a state, of a module that cannot run


class ServerView:
    """The agent's modules; see ``model.plugin.Server``."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def node(self) -> str:
        """The name of this server; empty while there is no cluster."""
        return self._agent.node

    @property
    def paths(self) -> Paths:
        """Where its files are."""
        return self._agent.paths

    def modules(self) -> tuple[str, ...]:
        """The installed modules, by name."""
        return tuple(sorted({*self._agent.runners, *self._agent.broken}))

    def module(self, name: str) -> ModuleHandle:
        """One of them.

        :raises NotFoundError: it is not installed.
        """
        if name in self._agent.runners:
            return RunningView(self._agent.runners[name])
        if name in self._agent.broken:
            return BrokenView(name, self._agent.broken[name])
        known = ", ".join(self.modules()) or "none"
        raise NotFoundError(Problem("module.not-installed", f"module {name} is not installed", f"installed: {known}"))


class RunningView:
    """A module that is configured; see ``model.plugin.ModuleHandle``."""

    def __init__(self, runner: ModuleRunner) -> None:
        self._runner = runner
        self.name = runner.name

    def status(self) -> Mapping[str, Any]:
        """Where it stands."""
        runner = self._runner
        return {
            "state": runner.state.value,
            "readiness": runner.readiness.value,
            "reason": runner.reason,
            "mode": runner.config.service.mode,
            "starts": runner.starts,
        }

    def resources(self) -> Mapping[str, str]:
        """What is watched."""
        return {each.name: each.value for each in self._runner.board.all()}

    def report(self) -> Mapping[str, Any]:
        """What its type shows."""
        return self._runner.report()

    def set_resource(self, name: str, value: str, cause: str) -> None:
        """Set one."""
        self._runner.board.set(name, value, cause)

    def request(self, action: str, identity: str, cause: str) -> None:
        """Ask for an action."""
        self._runner.context.request(action, identity, cause, ())


class BrokenView:
    """A module that cannot run as it is configured: there is nothing to watch and nothing to ask for."""

    def __init__(self, name: str, problems: tuple[Problem, ...]) -> None:
        self.name, self._problems = name, problems

    def status(self) -> Mapping[str, Any]:
        """Why it cannot run."""
        reason = str(self._problems[0]) if self._problems else ""
        return {"state": NOT_CONFIGURED, "readiness": "", "reason": reason, "mode": "", "starts": 0}

    def resources(self) -> Mapping[str, str]:
        """None."""
        return {}

    def report(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def set_resource(self, name: str, value: str, cause: str) -> None:
        """Without effect."""

    def request(self, action: str, identity: str, cause: str) -> None:
        """Without effect."""
