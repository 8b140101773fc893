"""The control of an action of low rank: such an action runs beside the module and may not touch it."""

from __future__ import annotations

from typing import NoReturn

from safekit_py.errors import Problem, StateError


class Bystander:
    """Knows the module's name, and refuses everything else; see ``model.plugin.ModuleControl``."""

    def __init__(self, name: str, action: str) -> None:
        self.name, self._action = name, action

    def _refuse(self, what: str) -> NoReturn:
        text = f"the action {self._action} wants to {what} {self.name}, and its rank is below 10"
        raise StateError(Problem("plugin.rank", text, "give it the rank of what it does: see docs/failover.md"))

    async def restart(self, cause: str) -> None:
        """Refused, as the others."""
        self._refuse("restart")

    async def stopstart(self, cause: str) -> None:
        """Refused."""
        self._refuse("stopstart")

    async def stop(self, cause: str) -> None:
        """Refused."""
        self._refuse("stop")

    async def wait(self, cause: str) -> None:
        """Refused."""
        self._refuse("wait")

    async def swap(self, cause: str) -> None:
        """Refused."""
        self._refuse("swap")
