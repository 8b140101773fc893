"""The process behind ``safekit-py agent``: one a server, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import sys
from typing import IO

from safekit_py.control import app, health, notifications, server, webchild
from safekit_py.errors import Problem, SafekitError, StateError, SystemProblem
from safekit_py.model.paths import Paths
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.handover import Handover, Predecessor
from safekit_py.runtime.notify import notify, signs_of_life

log = logging.getLogger("safekit.agent")
ARENA_MAX = -8  # of mallopt(3)


def _only_one(paths: Paths) -> IO[str]:
    """Hold the lock that a second agent of this server would need."""
    try:
        paths.run.mkdir(parents=True, exist_ok=True)
        lock = (paths.run / "agent.lock").open("w")
    except OSError as error:
        raise SystemProblem(
            Problem("agent.no-folder", f"{paths.run} cannot be used: {error.strerror}", "run the agent as root")
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StateError(
            Problem("agent.running", f"an agent runs already for {paths.root}", "safekit-py status shows what it does")
        ) from None
    return lock


def _one_heap() -> None:
    """Keep the C library from giving each thread a heap of its own: ours seldom run at once, and each costs 0.3 MB."""
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)


async def _main(paths: Paths, lock: int, before: Predecessor | None) -> None:
    until = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, until.set)
    agent = Agent(paths)
    await agent.start(before)
    handover = Handover(agent, lock)
    agent.renew = handover.begin
    loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(_renew(handover)))
    served = asyncio.Event()
    controlled = server.serve(app.create(agent), server.listen(paths), served)
    children = (webchild.keep(paths, served), notifications.keep(agent, served))
    alive = signs_of_life(agent.summary, served)
    serving = asyncio.gather(controlled, health.serve(agent, served), alive, *children)
    notify("READY=1", f"STATUS={agent.summary()}")
    ended, replaced = asyncio.ensure_future(until.wait()), asyncio.ensure_future(handover.due.wait())
    await asyncio.wait((ended, replaced), return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        served.set()
        await serving
        await handover.carry_out()
    notify("STOPPING=1")
    await agent.stop()
    served.set()
    await serving


async def _renew(handover: Handover) -> None:
    """What SIGHUP asks for; nobody waits for an answer."""
    try:
        await handover.begin()
    except SafekitError as error:
        for problem in error.problems:
            log.warning("the agent is not replaced: %s", problem)


def run(paths: Paths, *, verbose: bool = False) -> None:
    """Run until told to stop."""
    _one_heap()
    level = logging.DEBUG if verbose else logging.INFO
    # systemd and its journal add the time themselves.
    form = "%(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(message)s"
    logging.basicConfig(level=level, format=form, stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "asyncio", "pyroute2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    found = Predecessor.inherited()
    before, held = found if found is not None else (None, None)
    with _only_one(paths) if held is None else os.fdopen(held, "w") as lock:
        asyncio.run(_main(paths, lock.fileno(), before))
