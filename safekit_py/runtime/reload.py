"""What becomes of an edited configuration: taken while the module runs, or reported with the command that takes it.

Flows through it: names of modules whose userconfig.xml has come to rest (``runtime/watcher.py``), and commands. Which
changes a running module can take is decided in ``safekit_py.core.reload``; a configuration is taken whole or not at
all, so that what is active is always one file that somebody wrote. What is wrong with an edit is said once, and is
shown with the module as ``pending`` until the edit is taken or undone.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from safekit_py.config.checked import Checked
from safekit_py.core.reload import Difference, differences, words
from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.state import Severity
from safekit_py.runtime.activation import SOURCE, Activation, digest, running
from safekit_py.runtime.available import Shelf
from safekit_py.runtime.watcher import ARCHIVE, RESCAN, Watcher

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent
    from safekit_py.runtime.runner import ModuleRunner

AT_ONCE = 2  # configurations that are checked at the same time; each needs a process


class Reload:
    """The edited configurations of a server's modules."""

    def __init__(self, agent: Agent, activation: Activation) -> None:
        self._agent, self._activation = agent, activation
        self.shelf = Shelf(agent, activation)
        self._few = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watcher = Watcher(agent.paths.modules, self._settled, lambda: agent.runners)

    def start(self) -> None:
        """Watch the folder of the modules."""
        self._watcher.start()

    async def stop(self) -> None:
        """Watch no more."""
        await self._watcher.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what the watcher saw -------------------------------------------------------------------

    def _settled(self, name: str) -> None:
        task = asyncio.create_task(self._look(name), name=f"configuration of {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, name: str) -> None:
        if name.endswith(ARCHIVE):
            async with self._few:
                await self.shelf.archive(name)
            return
        async with self._activation.lock(name):
            try:
                await self._edited(name)
            except SafekitError as error:  # the check itself failed: the system's fault, and maybe not for long
                self._say(name, error.problems, "refused")
                self._retry(name)

    def _retry(self, name: str) -> None:
        asyncio.get_running_loop().call_later(RESCAN, self._watcher.again, name)

    async def _edited(self, name: str) -> None:
        """A module's file has come to rest."""
        agent, activation = self._agent, self._activation
        runner = agent.runners.get(name)
        if not self.shelf.configured(name):
            await self.shelf.folder(name)
            return
        if not agent.paths.userconfig(name).is_file():
            await self._gone(name)
            return
        data = activation.read(name)
        if activation.loaded.get(name) == digest(data):
            self._as_before(runner)
            return
        if runner is None:
            await agent.load(name)
            if name in agent.runners:
                self._watcher.again(name)  # it is made of what was active; what the file says comes next
            return
        async with self._few:
            checked = await activation.check(name, data)
        if checked.config is None:
            errors = tuple(each for each in checked.problems if each.severity == "error")
            self._say(name, errors, "refused")
        elif runner.stopped and not activation.loaded.get(name):
            runner.pending = ()  # it was never active: the first start makes it so
        elif runner.stopped:
            text = f"{name} takes its edited configuration at the next start"
            self._say(
                name, (Problem("config.next-start", text, f"safekit-py start {name}", severity="warning"),), "later"
            )
        elif firm := fixed(runner, checked):
            problem = running(name, words(firm)).problems[0]
            self._say(name, (replace(problem, severity="warning"),), "later")
        else:
            await self._live(runner, data, checked, "edited")

    async def _gone(self, name: str) -> None:
        """The file, or its whole folder, is not there."""
        agent, folder = self._agent, self._agent.paths.module(name)
        runner = agent.runners.get(name)
        if not folder.exists() and (runner is None or runner.stopped):
            await agent.forget(name)
            self._activation.loaded.pop(name, None)
        if runner is None or name not in agent.runners:
            return
        what = agent.paths.userconfig(name) if folder.exists() else folder
        goes_on = "" if runner.stopped else "; the module goes on with the configuration that it has"
        remedy = f"put it back, or: safekit-py config list -m {name}, and safekit-py config restore"
        self._say(name, (Problem("config.gone", f"{what} is gone{goes_on}", remedy, str(what)),), "gone")

    @staticmethod
    def _as_before(runner: ModuleRunner | None) -> None:
        if runner is not None and runner.pending:
            runner.pending = ()
            text = "userconfig.xml is as it is active"
            runner.log(Severity.INFO, SOURCE, text, "config", {"change": "undone"})

    def _say(self, name: str, problems: tuple[Problem, ...], change: str) -> None:
        """Show what keeps an edit from being taken, and log it unless that was said last."""
        runner = self._agent.runners.get(name)
        if runner is None or runner.pending == problems:
            return
        runner.pending = problems
        for problem in problems:
            severity = Severity.ERROR if problem.severity == "error" else Severity.WARNING
            runner.log(severity, SOURCE, str(problem), "config", {"change": change})

    # --- taking it while the module runs ---------------------------------------------------------

    async def _live(self, runner: ModuleRunner, data: bytes, checked: Checked, cause: str) -> bool:
        """Take a configuration, once the module stands still; False when it could not be."""
        assert checked.config is not None
        name = runner.name
        await runner.until(lambda: runner.settled)
        if runner.stopped or self._agent.runners.get(name) is not runner:
            self._watcher.again(name)
            return False
        found = differences(runner.config, checked.config)
        try:
            await self._activation.keep(name, data, f"{cause}: {words(found)}")
        except SafekitError as error:
            self._say(name, error.problems, "refused")
            self._retry(name)
            return False
        self._activation.loaded[name] = digest(data)
        changed = await runner.reconfigure(checked.config)
        runner.pending = ()
        which = f"; checkers: {', '.join(changed)}" if changed else ""
        text = f"configuration active while the module runs: {words(found)}{which}"
        runner.log(Severity.INFO, SOURCE, text, "config", {"change": "taken"})
        if found:
            await self._activation.quietly(runner, "update")
        return True

    async def take(self, runner: ModuleRunner, data: bytes, checked: Checked, cause: str) -> None:
        """As :meth:`_live`, for a command.

        :raises SafekitError: it could not be taken, and says why.
        """
        if not await self._live(runner, data, checked, cause):
            raise StateError(
                runner.pending or Problem("module.stopped", f"{runner.name} was stopped meanwhile", "again")
            )


def fixed(runner: ModuleRunner, checked: Checked) -> tuple[Difference, ...]:
    """What a running module cannot take of a configuration."""
    assert checked.config is not None
    return tuple(each for each in differences(runner.config, checked.config) if not each.live)
