"""What userconfig.xml and cluster.xml say, as frozen values.

The engine knows ``Service``, ``User`` and ``Failover``; every other element's value is built by the plugin that
contributed the element and stands in ``ModuleConfig.elements`` under its path below ``<service>`` (``farm``, ``vip``,
``check/tcp``).
All durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from safekit_py.model.rules import Rule


@dataclass(frozen=True, slots=True)
class Service:
    """``<service>``: the module's type and how it is started and restarted.

    :param mode: name of the module type (``farm``, ``mirror``, ``light`` or a plugin's).
    :param maxloop: automatic restarts, stopstarts and waits allowed in ``loop_interval``; the next one stops the
        module.
    :param loop_interval: seconds; 0 disables the counter.
    """

    mode: str
    boot: str = "ignore"
    boot_delay: float = 0.0
    failover: bool = True
    defaultprim: str = "alone"
    maxloop: int = 3
    loop_interval: float = 24 * 3600.0
    automatic_reboot: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """``<user>``: the module's scripts. Without it no script runs.

    :param nicestoptimeout: seconds that a graceful stop script may take.
    :param forcestoptimeout: seconds that a forced stop script may take.
    :param logging: ``userlog`` keeps the scripts' output, ``none`` drops it.
    :param userlogsize: KiB, the size at which the user log is turned over.
    :param variables: ``<var name value>`` in document order, added to the scripts' environment.
    """

    nicestoptimeout: float = 300.0
    forcestoptimeout: float = 300.0
    logging: str = "userlog"
    userlogsize: int = 2048
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Failover:
    """``<failover>``: rules of the user's own.

    :param extends: whether the rules that checkers bring count too; a rule of the same label replaces such a one.
    :param period: seconds; ``handle_time`` is a multiple of it. Rules are evaluated at each change of a resource.
    :param handle_time: seconds for which an action must be wished without interruption before it is taken.
    """

    extends: bool = True
    period: float = 5.0
    handle_time: float = 15.0
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleConfig:
    """A whole userconfig.xml after macros and defaults.

    :param elements: path below ``<service>`` to the values of the elements found there, in document order.
    :param macros: the macros in force, name and value.
    """

    service: Service
    user: User | None = None
    elements: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    macros: tuple[tuple[str, str], ...] = ()
    failover: Failover = Failover()

    def all(self, path: str) -> tuple[Any, ...]:
        """The values of the elements at ``path``, empty when there is none."""
        return dict(self.elements).get(path, ())

    def one(self, path: str) -> Any | None:
        """The only value at ``path``, or None; the schema sees to it that there is not a second."""
        found = self.all(path)
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class LanNode:
    """One server on one LAN: ``<node name addr>``; ``addr`` is an address or a host name."""

    name: str
    addr: str


@dataclass(frozen=True, slots=True)
class Lan:
    """``<lan name>`` of cluster.xml."""

    name: str
    nodes: tuple[LanNode, ...]
    command: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """cluster.xml: the servers, in the order of their first mention, and their addresses on each LAN.

    A server's number is its place in ``nodes``; it is the same on every server because the file is.
    """

    lans: tuple[Lan, ...] = ()
    port: int = 4800
    pulse: float = 0.1
    mlost_count: int = 20
    slost_count: int = 10
    nodes: tuple[str, ...] = field(default=())

    def address(self, node: str, lan: str) -> str | None:
        """The address of ``node`` on the LAN of that name, or None."""
        for each in self.lans:
            if each.name == lan:
                return next((n.addr for n in each.nodes if n.name == node), None)
        return None
