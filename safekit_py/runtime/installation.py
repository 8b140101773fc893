"""Puts a module's files in their place, new ones or old ones, and makes their configuration active; or takes them away.

Everything is checked and unpacked beside its place first. A module that runs is stopped for it only when that was asked
for, and whatever fails before the stop changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from safekit_py.bundle import history
from safekit_py.bundle import install as bundle
from safekit_py.bundle.history import Version
from safekit_py.config.checked import Checked
from safekit_py.core.reload import words
from safekit_py.errors import ConfigError, Problem, StateError
from safekit_py.model.paths import Paths
from safekit_py.runtime import configcheck, identity
from safekit_py.runtime.activation import Activation, not_stored, running
from safekit_py.runtime.configurations import Configurations, Outcome
from safekit_py.runtime.files import write_atomically
from safekit_py.runtime.reload import fixed

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent


class Placement(Protocol):
    """Files that are about to be a module's."""

    @property
    def folder(self) -> Path:
        """Where they stand now."""

    def place(self, paths: Paths) -> object:
        """Put them there; called again, put the old ones back."""

    def discard(self) -> None:
        """Remove what is left beside the place."""


class Overlay:
    """Of a configuration of which userconfig.xml alone was kept: the rest of the module stays as it is."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.folder = path.parent.parent
        self._path, self._data = path, data

    def place(self, paths: Paths) -> None:
        """Write the file, and remember what it held."""
        old = self._path.read_bytes() if self._path.is_file() else b""
        write_atomically(self._path, self._data)
        self._data = old

    def discard(self) -> None:
        """Nothing stands beside it."""


class Installation:
    """Of the modules of a server."""

    def __init__(self, agent: Agent, configurations: Configurations) -> None:
        self._agent = agent
        self._activation: Activation = configurations.activation
        self._reload = configurations.reload

    async def install(
        self,
        archive: Path,
        name: str,
        macros: Mapping[str, str],
        number: int | None,
        *,
        apply: bool = False,
        check: bool = False,
    ) -> tuple[Problem, ...]:
        """Install an archive or a folder as module ``name``; nothing changes when it is not acceptable.

        :param number: the module's number; None leaves it as it is, or to its name.
        :param apply: a running module is stopped, replaced and started.
        :param check: change nothing, and raise what installing it would raise.
        :return: warnings, and what keeps the module from running.
        """
        paths = self._agent.paths
        async with self._activation.lock(name):
            runner = self._agent.running(name)
            if runner is not None and not apply:
                remedy = "safekit-py module install --apply stops it, replaces it and starts it"
                raise StateError(Problem("module.running", f"{name} is running", remedy))
            others = [m.name for m in bundle.installed(paths)]
            chosen = identity.module_id(paths, name) if number is None else number
            identity.refuse_id_in_use(paths, name, chosen, others)
            staged = await self._stage(archive, name, macros)

            def place() -> None:
                staged.place(paths)
                if number is not None:
                    identity.set_module_id(paths, name, number)

            try:
                if check:
                    return (await self._activation.accepted(name, staged.userconfig, staged.folder)).problems
                if runner is not None:
                    checked = await self._activation.accepted(name, staged.userconfig, staged.folder)
                    cause = "a new version, installed by an administrator"
                    started = await self._activation.switch(name, staged.userconfig, checked, cause, place)
                    await started
                    return checked.problems
                await asyncio.to_thread(place)
                await asyncio.to_thread(self._activation.history(name).admit)
                return await self._settle(name, staged.userconfig, staged.checked)
            except OSError as error:
                raise not_stored(name, error) from error
            finally:
                await asyncio.to_thread(staged.discard)
                self._reload.shelf.forget(name)

    async def _settle(self, name: str, data: bytes, checked: Checked) -> tuple[Problem, ...]:
        """Activate what was just installed; where that fails, the module is there and says why it cannot run."""
        judged = await self._activation.judge(name, checked, self._agent.paths)
        if judged.config is None:
            errors = tuple(each for each in judged.problems if each.severity == "error")
            self._activation.loaded.pop(name, None)
            await self._agent.unconfigure(name, errors)
            return judged.problems
        try:
            await self._activation.activate(name, data, checked, "installed")
        except ConfigError as error:
            return (*checked.problems, *error.problems)
        return checked.problems

    async def restore(self, name: str, number: int, *, apply: bool) -> Outcome:
        """Put a module's files back as they were with a configuration that was active, and make it active again.

        :param apply: a running module is stopped and started where that is needed.
        """
        paths, cause = self._agent.paths, f"configuration {number} restored"
        async with self._activation.lock(name):
            version = self._activation.history(name).find(number)
            data = await asyncio.to_thread(_userconfig, name, version)
            placement = await self._placement(name, version, data)
            try:
                checked = await self._activation.accepted(name, data, placement.folder)
                runner = self._agent.running(name)
                if runner is None:
                    await asyncio.to_thread(placement.place, paths)
                    await self._activation.activate(name, data, checked, cause)
                    return Outcome(f"configuration {number} is active", checked.problems)
                firm = words(fixed(runner, checked)) if fixed(runner, checked) else ""
                if not firm and not await asyncio.to_thread(_same_scripts, version, paths, name):
                    firm = "its scripts or other files change"
                if firm and not apply:
                    raise running(name, firm, f"safekit-py config restore -m {name} {number} --apply")
                if firm:
                    started = await self._activation.switch(name, data, checked, cause, lambda: placement.place(paths))
                    await started
                    return Outcome(f"configuration {number} is active, after a stop and a start", checked.problems)
                await asyncio.to_thread(placement.place, paths)
                await self._reload.take(runner, data, checked, cause)
                return Outcome(f"configuration {number} is active, the application went on", checked.problems)
            except OSError as error:
                raise not_stored(name, error) from error
            finally:
                await asyncio.to_thread(placement.discard)

    async def _placement(self, name: str, version: Version, data: bytes) -> Placement:
        paths = self._agent.paths
        if not version.whole:
            return Overlay(paths.userconfig(name), data)
        return await self._stage(version.path, name, {})

    async def _stage(self, archive: Path, name: str, macros: Mapping[str, str]) -> bundle.Staged:
        paths, check = self._agent.paths, configcheck.check_blocking
        try:
            return await asyncio.to_thread(bundle.stage, archive, name, paths, macros, check)
        except OSError as error:
            raise not_stored(name, error) from error

    async def uninstall(self, name: str) -> None:
        """Remove a stopped module; its log and what its application kept in $SAFEUSERVAR stay."""
        agent = self._agent
        async with self._activation.lock(name):
            if agent.running(name) is not None:
                raise StateError(
                    Problem("module.running", f"{name} is running", f"stop it first: safekit-py stop {name}")
                )
            if name not in agent.broken:
                await self._activation.quietly(agent.runner(name), "deconfig")
            await agent.forget(name)
            self._activation.loaded.pop(name, None)
            await asyncio.to_thread(bundle.uninstall, name, agent.paths)
            await asyncio.to_thread(self._activation.history(name).remove)


def _userconfig(name: str, version: Version) -> bytes:
    try:
        return history.userconfig(version)
    except OSError as error:
        text = f"configuration {version.number} cannot be read: {error}"
        raise ConfigError(Problem("config.no-version", text, f"safekit-py config list -m {name}")) from error


def _same_scripts(version: Version, paths: Paths, name: str) -> bool:
    """Whether all but userconfig.xml is as it was; what was not kept is as it is."""
    return not version.whole or history.same_but_userconfig(version, paths, name)
