"""A server's door: two groups of one farm on loopback, whose views say who takes clients."""

import asyncio
import contextlib
import socket

import pytest
from safekit_py.plugins.farm import door
from safekit_py.plugins.farm.door import Door

from safekit_py.core.group import Settings
from safekit_py.errors import SystemProblem
from safekit_py.net import wire
from safekit_py.net.keys import Keys
from safekit_py.net.transport import Callbacks, GroupTransport, LanAddresses, PulseThread

PULSE = 25_000_000
HOSTS = ("127.0.0.31", "127.0.0.32")


class One:
    """One server, its group and its door."""

    def __init__(self, me, port, thread):
        self.me, self.thread, self.view, self.owning = me, thread, None, False
        loop = asyncio.get_running_loop()
        callbacks = Callbacks(
            lambda view, owning, _: loop.call_soon_threadsafe(self.seen, view, owning), lambda _: None, lambda _: None
        )
        peers = {other: HOSTS[other] for other in range(2) if other != me}
        self.group = GroupTransport(
            Settings(me, (0, 1), 1, PULSE),
            keys=Keys.of(bytes(32)),
            group=wire.group_id("a,b", "web"),
            boot=me + 1,
            lans=(LanAddresses("default", HOSTS[me], port, peers),),
            callbacks=callbacks,
        )
        self.door = Door(thread, self.group, (1,), self.has_share)
        thread.add(self.group)

    def seen(self, view, owning):
        self.view, self.owning = view, owning
        self.door.look()

    def has_share(self):
        members = self.view.members if self.view and self.owning else ()
        return any(each.server == self.me and any(each.powers) for each in members)

    def owners(self):
        return set(self.view.tables[0].counts())


@contextlib.asynccontextmanager
async def two():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    thread = PulseThread()
    servers = [One(me, port, thread) for me in range(2)]
    try:
        yield servers
    finally:
        for each in servers:
            await asyncio.to_thread(thread.remove, each.group)


def test_when_it_is_shut_every_server_knows():
    async def main():
        async with two() as (one, other):
            await asyncio.gather(one.door.open(), other.door.open())
            async with asyncio.timeout(5):
                while one.owners() != {0, 1} or other.owners() != {0, 1}:
                    await asyncio.sleep(0.01)
            assert await other.door.shut()
            assert one.owners() == other.owners() == {0}
            assert await one.door.shut(), "nobody is left, and that is known too"
            assert not one.has_share()

    asyncio.run(main())


def test_a_server_that_gets_no_view_says_so(monkeypatch):
    monkeypatch.setattr(door, "OPEN_LIMIT", 0.1)
    monkeypatch.setattr(door, "SHUT_LIMIT", 0.1)

    async def main():
        async with two() as (one, _):
            one.door = Door(one.thread, one.group, (1,), lambda: False)
            with pytest.raises(SystemProblem, match="gave this server its share"):
                await one.door.open()
            one.door = Door(one.thread, one.group, (1,), lambda: True)
            assert not await one.door.shut()

    asyncio.run(main())
