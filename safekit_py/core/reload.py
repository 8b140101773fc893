"""Which changes of a configuration a running module can take. Pure.

Invariant: ``differences`` is empty if and only if nothing that acts differs; a difference is ``live`` if and only if it
lies in a part that may change while the application runs (``LIVE`` and below ``check``), so a change without another
difference than live ones leaves the module's type, its addresses and its group exactly as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from safekit_py.model.config import ModuleConfig

LIVE_SERVICE = ("boot", "boot_delay", "maxloop", "loop_interval", "automatic_reboot")
LIVE_ELEMENTS = ("errd",)
LIVE_BELOW = "check/"
LIVE_FIELDS = {"rfs": ("bandwidth",)}
"""Attributes of values whose elements otherwise need a stop: ``Roles.reconfigured`` takes them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One part that differs.

    :param part: as a person finds it in the file: ``<tcp>``, ``maxloop of <service>``.
    :param what: ``changed``, ``added`` or ``removed``.
    :param live: whether a running module can take it.
    """

    part: str
    what: str
    live: bool

    def __str__(self) -> str:
        return f"{self.part} {self.what}"


def differences(old: ModuleConfig, new: ModuleConfig) -> tuple[Difference, ...]:
    """What differs between two configurations, in the order of the file's parts."""
    found = _service(old, new)
    if old.user != new.user:
        found.append(Difference("<user>", _what(old.user is not None, new.user is not None), True))
    if old.failover != new.failover:
        found.append(Difference("<failover>", "changed", True))  # rules are pure: the next look takes the new ones
    before, after = dict(old.elements), dict(new.elements)
    for path in dict.fromkeys((*before, *after)):
        one, other = before.get(path, ()), after.get(path, ())
        if one != other:
            part = f"<{path.rpartition('/')[2]}>"
            found.append(Difference(part, _what(bool(one), bool(other)), _live(path, one, other)))
    return tuple(found)


def _service(old: ModuleConfig, new: ModuleConfig) -> list[Difference]:
    names = [each.name for each in fields(old.service)]
    changed = [name for name in names if getattr(old.service, name) != getattr(new.service, name)]
    return [Difference(f"{name} of <service>", "changed", name in LIVE_SERVICE) for name in changed]


def _what(before: bool, after: bool) -> str:
    return "changed" if before and after else "added" if after else "removed"


def _live(path: str, one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    if path in LIVE_ELEMENTS or path.startswith(LIVE_BELOW):
        return True
    names = LIVE_FIELDS.get(path)
    if names is None or len(one) != len(other):
        return False
    return all(_without(a, names, b) == b for a, b in zip(one, other, strict=True))


def _without(value: Any, names: tuple[str, ...], other: Any) -> Any:
    """A value with these of its attributes as another has them."""
    if not is_dataclass(value) or isinstance(value, type) or type(value) is not type(other):
        return value
    free = [each.name for each in fields(value) if each.name in names]
    return replace(value, **{name: getattr(other, name) for name in free})


def words(found: tuple[Difference, ...]) -> str:
    """Differences as one phrase."""
    return ", ".join(map(str, found)) or "nothing that acts has changed"
