"""The module type ``mirror``: what it checks, what it needs, and its runtime."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from safekit_py.api import Cluster, ModuleConfig, ModuleContext, Problem, State

from . import check
from .model import Rfs

if TYPE_CHECKING:
    from .making import EngineMaker
    from .runtime import MirrorRuntime
    from .seams import Engine

NEEDED = {"mount": "mount", "losetup": "mount"}
FILE_SYSTEMS = {
    "ext4": {"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs"},
    "xfs": {"mkfs.xfs": "xfsprogs", "xfs_growfs": "xfsprogs"},
}


def _block(context: ModuleContext, rfs: Rfs) -> Engine:
    from .volume.block import BlockEngine  # noqa: PLC0415 - see making.py

    return BlockEngine(context, rfs)


ENGINES: dict[str, EngineMaker] = {"block": _block}
"""By the value of ``<rfs engine>``; a plugin may add its own before a module is configured."""


class MirrorType:
    """One primary runs the application, one secondary has its data."""

    name = "mirror"
    goal = State.ALONE
    roles = True
    lasts = "1"  # of what remains.py holds, which is not imported here: see making.py

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
        from .making import runtime  # noqa: PLC0415 - see there

        return runtime(context, ENGINES)
