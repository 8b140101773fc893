"""What stands in the folder of the modules and is not installed: checked when it comes to rest, listed, never run.

An archive ``NAME.zip`` waits for ``module install``; a folder NAME, for ``config -m NAME``. Nothing is installed or
activated by itself: a file that somebody drops must not start to act on the server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safekit_py.bundle.archive import opened, verify
from safekit_py.bundle.install import check_name
from safekit_py.bundle.names import USERCONFIG
from safekit_py.config.checked import Checked
from safekit_py.errors import Problem, SafekitError
from safekit_py.model.event import Event
from safekit_py.model.state import Severity
from safekit_py.runtime import configcheck
from safekit_py.runtime.activation import SOURCE, Activation
from safekit_py.runtime.clock import wall

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent


@dataclass(frozen=True, slots=True)
class Available:
    """An archive or a folder that could be installed.

    :param problems: what is wrong with it, and warnings.
    :param remedy: the command that installs it.
    """

    name: str
    path: Path
    problems: tuple[Problem, ...]
    remedy: str


class Shelf:
    """What is available on this server."""

    def __init__(self, agent: Agent, activation: Activation) -> None:
        self._agent, self._activation = agent, activation
        self._found: dict[str, Available] = {}

    def all(self) -> list[Available]:
        """By file name."""
        return [self._found[each] for each in sorted(self._found)]

    def configured(self, name: str) -> bool:
        """Whether a module has a configuration that is, or could be, active."""
        history = self._activation.history(name)
        # $SAFEUSERVAR without a history: an agent that kept none ran it.
        return history.admitted or (self._agent.paths.module_var(name).is_dir() and not history.deconfigured)

    def forget(self, name: str) -> None:
        """It is installed now."""
        self._found.pop(name, None)

    async def folder(self, name: str) -> None:
        """A folder without an active configuration has come to rest, or has gone."""
        path = self._agent.paths.module(name)
        if not self._agent.paths.userconfig(name).is_file():
            if name not in self._agent.runners:
                self._agent.broken.pop(name, None)
            self._found.pop(name, None)
            return
        checked = (await configcheck.check_modules([self._agent.paths.userconfig(name)]))[0]
        self._put(name, Available(name, path, checked.problems, f"safekit-py config -m {name}"))
        problem = unconfigured(name)
        await self._agent.unconfigure(name, (problem, *(p for p in checked.problems if p.severity == "error")))

    async def archive(self, file: str) -> None:
        """An archive has come to rest, or has gone."""
        path = self._agent.paths.modules / file
        if not path.is_file():
            self._found.pop(file, None)
            return
        name = path.stem
        try:
            checked = await asyncio.to_thread(_check, path, name)
            problems = checked.problems
        except SafekitError as error:
            problems = error.problems
        self._put(file, Available(name, path, problems, f"safekit-py module install {path}"))

    def _put(self, key: str, found: Available) -> None:
        if self._found.get(key) == found:
            return
        self._found[key] = found
        errors = sum(each.severity == "error" for each in found.problems)
        text = f"{found.path} is available: {found.remedy}"
        if errors:
            text = f"{found.path} is available, with {errors} errors: safekit-py module list shows them"
        severity = Severity.WARNING if errors else Severity.INFO
        data = {"change": "available"}
        self._agent.publish(Event(wall(), found.name, severity, SOURCE, text, "config", data))


def _check(path: Path, name: str) -> Checked:
    check_name(name)
    with opened(path) as source:
        data = verify(source)
    return configcheck.check_blocking(data, f"{path}/{USERCONFIG}", {})


def unconfigured(name: str) -> Problem:
    """The module is there and has no active configuration."""
    return Problem("module.not-configured", f"{name} has no active configuration", f"safekit-py config -m {name}")
