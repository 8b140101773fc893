"""What the farm contributes: its elements, the module type, and the checkers of its interfaces and addresses."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import CheckerType, Element, ModuleType, hookimpl

from . import checks, elements
from .type import FarmType

FARM = FarmType()  # one for the process: its modules share the heartbeat thread


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<farm>`` and ``<vip>``."""
    return elements.ELEMENTS


@hookimpl
def safekit_module_types() -> Iterable[ModuleType]:
    """The type ``farm``."""
    return (FARM,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """``check="on"`` of ``<interface>`` and of ``<virtual_addr>``."""
    return (
        CheckerType("interface", checks.interfaces),
        CheckerType("virtual_addr", lambda context: checks.addresses(context, lambda: FARM.macs(context.name))),
    )
