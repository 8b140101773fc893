"""Asks a short-lived process to check configurations, so that the agent never holds an XML library or a schema."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekit_py.config.checked import Checked, CheckedCluster
from safekit_py.errors import Problem, SystemProblem
from safekit_py.model.config import Cluster
from safekit_py.runtime import plugindir, plugins
from safekit_py.runtime.plugins import TRACE

TIMEOUT = 60.0  # seconds
ALONE = 2  # processes at a time, when each file has to be checked by itself
COMMAND = (sys.executable, "-m", "safekit_py.runtime.configchild")


@dataclass(frozen=True, slots=True)
class Request:
    """One file to check.

    :param path: the file; its name in the problems unless ``name`` is given.
    :param data: its bytes, where the caller has them; nothing is read then.
    :param cluster: a cluster.xml, not a userconfig.xml.
    :param macros: values that win over those of the file.
    """

    path: str = ""
    label: str = ""
    data: bytes | None = None
    cluster: bool = False
    macros: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What the problems call the file."""
        return self.label or self.path


async def check_in_child(requests: Sequence[Request]) -> list[Any]:
    """Check several files in one process.

    :return: a ``Checked`` or ``CheckedCluster`` for each request.
    :raises SystemProblem: the process failed.
    """
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            out, err = await process.communicate(pickle.dumps(list(requests)))
    except TimeoutError:
        raise _failure(f"took more than {TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _outcome(process.returncode or 0, out, err)


def _outcome(code: int, out: bytes, err: bytes) -> list[Any]:
    if code:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {code}"]
        raise _failure(last[0])
    if os.environ.get(TRACE):
        sys.stderr.write(err.decode("utf-8", "replace"))
    return [_Unpickler(io.BytesIO(each)).load() for each in pickle.loads(out)]  # noqa: S301 - from our own child


class _Unpickler(pickle.Unpickler):
    """Finds the classes of plugins that are single files, where this process has not loaded them."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        plugindir.ensure(plugins.folder(), module_name)
        return super().find_class(module_name, global_name)


def _failure(why: str) -> SystemProblem:
    message = f"The process that checks configurations failed: {why}"
    return SystemProblem(
        Problem("config.check-failed", message, "see the agent's log; safekit-py plugins may tell more")
    )


def check_blocking(data: bytes, file: str, macros: Mapping[str, str]) -> Checked:
    """Check a userconfig.xml from a thread or a command: bytes, the file's name, overriding macros."""
    request = Request(label=file, data=data, macros=tuple(macros.items()))
    try:
        done = subprocess.run(COMMAND, input=pickle.dumps([request]), capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise _failure(f"took more than {TIMEOUT:g} s") from None
    checked: Checked = _outcome(done.returncode, done.stdout, done.stderr)[0]
    return checked


async def check_modules(paths: Sequence[Path]) -> list[Checked]:
    """Check the userconfig.xml of several installed modules, in one process; in one for each if that one fails."""
    requests = [Request(str(path)) for path in paths]
    if not requests:
        return []
    try:
        return await check_in_child(requests)
    except SystemProblem as error:
        if len(requests) == 1:
            return [Checked(None, error.problems)]
    # One of the files, or a plugin at it, ended the process: the others are not to suffer.
    turn = asyncio.Semaphore(ALONE)

    async def alone(path: Path) -> Checked:
        async with turn:
            return (await check_modules([path]))[0]

    return list(await asyncio.gather(*map(alone, paths)))


async def check_cluster(path: Path) -> tuple[Cluster | None, tuple[Problem, ...]]:
    """Check the cluster.xml of this server: the cluster or None, and the problems."""
    return await _cluster(Request(str(path), cluster=True))


async def check_cluster_bytes(data: bytes, file: str = "cluster.xml") -> tuple[Cluster | None, tuple[Problem, ...]]:
    """Check a cluster.xml that is not stored yet."""
    return await _cluster(Request(label=file, data=data, cluster=True))


async def _cluster(request: Request) -> tuple[Cluster | None, tuple[Problem, ...]]:
    checked: CheckedCluster = (await check_in_child([request]))[0]
    return checked.cluster, checked.problems
