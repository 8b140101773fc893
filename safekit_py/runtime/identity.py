"""Who this server is: its cluster, its name in it, and the number of each module."""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

from safekit_py.errors import NotFoundError, Problem, StateError
from safekit_py.model.config import Cluster
from safekit_py.model.paths import Paths

MODULE_IDS = 1024


def node_name(paths: Paths, cluster: Cluster) -> str:
    """The name of this server in the cluster.

    :raises NotFoundError: neither the file nor the host name names a server of cluster.xml.
    """
    try:
        name = paths.node_name.read_text().strip()
    except OSError:
        name = socket.gethostname()
    for candidate in (name, name.split(".")[0]):
        if candidate in cluster.nodes:
            return candidate
    raise NotFoundError(
        Problem(
            "cluster.unknown-node",
            f"this server is called {name}, and cluster.xml has no server of that name",
            f"its servers are {', '.join(cluster.nodes) or '(none)'}: safekit-py cluster config FILE --node NAME",
            str(paths.cluster_xml),
        )
    )


def module_id(paths: Paths, name: str) -> int:
    """The module's number, the same on every server: the one given at its installation, else one made of its name."""
    try:
        return int(_id_file(paths, name).read_text()) % MODULE_IDS
    except (OSError, ValueError):
        return zlib.crc32(name.encode()) % MODULE_IDS


def set_module_id(paths: Paths, name: str, number: int) -> None:
    """Remember a number given by a person."""
    path = _id_file(paths, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{number}\n")


def refuse_id_in_use(paths: Paths, name: str, number: int, others: list[str]) -> None:
    """Two modules with one number would use the same ports.

    :raises StateError: another installed module has it.
    """
    for other in others:
        if other != name and module_id(paths, other) == number:
            raise StateError(
                Problem(
                    "module.id-in-use",
                    f"{name} would get the number {number}, which module {other} has",
                    f"give another one, the same on every server: module install … -M NUMBER (0 to {MODULE_IDS - 1})",
                )
            )


def _id_file(paths: Paths, name: str) -> Path:
    return paths.module_var(name) / "id"
