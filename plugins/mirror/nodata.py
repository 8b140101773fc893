"""The engine of a mirror without ``<rfs>``: an address and an application that follow the primary, and no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .generation import Generation
from .seams import VolumeEvent

ANY = "none"  # the identifier of no data: both servers always have the same


class NoData:
    """See ``seams.Engine``: there is nothing to keep, so each server is always up to date."""

    replicates = False
    port = 0

    def __init__(self) -> None:
        self._generation = Generation(data=ANY, uptodate=True)
        self._told: Callable[[VolumeEvent], None] = lambda _: None

    def generation(self) -> Generation:
        """Always the same data, shared with nobody."""
        return self._generation

    async def recover(self) -> None:
        """Nothing was left."""

    async def serve(self, *, new: str = "") -> None:
        """Primary."""
        self._generation = replace(self._generation, primary=True)

    async def mount(self) -> None:
        """Nothing is mounted."""

    async def receive(self, *, fullsync: bool = False, aside: bool = False) -> None:
        """Secondary."""
        self._generation = replace(self._generation, primary=False)
        self._told(VolumeEvent("synced", "there are no data to synchronise"))

    async def alone(self, new: str) -> None:
        """Nothing waits."""

    async def outdate(self) -> None:
        """There is nothing that could be old."""

    async def release(self, *, force: bool = False) -> None:
        """Nothing is mounted."""
        self._generation = replace(self._generation, primary=False)

    def lease(self, until: int) -> None:
        """Nothing is acknowledged."""

    def limit(self, bandwidth: int) -> None:
        """Nothing is resynchronised."""

    def guard(self, addresses: tuple[tuple[str, str], ...]) -> None:
        """Nothing outlives the agent that could take addresses away."""

    def status(self) -> Mapping[str, Any]:
        """Nothing to show."""
        return {}

    def settled(self) -> None:
        """Nothing was moved away."""

    async def hand_over(self) -> Mapping[str, Any]:
        """Whether it is the primary."""
        return {"primary": self._generation.primary}

    async def take_over(self, left: Mapping[str, Any]) -> None:
        """Nothing has happened since."""
        self._generation = replace(self._generation, primary=bool(left["primary"]))

    def listen(self, told: Callable[[VolumeEvent], None]) -> None:
        """Be told what happens."""
        self._told = told
