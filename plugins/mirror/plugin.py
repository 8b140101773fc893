"""What the mirror contributes besides its elements: the module type, and the checkers of its virtual addresses."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import CheckerType, Metric, ModuleContext, ModuleType, Server, hookimpl

from ..checkers.ip import IpChecker
from ..vip import checks
from . import figures
from .type import MirrorType

MIRROR = MirrorType()


@hookimpl
def safekit_module_types() -> Iterable[ModuleType]:
    """The type ``mirror``."""
    return (MIRROR,)


@hookimpl
def safekit_checkers() -> Iterable[CheckerType]:
    """``check="on"`` of ``<virtual_addr>``: on the primary, and lost only to a machine that is not the other server."""
    return (CheckerType("mirror_addr", _addresses),)


@hookimpl
def safekit_metrics(server: Server) -> Iterable[Metric]:
    """Replication."""
    handles = [server.module(name) for name in server.modules()]
    return figures.metrics({each.name: each.report() for each in handles if each.status()["mode"] == MIRROR.name})


def _addresses(context: ModuleContext) -> Iterable[IpChecker]:
    if context.config.service.mode != MIRROR.name:
        return ()
    return checks.addresses(context, dict, "mirror")
