"""What a server of a mirror says of itself in each heartbeat, as plain JSON values, and what is read from it.

Pure. What the other server sends is authentic but may come from another version: a value that cannot be read counts as
the least that it could mean, and a generation that cannot be read as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safekit_py.api import Readiness, State

from .generation import Generation
from .roles import Side

MAX_RESOURCES = 200


@dataclass(frozen=True, slots=True)
class Situation:
    """One server's whole situation.

    :param side: what the decisions look at.
    :param swap: the number of the last exchange of roles that this server asked for.
    :param resources: name and value; rules know them as ``remote.class.id``.
    :param reason: why it is in its state, for people.
    :param version: of the program.
    """

    side: Side
    swap: int = 0
    resources: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    version: str = ""

    def words(self) -> dict[str, Any]:
        """As JSON values."""
        side = self.side
        return {
            "state": side.state.value,
            "readiness": side.readiness.value,
            "generation": side.generation.as_dict(),
            "frozen": side.frozen,
            "connected": side.connected,
            "leaving": side.leaving,
            "outdated_for": side.outdated_for,
            "claim": side.claim,
            "yields": side.yields,
            "began": side.began.value if side.began else "",
            "wish": side.wish,
            "swap": self.swap,
            "resources": dict(self.resources[:MAX_RESOURCES]),
            "reason": self.reason[:500],
            "version": self.version,
        }


def read(words: Mapping[str, Any], node: int) -> Situation:
    """The situation out of what the server of that number said."""
    began = str(words.get("began") or "")
    resources = words.get("resources")
    side = Side(
        node=node,
        state=_state(words.get("state")) or State.STOP,
        readiness=_readiness(words.get("readiness")),
        generation=_generation(words.get("generation")),
        heard=True,
        frozen=words.get("frozen") is True,
        connected=words.get("connected") is True,
        leaving=words.get("leaving") is True,
        outdated_for=str(words.get("outdated_for") or ""),
        claim=_number(words.get("claim")),
        yields=_number(words.get("yields")),
        began=_state(began),
        wish=str(words.get("wish") or ""),
    )
    return Situation(
        side,
        _number(words.get("swap")),
        tuple((str(k), str(v)) for k, v in resources.items()) if isinstance(resources, Mapping) else (),
        str(words.get("reason") or ""),
        str(words.get("version") or ""),
    )


def _state(value: object) -> State | None:
    return State(value) if isinstance(value, str) and value in State.__members__ else None


def _readiness(value: object) -> Readiness:
    return next((each for each in Readiness if each.value == value), Readiness.NOT_READY)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64 else 0


def _generation(value: object) -> Generation:
    if not isinstance(value, Mapping):
        return Generation()
    try:
        return Generation.from_dict(value)
    except Exception:  # whatever it is, it is no generation of ours
        return Generation()
