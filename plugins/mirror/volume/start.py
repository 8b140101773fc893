"""What the keeper gives a worker when it starts one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .request import VolumeFile
from .shared import Shared


@dataclass(frozen=True, slots=True)
class Start:
    """A worker is a function ``run(start)`` in a process of its own, forked from the keeper; when it returns, it ends.

    :param module: the module's name.
    :param folder: where the images, their maps and the generation are.
    :param listen: descriptor of the control socket, listening; connections that wait survive a worker's death.
    :param fuse: descriptor of /dev/fuse; nothing can be read from it before the keeper has mounted it (EPERM), and
        polling it then says POLLERR.
    :param again: an earlier worker of this keeper has died: go on with what it was doing.
    :param mounted: the keeper has mounted the volumes, so an earlier worker served them.
    :param volumes: as the client named them.
    :param options: what else the client wants the worker to know from its first instant on.
    :param shared: what outlives a worker.
    """

    module: str
    folder: str
    listen: int
    fuse: int
    again: bool
    mounted: bool
    volumes: tuple[VolumeFile, ...]
    options: Mapping[str, Any]
    shared: Shared = field(default_factory=Shared)
