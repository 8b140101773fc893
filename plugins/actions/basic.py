"""The actions of the product: restart, swap, wait, stopstart, stop, noaction."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import Action, ModuleControl, hookimpl


async def _restart(control: ModuleControl, cause: str) -> None:
    await control.restart(cause)


async def _stopstart(control: ModuleControl, cause: str) -> None:
    await control.stopstart(cause)


async def _stop(control: ModuleControl, cause: str) -> None:
    await control.stop(cause)


async def _wait(control: ModuleControl, cause: str) -> None:
    await control.wait(cause)


async def _swap(control: ModuleControl, cause: str) -> None:
    await control.swap(cause)


async def _nothing(control: ModuleControl, cause: str) -> None:
    """The resource shows the failure; nothing follows."""


@hookimpl
def safekit_actions() -> Iterable[Action]:
    """The built-in actions; a stop ends the matter and needs no counting."""
    return (
        Action("noaction", _nothing, counted=False, rank=0),
        Action("restart", _restart, rank=10),
        Action("swap", _swap, rank=20),
        Action("wait", _wait, rank=30),
        Action("stopstart", _stopstart, rank=40),
        Action("stop", _stop, counted=False, rank=50),
    )
