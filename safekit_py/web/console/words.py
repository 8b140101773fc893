"""SafeKit's words and colours for states, and what can be done with a module. Pure."""

from __future__ import annotations

from typing import Any

from safekit_py.core import meaning as meanings

COLOURS = {"Ready": "ready", "Transient": "transient", "NotReady": "notready"}
# Verb, word on the button, whether it interrupts service and is asked back.
ALWAYS = (
    ("start", "Start", False),
    ("stop", "Stop", True),
    ("restart", "Restart", True),
    ("stopstart", "Stop and start", True),
)
ROLES = (("prim", "Make primary", True), ("second", "Make secondary", True), ("swap", "Swap roles", True))
FORCE = (("forcestop", "Stop at once", True),)
UNITS = ("B", "kB", "MB", "GB", "TB")


def colour(module: dict[str, Any] | None) -> str:
    """The class of a state's colour: green, orange or red, and grey for none."""
    if module is None:
        return "absent"
    return COLOURS.get(module["readiness"], "notready")


def meaning(module: dict[str, Any]) -> str:
    """What a state means, or why it is so."""
    return str(module["reason"] or meanings.of(module["mode"], module["state"], module["readiness"]))


def actions(module: dict[str, Any] | None) -> list[tuple[str, str, bool]]:
    """What may be done with a module in its present state."""
    if module is None or module["state"] == "NOT_CONFIGURED":
        return []
    stopped = module["state"] == "STOP"
    found = [each for each in ALWAYS if (each[0] == "start") == stopped]
    if module["mode"] == "mirror":
        wanted = ("prim", "second") if stopped else ("swap",)
        found += [each for each in ROLES if each[0] in wanted]
    return found if stopped else [*found, *FORCE]


def duration(seconds: float) -> str:
    """In the largest unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def ago(seconds: float | None) -> str:
    """A duration, or a dash."""
    return "-" if seconds is None else duration(seconds)


def size(count: float) -> str:
    """Bytes in the largest unit that fits."""
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""
