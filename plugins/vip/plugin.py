"""What every mode with virtual addresses has: ``<vip>``, and the checkers of its interfaces."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import CheckerType, Element, hookimpl

from . import checks
from .counting import counted


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<vip>``."""
    from . import elements  # noqa: PLC0415 - only the child that reads a configuration needs them

    return elements.ELEMENTS


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """``check="on"`` of ``<interface>``, ``connections="on"`` of ``<virtual_addr>``."""
    return (CheckerType("interface", checks.interfaces), CheckerType("connections", counted))
