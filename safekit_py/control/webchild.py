"""Keeps the web process running beside the agent, once somebody may call over the network.

Flows through it: the end of a child in, a new child out, after a pause that grows. The child ends with the agent,
however that ends: it reads a pipe that the agent holds open and never writes to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys

from safekit_py.model.paths import Paths

VARIABLE = "SAFEKIT_WEB"  # environment: ADDRESS:PORT, or off
LOOK = 2.0  # seconds between two looks for the first token, user or certificate
PAUSE, LONGEST = 1.0, 60.0  # seconds before the child is started again
LONG = 60.0  # seconds after which a child that ran is a good one
GRACE = 4.0  # seconds that it has to end
COMMAND = (sys.executable, "-m", "safekit_py", "web", "--child")
log = logging.getLogger("safekit.web")


async def keep(paths: Paths, until: asyncio.Event) -> None:
    """Keep it running until the event is set."""
    if os.environ.get(VARIABLE) == "off":
        return
    pause = PAUSE
    while not until.is_set():
        # Before there is an account or a certificate of a cluster nobody could call: no port is opened.
        if not paths.access.exists() and not (paths.tls / "server.crt").exists():
            await _sleep(LOOK, until)
            continue
        loop = asyncio.get_running_loop()
        began = loop.time()
        code = await _run(paths, until)
        if until.is_set():
            return
        pause = PAUSE if loop.time() - began > LONG else min(2 * pause, LONGEST)
        log.warning("the web process ended with %s; it is started again in %.0f s", code, pause)
        await _sleep(pause, until)


async def _sleep(seconds: float, until: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)


async def _run(paths: Paths, until: asyncio.Event) -> int | str:
    environment = {**os.environ, "SAFEKIT_ROOT": str(paths.root)}
    environment.pop("NOTIFY_SOCKET", None)  # systemd listens to the agent alone
    try:
        process = await asyncio.create_subprocess_exec(*COMMAND, stdin=asyncio.subprocess.PIPE, env=environment)
    except OSError as error:
        return error.strerror or str(error)
    ended, told = asyncio.create_task(process.wait()), asyncio.create_task(until.wait())
    try:
        await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), GRACE)
    finally:
        told.cancel()
        if not ended.done():
            process.kill()
    return await ended
