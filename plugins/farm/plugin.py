"""What the farm contributes: its element, the module type, and the checkers of its virtual addresses."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import CheckerType, Element, Metric, ModuleContext, ModuleType, Server, hookimpl

from ..checkers.ip import IpChecker
from ..vip import checks
from . import figures
from .type import FarmType

FARM = FarmType()  # one for the process: its modules share the heartbeat thread


@hookimpl
def safekit_elements() -> Iterable[Element]:
    """``<farm>``."""
    from . import elements  # noqa: PLC0415 - only the child that reads a configuration needs them

    return elements.ELEMENTS


@hookimpl
def safekit_module_types() -> Iterable[ModuleType]:
    """The type ``farm``."""
    return (FARM,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """``check="on"`` of ``<virtual_addr>``."""
    return (CheckerType("virtual_addr", _addresses),)


@hookimpl
def safekit_metrics(server: Server) -> Iterable[Metric]:
    """Shares, members and packets."""
    handles = [server.module(name) for name in server.modules()]
    return figures.metrics({each.name: each.report() for each in handles if each.status()["mode"] == FARM.name})


def _addresses(context: ModuleContext) -> Iterable[IpChecker]:
    if context.config.service.mode != FARM.name:
        return ()
    return checks.addresses(context, lambda: FARM.macs(context.name))
