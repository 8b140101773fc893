"""Asks systemd for services, by ``systemctl show``: one short process for all the services of a module.

Where no systemd runs, the answer is a ``ServiceManagerError`` with systemctl's own words.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from subprocess import DEVNULL, PIPE

from .model import Unit

SYSTEMCTL = "systemctl"
VARIABLE = "SAFEKIT_SYSTEMCTL"  # a <var> of the module that names another program, as for the module's scripts
TIMEOUT = 10.0  # seconds
PROPERTIES = "LoadState,ActiveState,SubState,MainPID"


class ServiceManagerError(Exception):
    """The service manager cannot be asked; the text says why."""


async def show(units: Sequence[str], program: str = SYSTEMCTL) -> dict[str, Unit]:
    """What the service manager says of each unit.

    :raises ServiceManagerError: it does not answer, or there is none.
    """
    words = (program, "show", f"--property={PROPERTIES}", "--", *units)
    try:
        # Limited too: a loop that ends while the process is being made would otherwise wait for ever for its pipes.
        async with asyncio.timeout(TIMEOUT):
            process = await asyncio.create_subprocess_exec(
                *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
    except TimeoutError:
        raise ServiceManagerError(f"{program} has not started for {TIMEOUT:g} s") from None
    except OSError as error:
        raise ServiceManagerError(f"{program} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(TIMEOUT):
            out, err = await process.communicate()
    except TimeoutError:
        raise ServiceManagerError(f"{program} has not answered for {TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            # With all that it started: whatever holds its output open would be waited for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        last = err.decode("utf-8", "replace").strip().splitlines()[:1] or [f"status {process.returncode}"]
        raise ServiceManagerError(f"{program}: {last[0]}")
    return parse(units, out.decode("utf-8", "replace"))


def parse(units: Sequence[str], text: str) -> dict[str, Unit]:
    """The answer: a block for each unit in the order of the question, with empty lines in between.

    :raises ServiceManagerError: it has another number of blocks, or lacks something.
    """
    blocks = [block for block in text.strip().split("\n\n") if block.strip()]
    if len(blocks) != len(units):
        raise ServiceManagerError(f"an answer of {len(blocks)} units to a question for {len(units)}")
    found = {}
    for unit, block in zip(units, blocks, strict=True):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        try:
            pid = int(values.get("MainPID") or 0)
            found[unit] = Unit(values["LoadState"], values["ActiveState"], values["SubState"], pid)
        except (KeyError, ValueError):
            raise ServiceManagerError(f"an answer for {unit} that cannot be read") from None
    return found
