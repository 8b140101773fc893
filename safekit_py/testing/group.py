"""A module that only records: what plugins do with its context stands in lists that a test can look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekit_py.errors import NotFoundError, Problem
from safekit_py.model.config import Cluster, ModuleConfig, Service
from safekit_py.model.event import Event
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import ModuleContext, ModuleHandle
from safekit_py.model.state import Readiness, Severity, State
from safekit_py.net.keys import Keys


@dataclass(frozen=True, slots=True)
class Request:
    """An action that was asked for."""

    action: str
    identity: str
    cause: str
    arguments: tuple[str, ...] = ()


@dataclass(slots=True)
class FakeGroup:
    """One module of one server of a group, and the server.

    As ``context`` it is what checkers and module types get; as ``control`` of an action, and as ``server`` of routes
    and metrics, hand over the object itself.

    :param publish: is told each event, as plugins' ``safekit_event`` would be.
    :param shows: what ``report`` answers.
    :param others: what ``ModuleContext.ask`` answers, by module.
    """

    config: ModuleConfig = field(default_factory=lambda: ModuleConfig(Service(mode="light")))
    name: str = "app"
    node: str = "server1"
    paths: Paths = field(default_factory=Paths)
    cluster: Cluster = field(default_factory=Cluster)
    publish: Callable[[Event], None] = lambda _event: None
    others: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    state: State = State.STOP
    readiness: Readiness = Readiness.NOT_READY
    starts: int = 0
    events: list[Event] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    controlled: list[tuple[str, str]] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    shows: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> ModuleContext:
        """What checkers and module types get."""
        return ModuleContext(
            *(self.name, self.config, self.cluster, self.node, self.paths, Keys.of(bytes(32)), 0),
            log=self.log,
            set_resource=self.set_resource,
            resource=lambda name: self.values.get(name, "unknown"),
            request=self._requested,
            ask=lambda module: self.others.get(module, {}),
        )

    # --- what happens -----------------------------------------------------------------------------

    def log(self, severity: Severity, message: str) -> None:
        """A line of the module's log."""
        self._event(severity, self.config.service.mode, message, "log", {})

    def enter(self, state: State, readiness: Readiness = Readiness.READY, reason: str = "") -> None:
        """Change the module's state."""
        before = f"{self.state} {self.readiness}"
        self.state, self.readiness = state, readiness
        data = {"state": state.value, "readiness": readiness.value, "before": before, "reason": reason}
        self._event(Severity.INFO, "heart", f"{state} {readiness}", "state", data)

    def set_resource(self, name: str, value: str, cause: str = "") -> None:
        """Set a resource; an event follows when its value changes."""
        before = self.values.get(name, "init")
        self.values[name] = str(value)
        if before != value:
            data = {"resource": name, "value": str(value), "before": before, "cause": cause}
            self._event(Severity.INFO, "resource", f"{name} {before} -> {value} ({cause})", "resource", data)

    def _event(self, severity: Severity, source: str, message: str, kind: str, data: Mapping[str, str]) -> None:
        event = Event(0.0, self.name, severity, source, message, kind, data)
        self.events.append(event)
        self.publish(event)

    def _requested(self, action: str, identity: str, cause: str, arguments: tuple[str, ...]) -> None:
        self.requests.append(Request(action, identity, cause, arguments))

    # --- as the control of an action --------------------------------------------------------------

    async def restart(self, cause: str) -> None:
        """Recorded in ``controlled``; so are the others."""
        self.controlled.append(("restart", cause))

    async def stopstart(self, cause: str) -> None:
        """Recorded."""
        self.controlled.append(("stopstart", cause))

    async def stop(self, cause: str) -> None:
        """Recorded."""
        self.controlled.append(("stop", cause))

    async def wait(self, cause: str) -> None:
        """Recorded."""
        self.controlled.append(("wait", cause))

    # --- as the server of routes and metrics, and its one module ------------------------------------

    def modules(self) -> tuple[str, ...]:
        """This one."""
        return (self.name,)

    def module(self, name: str) -> ModuleHandle:
        """This one, by its name."""
        if name != self.name:
            problem = Problem("module.not-installed", f"module {name} is not installed", f"installed: {self.name}")
            raise NotFoundError(problem)
        return self

    def status(self) -> Mapping[str, Any]:
        """Where it stands."""
        return {
            "state": self.state.value,
            "readiness": self.readiness.value,
            "reason": "",
            "mode": self.config.service.mode,
            "starts": self.starts,
        }

    def resources(self) -> Mapping[str, str]:
        """What was set."""
        return dict(self.values)

    def report(self) -> Mapping[str, Any]:
        """What was put into ``shows``."""
        return self.shows

    def request(self, action: str, identity: str, cause: str) -> None:
        """Recorded in ``requests``."""
        self._requested(action, identity, cause, ())


def in_folder(folder: Path, config: ModuleConfig | None = None, **fields: Any) -> FakeGroup:
    """One whose files stand in a folder of the test."""
    return FakeGroup(config or ModuleConfig(Service(mode="light")), paths=Paths(folder), **fields)
