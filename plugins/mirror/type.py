"""The module type ``mirror``: what it checks, what it needs, and its runtime."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from safekit_py.api import Cluster, ModuleConfig, ModuleContext, Problem, State

from ..checkers.splitbrain_element import SplitbrainCheck
from ..vip.model import Vip
from . import check
from .address import Addresses
from .heart import make as make_heart
from .model import Heart, Rfs, Witness
from .nodata import NoData
from .runtime import MirrorRuntime
from .seams import Engine, WitnessClient
from .volume.block import BlockEngine
from .witness.client import make as make_witness
from .witness.ping import PingWitness

NEEDED = {"mount": "mount", "losetup": "mount"}
FILE_SYSTEMS = {
    "ext4": {"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs"},
    "xfs": {"mkfs.xfs": "xfsprogs", "xfs_growfs": "xfsprogs"},
}


class EngineMaker(Protocol):
    """Makes the replication engine of a module."""

    def __call__(self, context: ModuleContext, rfs: Rfs) -> Engine:
        """Constructing it changes nothing."""


ENGINES: dict[str, EngineMaker] = {"block": BlockEngine}
"""By the value of ``<rfs engine>``; a plugin may add its own before a module is configured."""


class MirrorType:
    """One primary runs the application, one secondary has its data."""

    name = "mirror"
    goal = State.ALONE
    roles = True

    def check(self, config: ModuleConfig, cluster: Cluster | None) -> Iterable[Problem]:
        """What the schema cannot see."""
        rfs: Rfs | None = config.one("rfs")
        if rfs is not None and rfs.engine not in ENGINES:
            known = ", ".join(sorted(ENGINES))
            yield Problem("rfs.unknown-engine", f"no engine is called {rfs.engine}", f"one of: {known}")
        yield from check.problems(config, cluster)

    def requirements(self, config: ModuleConfig) -> Iterable[Problem]:
        """What replication needs of this server."""
        rfs: Rfs | None = config.one("rfs")
        if rfs is None or not rfs.replicated:
            return
        for device in ("/dev/fuse", "/dev/loop-control"):
            if not Path(device).exists():
                text = f"this server has no {device}"
                yield Problem("rfs.no-device", text, "load the kernel's modules fuse and loop: modprobe fuse loop")
        kinds = {each.filesystem for each in rfs.replicated}
        needed = NEEDED | {name: package for kind in sorted(kinds) for name, package in FILE_SYSTEMS[kind].items()}
        for program, package in needed.items():
            if shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
                yield Problem("rfs.no-program", f"the program {program} is missing", f"apt-get install {package}")

    def runtime(self, context: ModuleContext) -> MirrorRuntime:
        """One mirror module at work."""
        rfs: Rfs | None = context.config.one("rfs")
        heart: Heart | None = context.config.one("heart")
        assert heart is not None, "check refuses a module without <heart>"
        witness: Witness | None = context.config.one("heart/witness")
        vip: Vip = context.config.one("vip") or Vip()
        engine = NoData() if rfs is None or not rfs.replicated else ENGINES[rfs.engine](context, rfs)
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
