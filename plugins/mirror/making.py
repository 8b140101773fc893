"""Puts the parts of a mirror module together, out of its configuration.

It imports all that a mirror needs; ``type`` imports it with the first module of the kind, so that a server without one
does not have the code in memory.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from safekit_py.api import ModuleContext

from ..checkers.splitbrain_element import SplitbrainCheck
from ..vip.model import Vip
from .address import Addresses
from .heart import make as make_heart
from .model import Heart, Rfs, Witness
from .nodata import NoData
from .runtime import MirrorRuntime
from .seams import Engine, WitnessClient
from .witness.client import make as make_witness
from .witness.ping import PingWitness


class EngineMaker(Protocol):
    """Makes the replication engine of a module."""

    def __call__(self, context: ModuleContext, rfs: Rfs) -> Engine:
        """Constructing it changes nothing."""


def runtime(context: ModuleContext, engines: dict[str, EngineMaker]) -> MirrorRuntime:
    """One mirror module at work.

    :param engines: by the value of ``<rfs engine>``.
    """
    rfs: Rfs | None = context.config.one("rfs")
    heart: Heart | None = context.config.one("heart")
    assert heart is not None, "check refuses a module without <heart>"
    witness: Witness | None = context.config.one("heart/witness")
    vip: Vip = context.config.one("vip") or Vip()
    engine = NoData() if rfs is None or not rfs.replicated else engines[rfs.engine](context, rfs)
    return MirrorRuntime(
        context,
        engine=engine,
        heart=partial(make_heart, context, heart),
        addresses=Addresses(context, vip),
        witness=_witness(context, witness),
        witness_lease=witness.lease if witness is not None else 0.0,
    )


def _witness(context: ModuleContext, witness: Witness | None) -> WitnessClient | None:
    """What decides between two servers that have lost each other: a lease where there is one, else an echo."""
    if witness is not None:
        return make_witness(context, witness)
    check: SplitbrainCheck | None = context.config.one("check/splitbrain")
    return PingWitness(check) if check is not None else None
