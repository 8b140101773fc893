"""The API's documents of what is remembered: events, changes of resources, commands."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from safekit_py.model.event import Event
from safekit_py.runtime.clock import readable
from safekit_py.runtime.commandlog import Ordered
from safekit_py.runtime.store import Change


class EventItem(BaseModel):
    """One event of a module."""

    number: int = Field(description="rises by one with each event of the module")
    time: float = Field(description="seconds since the epoch")
    when: str = Field(description="the same, in the server's local time")
    module: str
    severity: str = Field(description="C, E, W, I or D")
    source: str
    message: str
    kind: str = Field(description="log, state, resource, config or command")
    data: dict[str, str] = Field(default={}, description="the same for programs")

    @classmethod
    def of(cls, number: int, event: Event) -> Self:
        """The document of an event."""
        return cls(number=number, when=readable(event.time), **event.as_dict())


class ChangeItem(BaseModel):
    """A resource took a value."""

    number: int
    time: float = Field(description="seconds since the epoch")
    when: str = Field(description="the same, in the server's local time")
    name: str
    value: str
    before: str
    cause: str

    @classmethod
    def of(cls, change: Change) -> Self:
        """The document of a change."""
        return cls(when=readable(change.time), **change.as_dict())


class OrderedItem(BaseModel):
    """A command that somebody gave."""

    number: int
    time: float = Field(description="seconds since the epoch")
    when: str = Field(description="the same, in the server's local time")
    command: str
    module: str
    arguments: str = Field(description="secrets are masked")
    user: str = Field(description="whom the kernel names, and who logged in when that is somebody else")
    uid: int
    program: str = Field(description="a hint: the caller's name and its parent's")
    identity: str = Field(description="what -i said")
    result: str = Field(description="ok, running, or refused with a code")

    @classmethod
    def of(cls, number: int, ordered: Ordered) -> Self:
        """The document of a command."""
        return cls(number=number, when=readable(ordered.time), **ordered.as_dict())


class Cleaned(BaseModel):
    """What was cleaned."""

    done: list[str] = Field(description="log, resource, process")
    processes: list[str] = Field(default=[], description="pid and name of each process that was ended")


class Dump(BaseModel):
    """What the agent is doing, for support."""

    version: str
    uptime: float = Field(description="seconds since the agent's process was started")
    memory: int = Field(description="KiB")
    tasks: list[str] = Field(description="each task of the event loop, and where it stands")
    threads: list[str] = Field(description="each thread, and where it stands")
