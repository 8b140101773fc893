"""Runs a module's scripts by the script contract: arguments, environment, time limit, output to the user log.

The script's output goes straight to the file, not through a pipe of the agent: an application that the script left
running keeps a working stdout when the agent is gone. The file is bounded by copying it aside and truncating it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from safekit_py.core.automaton import Script
from safekit_py.errors import Problem
from safekit_py.model.config import User
from safekit_py.model.paths import Paths
from safekit_py.programs import ScriptFailed, environment, open_log, refuse_if_unsafe, turn_over
from safekit_py.runtime.tally import Tally

__all__ = ["ScriptFailed", "ScriptRunner"]

GRACE = 2.0  # seconds between SIGTERM and SIGKILL of a script that ran out of time
CAPTURED = 64 * 1024  # bytes of a script's output that are shown
CAPTURE_LIMIT = 10.0  # seconds that such a script may take
LOOK = 0.25  # seconds between two looks at the size of the user log


@dataclass(slots=True)
class ScriptRunner:
    """Runs the scripts of one module, one at a time."""

    name: str
    paths: Paths
    user: User | None
    tally: Tally = field(default_factory=Tally)
    _group: int = 0

    @property
    def log(self) -> Path:
        """The user log."""
        return self.paths.module_var(self.name) / "userlog"

    def find(self, script: str) -> Path | None:
        """The script's file, or None when the module has none of that name or runs no scripts."""
        if self.user is None:
            return None
        path = self.paths.module(self.name) / "bin" / script
        return path if path.exists() or path.is_symlink() else None

    async def run(self, step: Script, more: tuple[str, ...] = ()) -> bool:
        """Run one step; False when the module has no such script.

        :param more: arguments after those of the contract.
        :raises ScriptFailed: it exited with a status other than 0, or was killed at its time limit.
        """
        if self.user is None:
            return False
        limit = self.user.forcestoptimeout if step.forced else self.user.nicestoptimeout
        return await self._named(step.name, (*step.arguments, *more), limit)

    async def run_hook(self, name: str, arguments: tuple[str, ...] = ()) -> bool:
        """Run a script that belongs to no change of state; as :meth:`run`."""
        return self.user is not None and await self._named(name, arguments, self.user.nicestoptimeout)

    async def capture(self, name: str, arguments: tuple[str, ...] = ()) -> str | None:
        """What a script that belongs to no change of state prints; None when the module has none of that name.

        :raises ScriptFailed: as :meth:`run`.
        """
        if self.user is None or self.find(name) is None:
            return None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as output:
            await self._into(output, name, arguments, CAPTURE_LIMIT, CAPTURED)
            output.seek(0)
            return output.read(CAPTURED).decode("utf-8", "replace")

    async def _named(self, name: str, arguments: tuple[str, ...], limit: float) -> bool:
        if self.user is None or self.find(name) is None:
            return False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        kept = self.user.logging == "userlog"
        with os.fdopen(open_log(self.log if kept else Path(os.devnull)), "ab") as output:
            await self._into(output, name, arguments, limit)
        return True

    async def _into(
        self, output: IO[bytes], name: str, arguments: tuple[str, ...], limit: float, largest: int = 0
    ) -> None:
        path = self.find(name)
        assert path is not None
        assert self.user is not None
        refuse_if_unsafe(path)
        env = environment(self.name, self.paths, self.user)
        began, failed = time.monotonic(), True  # as one that is ended meanwhile
        try:
            status = await self._run(path, arguments, env, output, limit, largest)
            failed = bool(status is None or (status and not (largest and status == -signal.SIGXFSZ)))
        finally:
            self.tally.ran(name, time.monotonic() - began, failed=failed)
        if status is None:
            raise ScriptFailed(
                Problem(
                    "script.timeout",
                    f"{name} did not end in {limit:g} s; its process group was killed",
                    "see the user log; nicestoptimeout and forcestoptimeout of <user> set the limit",
                )
            )
        if status and not (largest and status == -signal.SIGXFSZ):  # it said more than is shown
            raise ScriptFailed(
                Problem("script.failed", f"{name} ended with status {status}", f"see the user log {self.log}")
            )

    async def _run(
        self,
        path: Path,
        arguments: tuple[str, ...],
        env: Mapping[str, str],
        output: IO[bytes],
        limit: float,
        largest: int,
    ) -> int | None:
        try:
            process = await asyncio.create_subprocess_exec(
                str(path),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(env),
                cwd=self.paths.module_var(self.name),
                start_new_session=True,
            )
        except OSError as error:
            raise ScriptFailed(
                Problem(
                    "script.not-executable",
                    f"{path} cannot be run: {error.strerror}",
                    "it needs mode 0755 and a first line such as #!/bin/sh",
                )
            ) from error
        self._group = process.pid
        if largest:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest, largest))
        try:
            return await self._wait(process, limit)
        finally:
            self._group = 0

    async def _wait(self, process: asyncio.subprocess.Process, limit: float) -> int | None:
        end = asyncio.create_task(process.wait())
        clock = asyncio.get_running_loop().time
        deadline = clock() + limit
        try:
            while not end.done() and (left := deadline - clock()) > 0:
                await asyncio.wait((end,), timeout=min(LOOK, left))
                self._bound()
            if end.done():
                return end.result()
            self.kill(signal.SIGTERM)
            await asyncio.wait((end,), timeout=GRACE)
            return None
        finally:
            # When it failed, what it started is of no use; a script that succeeded left a service behind.
            if not end.done() or end.result():
                self.kill(signal.SIGKILL)
            await end
            self._bound()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the script that runs now, with its process group."""
        if self._group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, number)

    def _bound(self) -> None:
        if self.user is not None:
            turn_over(self.log, self.user.userlogsize)
