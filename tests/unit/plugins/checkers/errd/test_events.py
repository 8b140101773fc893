"""Real processes that end."""

import asyncio
import os
import resource
import time
from pathlib import Path

from safekit_py.plugins.checkers.errd.events import Deaths
from safekit_py.plugins.checkers.errd.model import Process


def seen(process):
    return Process(0.0, process.pid, "x")


async def until(what):
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


def test_an_end_is_told_at_once_and_once(daemons):
    async def run():
        told = []
        deaths = Deaths(lambda: told.append(time.monotonic()))
        first, second = daemons.start(), daemons.start()
        assert deaths.watch([seen(first), seen(second)])
        await asyncio.sleep(0.05)
        assert told == []
        daemons.kill(first)
        await until(lambda: told)  # nothing here looks from time to time
        await asyncio.sleep(0.3)
        assert len(told) == 1
        assert len(deaths) == 1
        deaths.close()

    asyncio.run(run())


def test_one_that_ended_before_it_was_awaited_is_told():
    async def run():
        told = asyncio.Event()
        deaths = Deaths(told.set)
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        assert deaths.watch([seen(process)])
        await asyncio.wait_for(told.wait(), 5)
        assert len(deaths) == 0

    asyncio.run(run())


def test_no_file_stays_open(daemons):
    def count():
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async def run():
        before = count()
        deaths = Deaths(lambda: None)
        processes = [daemons.start() for _ in range(3)]
        deaths.watch(map(seen, processes))
        assert count() == before + 3
        deaths.watch([seen(processes[0])])
        assert count() == before + 1
        daemons.kill(processes[0])
        await until(lambda: count() == before)
        deaths.watch([seen(processes[1])])
        deaths.close()
        assert count() == before

    asyncio.run(run())


def test_without_files_the_next_look_must_tell(daemons):
    async def run():
        deaths = Deaths(lambda: None)
        process = daemons.start()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open("/dev/null", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            assert not deaths.watch([seen(process)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(deaths) == 0
        assert deaths.watch([seen(process)])
        deaths.close()

    asyncio.run(run())
