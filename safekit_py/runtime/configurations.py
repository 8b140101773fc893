"""The commands about a module's configuration: config, update, deconfig, confinfo, and a start, which takes it too.

Each holds the module's own lock, so that no two change it at once; the agent goes on with everything else meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safekit_py.bundle import history
from safekit_py.bundle import install as bundle
from safekit_py.bundle.history import Version
from safekit_py.config.checked import Checked
from safekit_py.core.reload import words
from safekit_py.errors import ConfigError, NotFoundError, Problem, StateError
from safekit_py.runtime.activation import Activation, digest, not_stored, running
from safekit_py.runtime.available import unconfigured
from safekit_py.runtime.reload import Reload, fixed
from safekit_py.runtime.requests import Verb

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent
    from safekit_py.runtime.runner import ModuleRunner

ADMINISTRATOR = "asked by an administrator"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did.

    :param text: one sentence.
    :param problems: warnings; for an installation, also what keeps the module from running.
    """

    text: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Information:
    """What is known of a module's configuration.

    :param edited: the fingerprint of the module's files as they are; empty when it cannot be told.
    :param differs: whether userconfig.xml is not as it is active.
    """

    active: Version | None
    versions: tuple[Version, ...]
    edited: str
    differs: bool
    pending: tuple[Problem, ...]


class Configurations:
    """Of every module of a server."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.activation = Activation(agent)
        self.reload = Reload(agent, self.activation)

    async def known(self) -> list[str]:
        """The modules that were installed or configured by a command."""
        names = await asyncio.to_thread(bundle.folders, self._agent.paths)
        return [each for each in names if self.reload.shelf.configured(each)]

    async def before_start(self, name: str) -> None:
        """A person starts a module that is stopped: its file counts.

        :raises ConfigError: it is not accepted.
        """
        async with self.activation.lock(name):
            if name in self._agent.broken and not self.reload.shelf.configured(name):
                raise ConfigError(self._agent.broken[name])
            if name not in self._agent.runners and name not in self._agent.broken:
                return
            if self._agent.running(name) is not None:
                return
            data = self.activation.read(name)
            if name in self._agent.runners and self.activation.loaded.get(name) == digest(data):
                return
            await self.activation.activate(name, data, await self.activation.accepted(name, data), "a start")

    async def configure(self, name: str, *, apply: bool) -> Outcome:
        """Make the file as it is now the active configuration.

        :param apply: stop and start a running module where that is needed.
        """
        async with self.activation.lock(name):
            if not self._agent.paths.module(name).is_dir():
                self._agent.runner(name)
            data = self.activation.read(name)
            checked = await self.activation.accepted(name, data)
            runner = self._agent.running(name)
            if runner is not None:
                return await self._take(runner, data, checked, apply=apply)
            await self.activation.activate(name, data, checked, ADMINISTRATOR)
            self.reload.shelf.forget(name)
            return Outcome("configured", checked.problems)

    async def _take(self, runner: ModuleRunner, data: bytes, checked: Checked, *, apply: bool) -> Outcome:
        firm = fixed(runner, checked)
        if not firm:
            await self.reload.take(runner, data, checked, ADMINISTRATOR)
            return Outcome("active, the application went on", checked.problems)
        if not apply:
            raise running(runner.name, words(firm))
        started = await self.activation.switch(runner.name, data, checked, f"config, {ADMINISTRATOR}")
        await started
        return Outcome(f"active, after a stop and a start: {words(firm)}", checked.problems)

    async def update(self, name: str) -> Outcome:
        """Take now what a running module can take."""
        async with self.activation.lock(name):
            runner = self._agent.runner(name)
            if runner.stopped:
                remedy = f"a start takes it: safekit-py start {name}"
                raise StateError(Problem("module.stopped", f"{name} is stopped", remedy))
            data = self.activation.read(name)
            return await self._take(runner, data, await self.activation.accepted(name, data), apply=False)

    async def deconfigure(self, name: str) -> None:
        """Stop a module and take its configuration back; its files and what was active stay."""
        async with self.activation.lock(name):
            runner = self._agent.runner(name)
            if not runner.stopped:
                await runner.submit(Verb.STOP, f"deconfig, {ADMINISTRATOR}", person=True)
            await self.activation.quietly(runner, "deconfig")
            try:
                await asyncio.to_thread(self.activation.history(name).deconfigure)
            except OSError as error:
                raise not_stored(name, error) from error
            self.activation.loaded.pop(name, None)
            await self._agent.unconfigure(name, (unconfigured(name),))

    async def information(self, name: str) -> Information:
        """What is active, what the file says, and what is kept."""
        runner = self._agent.runners.get(name)
        if runner is None and name not in self._agent.broken:
            self._agent.runner(name)
        kept = self.activation.history(name)
        versions = await asyncio.to_thread(kept.versions)
        edited = await asyncio.to_thread(history.present, self._agent.paths, name)
        try:
            differs = digest(self.activation.read(name)) != self.activation.loaded.get(name)
        except ConfigError:
            differs = True
        active = versions[-1] if versions and not kept.deconfigured else None
        pending = runner.pending if runner is not None else self._agent.broken[name]
        return Information(active, tuple(versions), edited, differs, pending)

    async def files(self, name: str) -> tuple[str, dict[str, str]]:
        """The signature of a module's files as they are now, and each as text; one that is no text as its SHA-256.

        :raises NotFoundError: there is no such module.
        """
        if not self._agent.paths.module(name).is_dir():
            self._agent.runner(name)  # says that there is none, and which there are
        return await asyncio.to_thread(history.texts, self._agent.paths, name)

    async def difference(self, name: str, number: int | None) -> str:
        """What makes the module's files of a configuration, without a number of the active one, as a unified diff."""
        kept = self.activation.history(name)
        version = kept.active() if number is None else kept.find(number)
        if version is None:
            raise NotFoundError(unconfigured(name))
        return await asyncio.to_thread(kept.difference, version)
