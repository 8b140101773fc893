"""Where everything stands on disk; ``root`` moves all of it, so that several servers live on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of one server.

    :param root: prefix of every path; ``/`` on a real server.
    """

    root: Path = Path("/")

    @property
    def safe(self) -> Path:
        """$SAFE: the installed modules and the command that scripts call."""
        return self.root / "opt/safekit"

    @property
    def var(self) -> Path:
        """$SAFEVAR: state, logs, keys."""
        return self.root / "var/lib/safekit"

    @property
    def run(self) -> Path:
        """The control socket; gone after a boot."""
        return self.root / "run/safekit"

    @property
    def socket(self) -> Path:
        """The UNIX socket of the agent."""
        return self.run / "agent.sock"

    @property
    def web_socket(self) -> Path:
        """The UNIX socket of the web process, for this server's commands to others."""
        return self.run / "web.sock"

    @property
    def modules(self) -> Path:
        """The installed modules, one folder each."""
        return self.safe / "modules"

    def module(self, name: str) -> Path:
        """The folder of an installed module: ``conf/`` and ``bin/``."""
        return self.modules / name

    def userconfig(self, name: str) -> Path:
        """The module's userconfig.xml."""
        return self.module(name) / "conf/userconfig.xml"

    def module_var(self, name: str) -> Path:
        """$SAFEUSERVAR: what the module keeps (state, logs, its application's runtime files)."""
        return self.var / "modules" / name

    @property
    def cluster_xml(self) -> Path:
        """The cluster's configuration."""
        return self.var / "cluster/cluster.xml"

    @property
    def cluster_key(self) -> Path:
        """The cluster's secret keys, see ``model.keys``; mode 0600."""
        return self.var / "cluster/cluster.key"

    @property
    def access(self) -> Path:
        """Tokens and users of the API, mode 0600."""
        return self.var / "access.json"

    @property
    def tls(self) -> Path:
        """Keys and certificates of the API, for root only."""
        return self.var / "tls"

    @property
    def cluster_lock(self) -> Path:
        """There while the cluster's configuration must not be changed; it holds the reason."""
        return self.var / "cluster/lock"

    @property
    def notify_xml(self) -> Path:
        """Whom to tell what happens; the same on every server."""
        return self.var / "cluster/notify.xml"

    @property
    def notify(self) -> Path:
        """What is remembered of notifications: the conditions that last, and what could not be sent."""
        return self.var / "notify"

    @property
    def node_name(self) -> Path:
        """The name of this server in cluster.xml, one line; without the file the host name counts."""
        return self.var / "cluster/node"
