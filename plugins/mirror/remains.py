"""What a mirror module leaves to the process that goes on in its agent's place.

Flows through it: the values of a runtime in, bytes out, and back. The data are not among them: keeper and worker go on,
with the lease that the earlier process gave last, and are found by their sockets.

Invariants, held by tests/unit/plugins/mirror/test_remains.py: the next process knows of itself, of the other server and
of the witness all that decisions look at; when a field of what is left changes, so does ``MirrorType.lasts``.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from safekit_py.api import Readiness, State

from .lease import Held
from .mind import Thoughts
from .roles import Decision
from .situation import Situation


@dataclass(frozen=True, slots=True)
class Standing:
    """Attributes of ``MirrorRuntime``, by their names there."""

    state: State
    readiness: Readiness
    reason: str
    wish: str
    swaps: int
    fullsync: bool
    frozen: bool
    fenced: bool
    connected: bool
    failing: bool
    refused: bool
    unfit: str
    leaving: bool
    fenced_at: int
    lost_at: int
    claim: int
    yields: int
    outdated_for: str
    began: State | None
    decided: Decision | None
    new: str
    peer: Situation | None
    said: str

    @classmethod
    def of(cls, module: object) -> Standing:
        """As they are now."""
        return cls(**{each.name: getattr(module, each.name) for each in fields(cls)})

    def restore(self, module: object) -> None:
        """The inverse."""
        for each in fields(self):
            setattr(module, each.name, getattr(self, each.name))


@dataclass(frozen=True, slots=True)
class Remains:
    """Of one module that has a role.

    :param until: CLOCK_BOOTTIME nanoseconds until which the volume was told that it may acknowledge.
    :param here: whether the virtual addresses are on this server.
    :param engine: what the replication engine left, plain values.
    """

    standing: Standing
    thoughts: Thoughts
    held: Held
    until: int
    here: bool
    engine: Mapping[str, Any]

    def packed(self) -> bytes:
        """As bytes."""
        return pickle.dumps(self)

    @staticmethod
    def unpacked(data: bytes) -> Remains:
        """The inverse, of bytes that another process of the same ``lasts`` has made."""
        found = pickle.loads(data)  # noqa: S301 - from the agent that has started this process
        assert isinstance(found, Remains), "the formats were compared before"
        return found
