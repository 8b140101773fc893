"""The module type ``farm``: what it checks, what it needs, and its runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import WeakValueDictionary

from safekit_py.api import Cluster, ModuleConfig, ModuleContext, Problem, PulseThread, State

from ..vip.model import Vip
from . import check_vip, compiler, needs, remains
from .layout import MAX_SERVERS
from .model import Farm
from .runtime import FarmRuntime


class FarmType:
    """All servers run the application; a kernel filter shares the clients among them."""

    name = "farm"
    goal = State.UP

    @property
    def lasts(self) -> str:
        """Equal of all versions that can go on with each other's modules: same values, same maps in the kernel."""
        return f"{remains.FORMAT} {compiler.layout()}"

    def __init__(self) -> None:
        self._pulse = PulseThread()
        self._runtimes: WeakValueDictionary[str, FarmRuntime] = WeakValueDictionary()

    def check(self, config: ModuleConfig, cluster: Cluster | None) -> Iterable[Problem]:
        """What the schema cannot see: LANs, servers and addresses must be those of the cluster."""
        yield from check_vip.problems(config.one("vip") or Vip())
        farm: Farm | None = config.one("farm")
        if farm is None:
            yield Problem(
                "farm.no-farm",
                "a module of mode farm needs <farm>",
                '<farm><lan name="default"/></farm> below <service>',
            )
            return
        if cluster is None:
            return
        if len(cluster.nodes) > MAX_SERVERS:
            text = f"a farm has at most {MAX_SERVERS} servers, and cluster.xml names {len(cluster.nodes)}"
            yield Problem("farm.too-many", text, "make clusters of fewer servers")
        names = [lan.name for lan in cluster.lans]
        for lan in farm.lans:
            if lan not in names:
                known = ", ".join(names) or "(none)"
                yield Problem(
                    "farm.unknown-lan", f"cluster.xml has no LAN called {lan}", f'<lan name="…"/> takes one of: {known}'
                )
        yield from self._check_vip(config.one("vip") or Vip(), cluster)

    def _check_vip(self, vip: Vip, cluster: Cluster) -> Iterable[Problem]:
        servers = {node.addr: node.name for lan in cluster.lans for node in lan.nodes}
        for interface in vip.interfaces:
            for address in interface.addresses:
                if str(address.addr) in servers:
                    yield Problem(
                        "farm.address-of-server",
                        f"{address.addr} is the address of {servers[str(address.addr)]}",
                        "a virtual address belongs to no server: take a free one of the same network",
                    )
        for group in vip.groups:
            for name, _ in group.powers:
                if name not in cluster.nodes:
                    yield Problem(
                        "farm.unknown-host",
                        f"group {group.name} gives power to {name}, which is no server of cluster.xml",
                        f"one of: {', '.join(cluster.nodes)}",
                    )

    def requirements(self, config: ModuleConfig) -> Iterable[Problem]:
        """What the kernel filter needs of this server."""
        return needs.requirements()

    def runtime(self, context: ModuleContext) -> FarmRuntime:
        """One farm module at work."""
        made = self._runtimes[context.name] = FarmRuntime(context, self._pulse)
        return made

    def macs(self, module: str) -> Mapping[int, frozenset[bytes]]:
        """By server number the MACs by which the servers of a module hold its addresses; those never seen have none.

        -1: the virtual ones, which are all servers'.
        """
        runtime = self._runtimes.get(module)
        return {**runtime.macs, -1: runtime.vmacs} if runtime is not None else {}
