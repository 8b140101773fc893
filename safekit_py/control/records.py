"""The API's documents of what is remembered: events, changes of resources, commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from safekit_py.control.routing import said
from safekit_py.model.event import Event
from safekit_py.runtime.clock import readable
from safekit_py.runtime.commandlog import Ordered
from safekit_py.runtime.store import Change


@dataclass(kw_only=True, slots=True)
class EventItem:
    """One event of a module."""

    number: int = said("rises by one with each event of the module")
    time: float = said("seconds since the epoch")
    when: str = said("the same, in the server's local time")
    module: str
    severity: str = said("C, E, W, I or D")
    source: str
    message: str
    kind: str = said("log, state, resource, config or command")
    data: dict[str, str] = said("the same for programs", {})

    @classmethod
    def of(cls, number: int, event: Event) -> Self:
        """The document of an event."""
        return cls(number=number, when=readable(event.time), **event.as_dict())


@dataclass(kw_only=True, slots=True)
class ChangeItem:
    """A resource took a value."""

    number: int
    time: float = said("seconds since the epoch")
    when: str = said("the same, in the server's local time")
    name: str
    value: str
    before: str
    cause: str

    @classmethod
    def of(cls, change: Change) -> Self:
        """The document of a change."""
        return cls(when=readable(change.time), **change.as_dict())


@dataclass(kw_only=True, slots=True)
class OrderedItem:
    """A command that somebody gave."""

    number: int
    time: float = said("seconds since the epoch")
    when: str = said("the same, in the server's local time")
    command: str
    module: str
    arguments: str = said("secrets are masked")
    user: str = said("whom the kernel names, and who logged in when that is somebody else")
    uid: int
    program: str = said("a hint: the caller's name and its parent's")
    identity: str = said("what -i said")
    result: str = said("ok, running, or refused with a code")

    @classmethod
    def of(cls, number: int, ordered: Ordered) -> Self:
        """The document of a command."""
        return cls(number=number, when=readable(ordered.time), **ordered.as_dict())


@dataclass(kw_only=True, slots=True)
class Cleaned:
    """What was cleaned."""

    done: list[str] = said("log, resource, process")
    processes: list[str] = said("pid and name of each process that was ended", [])


@dataclass(kw_only=True, slots=True)
class Process:
    """A process of the agent."""

    pid: int
    version: str = said("of safekit_py; empty of a process that is to come", "")


@dataclass(kw_only=True, slots=True)
class Dump:
    """What the agent is doing, for support."""

    version: str
    uptime: float = said("seconds since the agent's process was started")
    memory: int = said("KiB")
    tasks: list[str] = said("each task of the event loop, and where it stands")
    threads: list[str] = said("each thread, and where it stands")
