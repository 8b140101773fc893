"""What the mirror contributes: its elements, the module type, and the checkers of its interfaces and addresses."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import Element, ModuleType, hookimpl

from . import elements
from .type import MirrorType

MIRROR = MirrorType()


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<heart>`` and ``<rfs>``."""
    return elements.ELEMENTS


@hookimpl
def safekit_module_types() -> Iterable[ModuleType]:
    """The type ``mirror``."""
    return (MIRROR,)
