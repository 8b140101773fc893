"""What ``status`` says of a mirror in sentences. Pure.

Flows through it: the role, what the engine reports of the data, and the witness's words in; lines for people out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safekit_py.api import State

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def notes(state: State, engine: Mapping[str, Any], witness: str, *, same: bool) -> list[str]:
    """The lines.

    :param same: both servers have the same data and keep them the same.
    """
    if state not in (State.PRIM, State.ALONE, State.SECOND):
        return []
    found = []
    if progress := engine.get("resynchronisation"):
        found.append(f"resynchronisation: {progressed(progress)}")
    elif state is State.ALONE:
        found.append("data: on this server only, until the other one is back")
    elif not same:
        found.append("data: the other server's are awaited")
    elif promise := engine.get("promise"):
        found.append(f"data: {promise}")
    found.append(f"witness: {witness}")
    if count := engine.get("restarts"):
        found.append(f"volume process: started again after its death, so far {count} x; see volume.log")
    if engine.get("resends") is False:
        found.append("volume process: must not die, this Linux is older than 6.9; see docs/mirror.md")
    return found


def progressed(progress: Mapping[str, Any]) -> str:
    """How far a resynchronisation has come."""
    left = progress.get("left")
    text = f"{size(progress['compared'])} of {size(progress['total'])} compared, {size(progress['sent'])} sent"
    return f"{text}, {size(progress['rate'])}/s" + (f", {left:.0f} s left" if left is not None else "")


def size(count: float) -> str:
    """Bytes at a glance: ``512 B``, ``3.5 GiB``."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
