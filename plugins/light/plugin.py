"""The module type ``light``: an application of one server.

Flows through it: nothing but the engine's own steps. Scripts, checkers and failover rules work as everywhere; there is
no group to join, no address to put in place and nothing to open or close, so such a module needs no cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from safekit_py.api import Cluster, ModuleConfig, ModuleContext, ModuleType, Problem, State, hookimpl

ELSEWHERE = {
    "farm": ("farm", "it has no other servers to share its clients with"),
    "vip": ("farm", "it has no virtual address: its application answers on the server's own ones"),
    "heart": ("mirror", "it has no second server"),
    "rfs": ("mirror", "it has no second server to replicate its directories to"),
}
"""Elements of other module types: which type they are for, and why they mean nothing here."""


class LightRuntime:
    """One light module at work. There is nothing to do around its scripts."""

    async def recover(self) -> None:
        """Nothing of it stands in the kernel."""

    async def prepare(self) -> None:
        """No address and no group."""

    async def open(self) -> None:
        """Its clients come to the server's own address."""

    async def close(self) -> None:
        """Nobody else could serve them."""

    async def release(self) -> None:
        """Nothing was put in place."""

    async def hand_over(self) -> bytes:
        """The application is nobody's child, and there is nothing else."""
        return b""

    async def take_over(self, left: bytes) -> None:
        """Nothing is to be taken."""

    def report(self) -> Mapping[str, Any]:
        """Nothing beyond state and resources."""
        return {}


class LightType:
    """One server runs the application; UP when it runs."""

    name = "light"
    goal = State.UP
    lasts = "1"
    clustered = False  # it runs on a server that has no cluster.xml

    def check(self, config: ModuleConfig, cluster: Cluster | None) -> Iterable[Problem]:
        """What belongs to a module of several servers is refused: left in, it would promise what does not happen."""
        for tag, (mode, why) in ELSEWHERE.items():
            if config.all(tag):
                yield Problem(
                    "light.not-for-one-server",
                    f"<{tag}> is not for a module of mode light: {why}",
                    f'remove it, or write mode="{mode}"',
                )

    def requirements(self, config: ModuleConfig) -> Iterable[Problem]:
        """It needs nothing of the server."""
        return ()

    def runtime(self, context: ModuleContext) -> LightRuntime:
        """One light module at work."""
        return LightRuntime()


@hookimpl
def safekit_module_types() -> Iterable[ModuleType]:
    """The type ``light``."""
    return (LightType(),)
