"""All that makes a server one of a cluster: cluster.xml, its name in it, the cluster's key, and certificates.

Flows through it: what ``cluster init`` made or another server gave in; files out. Invariant: all of them are written,
or all are as they were; secrets are for root only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safekit_py.model.paths import Paths
from safekit_py.runtime.files import write_atomically

CERTIFICATES = ("ca.crt", "ca.key", "server.crt", "server.key")
SECRET, OPEN = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class Membership:
    """Of one server.

    :param node: its name in cluster.xml.
    :param key: the content of a key file.
    :param certificates: the texts of ``CERTIFICATES`` by name.
    """

    cluster: bytes
    node: str
    key: str
    certificates: Mapping[str, str]

    def files(self, paths: Paths) -> Iterator[tuple[Path, bytes, int]]:
        """Each file with its content and mode. cluster.xml is the last: with it the server is a member."""
        for name in CERTIFICATES:
            if name in self.certificates:
                yield paths.tls / name, self.certificates[name].encode(), SECRET if name.endswith(".key") else OPEN
        yield paths.cluster_key, self.key.encode(), SECRET
        yield paths.node_name, f"{self.node}\n".encode(), OPEN
        yield paths.cluster_xml, self.cluster, OPEN

    def write(self, paths: Paths) -> None:
        """Write them.

        :raises OSError: one cannot be written; those before it are as they were.
        """
        paths.tls.mkdir(parents=True, exist_ok=True, mode=0o700)
        before: list[tuple[Path, bytes | None, int]] = []
        try:
            for path, data, mode in self.files(paths):
                before.append((path, path.read_bytes() if path.exists() else None, mode))
                write_atomically(path, data, mode)
        except OSError:
            for path, old, mode in reversed(before):
                with contextlib.suppress(OSError):
                    if old is None:
                        path.unlink(missing_ok=True)
                    else:
                        write_atomically(path, old, mode)
            raise
