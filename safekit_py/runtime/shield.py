"""What plugins contribute, with a shield around it: the engine calls it like the plugin's own, faults are counted.

Flows through it: a plugin's checker type, action or module type in; the same out, whose code runs under the guard.
A fault is counted under the plugin's name and raised again, so that the engine acts as for any failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.config import Cluster, ModuleConfig
from safekit_py.model.plugin import (
    Action,
    Checker,
    CheckerType,
    ModuleContext,
    ModuleControl,
    ModuleRuntime,
    ModuleType,
)
from safekit_py.runtime import faults, guard
from safekit_py.runtime.requests import Interrupted

Result = TypeVar("Result")
Count = Callable[[str, str, BaseException], None]


class Shield:
    """Runs the code of one plugin.

    :param count: is told the plugin, the part of it and the exception of each fault.
    """

    def __init__(self, plugin: str, count: Count) -> None:
        self.plugin, self._count = plugin, count

    def call(self, part: str, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function of the plugin; a finding that it raises on purpose is no fault."""
        try:
            return guard.call(f"plugin {self.plugin}, {part}", function, *args)
        except (SafekitError, Interrupted):
            raise
        except Exception as error:
            self._told(part, error)
            raise

    async def task(self, part: str, run: Awaitable[Result]) -> Result:
        """Wait for a coroutine of the plugin."""
        try:
            return await guard.task(f"plugin {self.plugin}, {part}", run)
        except (SafekitError, Interrupted):
            raise
        except Exception as error:
            self._told(part, error)
            raise

    def _told(self, part: str, error: Exception) -> None:
        if not isinstance(error, guard.PluginStalled):  # that one was counted when it was interrupted
            self._count(self.plugin, part, error)

    def problem(self, part: str, error: Exception) -> Problem:
        """What the user reads of an exception."""
        return faults.failed(self.plugin, part, error)


def action(shield: Shield, given: Action) -> Action:
    """An action whose code runs under the guard."""

    async def run(control: ModuleControl, cause: str) -> None:
        await shield.task(f"the action {given.name}", given.run(control, cause))

    return replace(given, run=run)


def checkers(shield: Shield, given: CheckerType, made: Callable[[str], None]) -> CheckerType:
    """A checker type whose code runs under the guard; ``made`` is told the resource of each checker."""

    def create(context: ModuleContext) -> Iterable[Checker]:
        found = shield.call(f"the checker type {given.name}", lambda: tuple(given.create(context)))
        for checker in found:
            made(str(checker.resource))
        return found

    def check(config: ModuleConfig) -> Iterable[Problem]:
        part = f"check of the checker type {given.name}"
        try:
            return shield.call(part, lambda: tuple(given.check(config)))
        except SafekitError as error:
            return error.problems
        except Exception as error:  # a plugin's fault, told as a finding
            return (shield.problem(part, error),)

    return replace(given, create=create, check=check)


class ShieldedType:
    """A module type whose code runs under the guard."""

    def __init__(self, shield: Shield, given: ModuleType) -> None:
        self._shield, self._given = shield, given
        self.name, self.goal = given.name, given.goal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._given, name)

    def check(self, config: ModuleConfig, cluster: Cluster | None) -> Iterable[Problem]:
        """Its findings; a fault of its own is one."""
        return self._findings("check", lambda: tuple(self._given.check(config, cluster)))

    def requirements(self, config: ModuleConfig) -> Iterable[Problem]:
        """The same."""
        return self._findings("requirements", lambda: tuple(self._given.requirements(config)))

    def _findings(self, what: str, ask: Callable[[], tuple[Problem, ...]]) -> tuple[Problem, ...]:
        part = f"{what} of the module type {self.name}"
        try:
            return self._shield.call(part, ask)
        except SafekitError as error:
            return error.problems
        except Exception as error:  # the module cannot run then, and all others can
            return (self._shield.problem(part, error),)

    def runtime(self, context: ModuleContext) -> ModuleRuntime:
        """Its module at work.

        :raises SafekitError: it could not be made.
        """
        part = f"the module type {self.name}"
        try:
            made = self._shield.call(part, self._given.runtime, context)
        except SafekitError:
            raise
        except Exception as error:
            raise SafekitError(self._shield.problem(part, error)) from error
        return ShieldedRuntime(self._shield, self.name, made)


class ShieldedRuntime:
    """A module at work whose code runs under the guard."""

    def __init__(self, shield: Shield, kind: str, given: ModuleRuntime) -> None:
        self._shield, self._kind, self._given = shield, kind, given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._given, name)

    async def _run(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        await self._shield.task(f"{what} of the module type {self._kind}", run())

    async def recover(self) -> None:
        """See ``ModuleRuntime``; so for the others."""
        await self._run("recover", self._given.recover)

    async def prepare(self) -> None:
        """See there."""
        await self._run("prepare", self._given.prepare)

    async def open(self) -> None:
        """See there."""
        await self._run("open", self._given.open)

    async def close(self) -> None:
        """See there."""
        await self._run("close", self._given.close)

    async def release(self) -> None:
        """See there."""
        await self._run("release", self._given.release)

    def explain(self, what: str, words: tuple[str, ...]) -> Mapping[str, Any]:
        """What it tells about itself.

        :raises SafekitError: it has nothing to tell, or not this.
        """
        part = f"explain of the module type {self._kind}"
        tells = getattr(self._given, "explain", None)
        if tells is None:
            text = f"a module of the type {self._kind} tells nothing but its status"
            raise StateError(Problem("module.tells-nothing", text, "safekit-py status NAME"))
        try:
            return dict(self._shield.call(part, tells, what, words))
        except SafekitError:
            raise
        except Exception as error:
            raise SafekitError(self._shield.problem(part, error)) from error

    def report(self) -> Mapping[str, Any]:
        """What it shows; a fault shows instead of it."""
        part = f"report of the module type {self._kind}"
        try:
            return self._shield.call(part, lambda: dict(self._given.report()))
        except Exception as error:
            return {"error": self._shield.problem(part, error).message}
