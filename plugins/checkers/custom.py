"""Checker ``<custom>``: a program of the module's own that loops and sets the resource ``custom.<ident>`` itself.

It is started with the module's name, the resource's and the words of ``arg``, and calls
``$SAFE/safekit set -r custom.<ident> -v up`` (or down) whenever it has looked. Here it is only kept running: one that
ends shows as unknown, with its status and last words, and is started again after a pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from safekit_py.api import (
    CheckerType,
    Element,
    ModuleContext,
    SafekitError,
    Severity,
    Status,
    User,
    environment,
    hookimpl,
    refuse_if_unsafe,
)

from .custom_element import ELEMENT, CustomCheck
from .custom_program import MARK, end_orphans, into, mark, run

BACKOFF = (1.0, 5.0, 30.0)  # seconds before a program that has ended is started again
SOUND = 60.0  # seconds that it must have run for the next pause to be the shortest again


class CustomChecker:
    """Keeps one program running."""

    def __init__(self, context: ModuleContext, check: CustomCheck) -> None:
        self._context, self._check = context, check
        self._user = context.config.user or User()
        self.config = (check, self._user)  # the variables of <user> are in its environment
        self.resource = f"custom.{check.ident}"
        self.rule = f"c_{check.ident}"
        self.when = check.when
        self.action = check.action

    @property
    def program(self) -> Path:
        """The file that is run."""
        return self._context.paths.module(self._context.name) / "bin" / self._check.program

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Keep it running until cancelled."""
        clock, attempt = asyncio.get_running_loop().time, 0
        await self._end_orphans()
        while True:
            began = clock()
            cause = await self._once()
            attempt = 0 if clock() - began > SOUND else attempt
            pause = BACKOFF[min(attempt, len(BACKOFF) - 1)]
            self._context.log(Severity.WARNING, f"{self.resource}: {cause}; it is started again in {pause:g} s")
            report(Status.UNKNOWN, cause)
            await asyncio.sleep(pause)
            attempt += 1

    async def _end_orphans(self) -> None:
        killed = await asyncio.to_thread(end_orphans, self.resource, self._environment())
        if killed:
            self._context.log(Severity.WARNING, f"{self.resource}: {killed} processes of an earlier agent were killed")

    async def _once(self) -> str:
        """Run it until it ends; how it ended, in words."""
        folder = self._context.paths.module_var(self._context.name)
        log = folder / "userlog" if self._user.logging == "userlog" else None
        argv = (str(self.program), self._context.name, self.resource, *self._check.arguments)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            refuse_if_unsafe(self.program)
            return await run(argv, self._environment(), folder, into(log, self._user.userlogsize))
        except SafekitError as error:
            return error.problems[0].message
        except OSError as error:
            return f"{self.program} cannot be run: {(error.strerror or str(error)).lower()}"

    def _environment(self) -> dict[str, str]:
        found = environment(self._context.name, self._context.paths, self._user)
        return {**found, MARK: mark(self.resource)}


def _create(context: ModuleContext) -> Iterable[CustomChecker]:
    return [CustomChecker(context, check) for check in context.config.all("check/custom")]


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<custom>`` below ``<check>``."""
    return (ELEMENT,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """The checker."""
    return (CheckerType("custom", _create),)
