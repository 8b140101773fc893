"""Commands of a mirror module: each says what it would discard, then does it.

With ``look`` among its arguments a command changes nothing and only says what it would do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from safekit_py.api import Problem, SafekitError, State

from . import orders

if TYPE_CHECKING:
    from .runtime import MirrorRuntime

Found = Mapping[str, Any]
RUNS = (State.PRIM, State.ALONE, State.SECOND)


class Commands:
    """Of one module."""

    def __init__(self, module: MirrorRuntime) -> None:
        self._module = module
        self.running = ""  # the command that is being carried out

    async def carry_out(self, verb: str, arguments: tuple[str, ...]) -> Found:
        """Do what a person or the engine asks for.

        :raises SafekitError: it is not possible now; nothing has been changed.
        """
        look = "look" in arguments
        words = tuple(each for each in arguments if each not in ("look", "nowait"))
        table: dict[str, Callable[[tuple[str, ...], bool], Awaitable[Found]]] = {
            "prim": self._start("prim"),
            "primforce": self._start("primforce"),
            "second": self._start("second"),
            "secondforce": self._start("secondforce"),
            "swap": self._swap,
            "may-swap": self._may_swap,
            "rfsverify": self._verify,
            "rfsdiff": self._verify,
            "rfssync": self._sync,
            "rfs-resize": self._resize,
            "rfs-export": self._export,
        }
        if verb not in table:
            raise SafekitError(Problem("command.unknown", f"{verb} is no command of a mirror", "see safekit-py --help"))
        self.running = verb
        try:
            return await table[verb](words, look)
        finally:
            self.running = ""

    def _start(self, verb: str) -> Callable[[tuple[str, ...], bool], Awaitable[Found]]:
        async def run(words: tuple[str, ...], look: bool) -> Found:
            module = self._module
            full = "fullsync" in words
            asked = f"{verb} fullsync" if full else verb
            peer = module.peer.side if module.peer is not None else None
            plan = orders.command(module.me(), peer, asked)
            if look:
                discards = [plan.discards, *self._covered()] if verb.startswith("second") else [plan.discards]
                return {"text": plan.reason, "discards": "; ".join(filter(None, discards))}
            forced = verb == "secondforce" or (full and verb == "second")
            module.wish, module.fullsync = "secondforce" if forced else verb, full or forced
            if module.state is State.STOP:
                await module.context.order("start", f"asked by an administrator ({asked})")
            module.nudge()
            return {"text": plan.reason, "discards": plan.discards}

        return run

    def _covered(self) -> list[str]:
        covers = getattr(self._module.engine, "covers", tuple)
        return [f"what {each} holds here: it is removed after the first take-over of this server" for each in covers()]

    async def _may_swap(self, words: tuple[str, ...], look: bool) -> Found:
        module = self._module
        peer = module.peer.side if module.peer is not None and not module.silent else None
        return {"text": orders.command(module.me(), peer, "swap").reason}

    async def _swap(self, words: tuple[str, ...], look: bool) -> Found:
        found = await self._may_swap(words, look)
        module = self._module
        if look:
            return found
        if module.state is State.PRIM:
            await module.context.order("swap", "asked by an administrator")
        else:
            module.swaps += 1
            module.nudge()
        return {"text": "the two servers exchange their roles"}

    async def _engine(self, name: str, *arguments: Any) -> Found:
        method = getattr(self._module.engine, name, None)
        if method is None:
            text = "the replication engine of this module has no such command"
            raise SafekitError(Problem("rfs.no-command", text, 'it is there with <rfs engine="block">'))
        found: Found = await method(*arguments)
        return found

    async def _verify(self, words: tuple[str, ...], look: bool) -> Found:
        if self._module.state not in (State.PRIM, State.SECOND) or not self._module.connected:
            text = "the data can be compared while the servers are PRIM and SECOND"
            raise SafekitError(Problem("rfs.not-connected", text, f"safekit-py status {self._module.context.name}"))
        if self._module.state is State.SECOND:
            remedy = f"give the command on {self._module.other}"
            raise SafekitError(Problem("rfs.not-primary", "the primary compares the data", remedy))
        return await self._engine("verify")

    async def _sync(self, words: tuple[str, ...], look: bool) -> Found:
        self._refuse_running("rfssync")
        if look:
            return {"text": "", "discards": "what this server knows of the history of its data"}
        _, role, uid = words
        return await self._engine("external", role, uid)

    async def _resize(self, words: tuple[str, ...], look: bool) -> Found:
        directory, size = words
        return await self._engine("resize", directory, size)

    async def _export(self, words: tuple[str, ...], look: bool) -> Found:
        self._refuse_running("rfs export")
        return await self._engine("export", *words)

    def _refuse_running(self, what: str) -> None:
        if self._module.state is not State.STOP:
            text = f"{what} is for a stopped module"
            raise SafekitError(Problem("module.running", text, f"safekit-py stop {self._module.context.name}"))
