"""What is watched of an application's processes, and what is decided about a look at them. Nothing is done here.

Flows through it: processes in, a verdict, the processes whose end matters, and the time of the next action out.

Invariants, held by tests/unit/plugins/checkers/errd/test_model.py:

- as long as none of the processes that ``vital`` names has ended, at least ``atleast`` of those seen are there: to be
  told of their ends is enough to see at once when too few are left;
- between two actions for one failure lies at least ``polltimer``;
- of the looks that follow from events, at most ``2 * BURST`` fall within any ``SPAN`` seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from safekit_py.api import Status

LONGEST = 15  # bytes of a process name that the kernel keeps
ACTIONS = ("restart", "stopstart", "stop", "noaction")  # every other word is a script of the module
MOST = 256  # processes of one <proc> whose end is awaited: each costs a file descriptor
BURST, SPAN = 10, 2.0  # see Pace


@dataclass(frozen=True, slots=True)
class Proc:
    """``<proc>``: one process or service to watch.

    :param name: of the resource ``proc.<name>``; the kernel's name of the process, or a unit of systemd.
    :param service: ask systemd for a unit of that name.
    :param nameregex: instead of ``name``, what the kernel's name of the process must contain.
    :param argregex: what the command line must contain.
    :param atleast: the least number of such processes.
    :param atmost: the greatest; -1 for any.
    :param action: ``restart``, ``stopstart``, ``stop``, ``noaction``, or a script of the module's bin.
    :param services: what the scripts get after ``-Services`` when ``action`` is ``restart``.
    :param when: ``prim``, ``both``, ``pre``, ``second`` or ``custom``.
    :param start_after: the look, counted from 1, that is the first to be judged.
    """

    name: str
    service: bool = False
    nameregex: str = ""
    argregex: str = ""
    atleast: int = 1
    atmost: int = -1
    action: str = "stopstart"
    services: tuple[str, ...] = ()
    when: str = "both"
    start_after: int = 1

    @property
    def handler(self) -> str:
        """The script of the module that is the action, or empty."""
        return "" if self.action in ACTIONS else self.action

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the scripts get after the arguments of the contract."""
        return ("-Services", ", ".join(self.services)) if self.services and self.action == "restart" else ()


@dataclass(frozen=True, slots=True)
class Errd:
    """``<errd>``: the processes to watch.

    :param polltimer: seconds between two looks.
    """

    polltimer: float = 30.0
    procs: tuple[Proc, ...] = ()


class Process(NamedTuple):
    """One process that runs.

    :param started: seconds; greater for a later start. With ``pid`` it names the process for good.
    :param name: the kernel's name of it, at most 15 bytes.
    :param command: its whole command line; empty where nobody asked for it.
    """

    started: float
    pid: int
    name: str
    command: str = ""


class Verdict(NamedTuple):
    """What a look says: the resource's value, and why."""

    status: Status
    cause: str


class Unit(NamedTuple):
    """What systemd says of a service: its words LoadState, ActiveState and SubState, and the main process or 0."""

    load: str
    active: str
    sub: str
    pid: int = 0


class Matcher:
    """Finds the processes of a ``<proc>``."""

    def __init__(self, proc: Proc) -> None:
        self._name = proc.name
        self._by_name = re.compile(proc.nameregex) if proc.nameregex else None
        self._by_command = re.compile(proc.argregex) if proc.argregex else None

    @property
    def commands(self) -> bool:
        """Whether it needs the processes' command lines."""
        return self._by_command is not None

    def find(self, processes: Iterable[Process]) -> list[Process]:
        """Those that match, the oldest first."""
        return sorted(each for each in processes if self._matches(each))

    def _matches(self, process: Process) -> bool:
        named = self._by_name.search(process.name) if self._by_name else process.name == self._name
        return bool(named) and (self._by_command is None or bool(self._by_command.search(process.command)))


def vital(proc: Proc, found: list[Process]) -> list[Process]:
    """Of the processes found, oldest first, those whose end must be seen at once.

    Of ``atleast + 1`` processes two must end before too few are left, so the end of one of any ``atleast`` comes
    first or is that moment. The oldest are taken: workers come and go, the process that made them stays.
    """
    return found[: min(proc.atleast, MOST)]


def judge(proc: Proc, count: int) -> Verdict:
    """Whether that number of processes is right."""
    runs = f"{count or 'no'} process{'es' if count > 1 else ''} {proc.name} {'run' if count > 1 else 'runs'}"
    if count < proc.atleast:
        return Verdict(Status.DOWN, f"{runs}, and at least {proc.atleast} must")
    if 0 <= proc.atmost < count:
        return Verdict(Status.DOWN, f"{runs}, and at most {proc.atmost} may")
    return Verdict(Status.UP, runs)


def judge_unit(proc: Proc, unit: Unit) -> Verdict:
    """Whether a service runs; ``init`` while it starts."""
    if unit.load == "not-found":
        return Verdict(Status.DOWN, f"systemd knows no unit {proc.name}")
    if unit.load == "masked":
        return Verdict(Status.DOWN, f"the unit {proc.name} is masked")
    if unit.active in ("active", "reloading", "refreshing"):
        return Verdict(Status.UP, f"the service {proc.name} is {unit.active} ({unit.sub})")
    if unit.active == "activating" and unit.sub != "auto-restart":
        return Verdict(Status.INIT, f"the service {proc.name} starts ({unit.sub})")
    return Verdict(Status.DOWN, f"the service {proc.name} is {unit.active} ({unit.sub})")


def act(acted: float | None, now: float, polltimer: float) -> bool:
    """Whether an action is due for a resource that is down.

    :param acted: when the last one for this failure was asked for; None when there was none.
    """
    return acted is None or now - acted >= polltimer


@dataclass(slots=True)
class Pace:
    """Keeps events from making a server busy with looking: processes that end all the time cost a look each.

    The first ``BURST`` within ``SPAN`` seconds are looked at without delay, then there is a pause of ``SPAN`` seconds.
    """

    began: float = float("-inf")
    count: int = 0

    def delay(self, now: float) -> float:
        """Seconds to wait before the look that an event at ``now`` asks for."""
        if now >= self.began + SPAN:
            self.began, self.count = now, 0
        self.count += 1
        if self.count <= BURST:
            return 0.0
        self.began, self.count = now + SPAN, 1
        return SPAN
