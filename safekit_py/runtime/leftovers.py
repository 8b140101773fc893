"""Ends what the application of a stopped module left behind: processes that its scripts have started.

A process is the module's when its environment names this module and this server's root. It is held by a pidfd while it
is looked at and signalled, so that a number that the kernel gives to another process meanwhile is never hit.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safekit_py.model.paths import Paths

PROC = Path("/proc")
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
ROUNDS = 3  # a process may start another while it is ended


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was found; ``name`` is its short name."""

    pid: int
    name: str


def marks(module: str, paths: Paths) -> tuple[bytes, bytes]:
    """What stands in the environment of everything that the module's scripts start."""
    return f"SAFEMODULE={module}".encode(), f"SAFEKIT_ROOT={paths.root}".encode()


def find(module: str, paths: Paths, spared: Iterable[int] = ()) -> list[Process]:
    """The module's processes.

    :param spared: pids that are left alone, with all that they descend from: whoever asks may be a script itself.
    """
    wanted, left = marks(module, paths), _families((os.getpid(), *spared))
    numbers = sorted(int(each.name) for each in PROC.iterdir() if each.name.isdigit())
    return [Process(pid, _name(pid)) for pid in numbers if pid not in left and _belongs(pid, wanted)]


def end(module: str, paths: Paths, spared: Iterable[int] = (), grace: float = GRACE) -> list[Process]:
    """End the module's processes: SIGTERM, and SIGKILL for those that are there after ``grace`` seconds.

    :return: those that were ended.
    """
    ended: dict[int, Process] = {}
    for _ in range(ROUNDS):
        found = find(module, paths, spared)
        if not found:
            break
        with contextlib.ExitStack() as stack:
            held: dict[int, int] = {}
            for process in found:
                with contextlib.suppress(OSError):
                    descriptor = os.pidfd_open(process.pid)
                    stack.callback(os.close, descriptor)
                    if _belongs(process.pid, marks(module, paths)):  # looked at again now that it is held
                        held[descriptor] = process.pid
                        ended[process.pid] = process
            _signal(held, signal.SIGTERM)
            _signal(_left(held, grace), signal.SIGKILL)
            _left(held, grace)
    return list(ended.values())


def _signal(held: Iterable[int], number: signal.Signals) -> None:
    for descriptor in held:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


def _left(held: Iterable[int], seconds: float) -> list[int]:
    """Those that are still there after so many seconds; sooner when none is."""
    waiting, deadline = set(held), time.monotonic() + seconds
    poller = select.poll()
    for descriptor in waiting:
        poller.register(descriptor, select.POLLIN)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(left * 1000):
            poller.unregister(descriptor)
            waiting.discard(descriptor)
    return sorted(waiting)


def _belongs(pid: int, wanted: tuple[bytes, bytes]) -> bool:
    try:
        found = set((PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:  # it has ended, or belongs to somebody whom we may not look at
        return False
    return all(each in found for each in wanted)


def _families(pids: Iterable[int]) -> set[int]:
    """These processes and all that they descend from."""
    found: set[int] = set()
    for pid in pids:
        while pid > 0 and pid not in found:
            found.add(pid)
            pid = _parent(pid)  # noqa: PLW2901 - up the family
    return found


def _parent(pid: int) -> int:
    try:
        return int((PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""
