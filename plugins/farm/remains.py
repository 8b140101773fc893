"""What a farm module leaves to the process that goes on in its agent's place.

Flows through it: the values of a runtime in, bytes out, and back. The filter is not among them: it stays in the kernel,
with its tables, its gate and its lease, and is found by its pins.

Invariant, held by tests/unit/plugins/farm/test_remains.py: when a field of what is left changes, so does ``FORMAT``.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass

from safekit_py.api import Left, View

from .history import History
from .placing import Device

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Remains:
    """Of one module that is open.

    :param sources: of which filter.c the filter in the kernel was made.
    """

    group: Left
    view: View | None
    owning: bool
    owned: Mapping[int, int]
    macs: Mapping[int, frozenset[bytes]]
    history: History
    devices: tuple[Device, ...]
    wished: bool
    sources: str

    def packed(self) -> bytes:
        """As bytes."""
        return pickle.dumps(self)

    @staticmethod
    def unpacked(data: bytes) -> Remains:
        """The inverse, of bytes of the same ``FORMAT``."""
        found = pickle.loads(data)  # noqa: S301 - from the agent that has started this process
        assert isinstance(found, Remains), "the formats were compared before"
        return found
