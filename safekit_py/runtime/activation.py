"""Makes a configuration of a module the active one: checked, its scripts run, kept, and taken by a new runner.

What is read from userconfig.xml is checked in a child process, against this server and by the module's own
``confcheck`` script; then the scripts ``config`` and ``postconfig`` are run around the moment at which it is kept as
the active one. A module that runs is halted in between, and gets its old configuration back when the new one fails.

Invariant: a module's runner is made of bytes that were checked, and a check that fails leaves the runner alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safekit_py.bundle import history
from safekit_py.bundle.history import History
from safekit_py.bundle.install import check_name
from safekit_py.config.checked import Checked
from safekit_py.errors import ConfigError, Problem, SafekitError, StateError
from safekit_py.model.paths import Paths
from safekit_py.model.state import Severity
from safekit_py.programs import ScriptFailed
from safekit_py.runtime import configcheck
from safekit_py.runtime.clock import wall
from safekit_py.runtime.requests import Verb
from safekit_py.runtime.scripts import ScriptRunner

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent
    from safekit_py.runtime.runner import ModuleRunner

SOURCE = "config"  # who speaks in the log
MAX_BYTES = 1 << 20  # of a userconfig.xml; the check refuses one that is longer


@dataclass(frozen=True, slots=True)
class Staged(Paths):
    """The same server, with one module that stands elsewhere for now."""

    folder: Path = Path()

    def module(self, name: str) -> Path:
        """The folder of the module that is staged."""
        return self.folder


def digest(data: bytes) -> str:
    """What tells two contents apart."""
    return hashlib.sha256(data).hexdigest()


class Activation:
    """Of every module of a server.

    :param agent: whose modules they are.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.loaded: dict[str, str] = {}  # by module, of what its runner was made
        self._locks: dict[str, asyncio.Lock] = {}

    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Held while the configuration of a module changes.

        :raises ConfigError: this cannot be the name of a module.
        """
        return self._locks.setdefault(check_name(name), asyncio.Lock())

    def history(self, name: str) -> History:
        """What was active."""
        return History(self._agent.paths, name)

    # --- reading and checking -------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """The userconfig.xml that a person edits.

        :raises ConfigError: it is not there, or cannot be read.
        """
        path = self._agent.paths.userconfig(name)
        try:
            with path.open("rb") as stream:
                return stream.read(MAX_BYTES + 1)
        except OSError as error:
            text = f"The file cannot be read: {error.strerror or error}"
            remedy = f"put it back; safekit-py config list -m {name} shows what is kept"
            raise ConfigError(Problem("config.unreadable", text, remedy, str(path))) from error

    async def load(self, names: Iterable[str]) -> list[tuple[str, Checked]]:
        """What each module is to be made of, all checked in one process: the active configuration, else the file's."""
        chosen = {name: await asyncio.to_thread(self._active, name) for name in names}
        checked = await self._many({name: data for name, data in chosen.items() if data is not None})
        fallen = [name for name in chosen if name not in checked or checked[name].config is None]
        edited = {name: data for name in fallen if (data := self._edited(name)) is not None}
        for name, outcome in (await self._many(edited)).items():
            if outcome.config is not None or name not in checked:
                checked[name] = outcome
            else:
                del edited[name]
        for name, data in chosen.items():
            # What was never activated is left open, so that the next start activates it.
            self.loaded[name] = digest(data) if data is not None and name not in edited else ""
            if name not in checked:
                text = f"{self._agent.paths.userconfig(name)} cannot be read"
                checked[name] = Checked(None, (Problem("config.unreadable", text, "put it back"),))
        return [(name, checked[name]) for name in chosen]

    def _active(self, name: str) -> bytes | None:
        version = self.history(name).active()
        try:
            return history.userconfig(version) if version is not None else None
        except OSError:
            return None

    def _edited(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except ConfigError:
            return None

    async def _many(self, sources: dict[str, bytes]) -> dict[str, Checked]:
        if not sources:
            return {}
        paths = self._agent.paths
        requests = [configcheck.Request(label=str(paths.userconfig(n)), data=d) for n, d in sources.items()]
        return dict(zip(sources, await configcheck.check_in_child(requests), strict=True))

    async def check(self, name: str, data: bytes) -> Checked:
        """Check a configuration for this server; ``config`` of the outcome is None when it is not accepted."""
        return await self.judge(name, (await self._many({name: data}))[name], self._agent.paths)

    async def judge(self, name: str, checked: Checked, paths: Paths) -> Checked:
        """Check, beyond its file, a configuration of the module that stands at these paths."""
        if checked.config is None:
            return checked
        problems = self._agent.unfit(checked)
        if not problems:
            try:
                await ScriptRunner(name, paths, checked.config.user).run_hook("confcheck")
            except ScriptFailed as error:
                text = f"the module's confcheck script refuses it: {error.problems[0].message}"
                remedy = f"{paths.module_var(name) / 'userlog'} has what the script said"
                problems = [Problem("config.confcheck", text, remedy, str(paths.userconfig(name)))]
        if not problems:
            return checked
        return replace(checked, config=None, problems=(*checked.problems, *problems))

    async def accepted(self, name: str, data: bytes, folder: Path | None = None) -> Checked:
        """Check a configuration of the module that stands in its place, or in another folder.

        :raises ConfigError: it is not accepted.
        """
        paths = self._agent.paths if folder is None else Staged(self._agent.paths.root, folder)
        checked = await self.judge(name, (await self._many({name: data}))[name], paths)
        if checked.config is None:
            raise ConfigError(checked.problems)
        return checked

    # --- activating -----------------------------------------------------------------------------

    async def activate(self, name: str, data: bytes, checked: Checked, cause: str) -> ModuleRunner:
        """Make it the active configuration of a module that is stopped or new.

        :raises ConfigError: it does not fit, or the script ``config`` failed: the module is then not configured.
        :raises StateError: the module runs.
        """
        self.loaded.pop(name, None)
        runner = await self._agent.build(name, checked)
        try:
            await runner.hook("config")
        except ScriptFailed as error:
            text = f"the module's config script failed: {error.problems[0].message}"
            remedy = f"correct it, then: safekit-py config -m {name}; $SAFEUSERVAR/userlog has what it said"
            await self._agent.unconfigure(name, (Problem("config.script-failed", text, remedy),))
            raise ConfigError(self._agent.broken[name]) from error
        self.loaded[name] = digest(data)
        try:
            await self.keep(name, data, cause)
        except SafekitError as error:  # a full disk must not keep a module from starting
            runner.log(Severity.WARNING, SOURCE, str(error.problems[0]))
        await self.quietly(runner, "postconfig")
        runner.log(Severity.INFO, SOURCE, f"configuration active: {cause}", "config", {"change": "activated"})
        return runner

    async def keep(self, name: str, data: bytes, cause: str) -> None:
        """Keep what is active now.

        :raises SafekitError: the disk does not take it.
        """
        try:
            await asyncio.to_thread(self.history(name).record, data, cause, wall())
        except OSError as error:
            raise not_stored(name, error) from error

    async def quietly(self, runner: ModuleRunner, script: str) -> None:
        """Run a script whose failure is worth a warning, and nothing more."""
        try:
            await runner.hook(script)
        except ScriptFailed as error:
            runner.log(Severity.WARNING, script, str(error.problems[0]))

    async def switch(
        self, name: str, data: bytes, checked: Checked, cause: str, place: Callable[[], object] = lambda: None
    ) -> asyncio.Future[None]:
        """Stop a module that runs, make this its configuration, and start it.

        :param place: puts the module's files in their place; called again, it puts the old ones back.
        :return: done when the module has started.
        :raises SafekitError: it could not be done; the module is started with what it had.
        """
        old = self._agent.runners[name]
        was = self.loaded.get(name, "")
        await old.submit(Verb.STOPSTART, cause, person=True, run=old.deeds.halt)
        placed = False
        try:
            await asyncio.to_thread(place)
            placed = True
            runner = await self.activate(name, data, checked, cause)
        except (SafekitError, OSError) as error:
            problems = error.problems if isinstance(error, SafekitError) else not_stored(name, error).problems
            if placed:
                await asyncio.to_thread(place)
            await self._back(name, old, was, problems)
            raise ConfigError(problems) from error
        return runner.submit(Verb.START, cause, person=True)

    async def _back(self, name: str, old: ModuleRunner, was: str, problems: tuple[Problem, ...]) -> None:
        """Start a module with the configuration that it had."""
        runner = await self._agent.build(name, Checked(old.config))
        self.loaded[name] = was
        edited = self._edited(name)
        if edited is not None and digest(edited) != was:
            runner.pending = problems  # the file still says what failed
        text = f"the new configuration failed, the old one is back: {problems[0].message}"
        runner.log(Severity.ERROR, SOURCE, text, "config", {"change": "refused"})
        await self.quietly(runner, "config")
        runner.submit(Verb.START, "the old configuration is back", person=True)


def not_stored(name: str, error: OSError) -> SafekitError:
    """The disk did not take a configuration."""
    text = f"the configuration of {name} cannot be stored: {error.strerror or error}"
    return SafekitError(Problem("config.not-stored", text, "make room on the disk; it is then tried again"))


def running(name: str, what: str, command: str = "") -> StateError:
    """Something would need the module to be stopped.

    :param command: what does it all the same.
    """
    remedy = f"{command or f'safekit-py config -m {name} --apply'} stops the module, takes it and starts it again"
    return StateError(Problem("config.needs-stop", f"{what}: a running module cannot take that", remedy))
