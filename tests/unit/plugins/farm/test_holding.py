"""What a server says of its connections, and how long it waits for them: rows as the kernel tells them, in."""

import asyncio
import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.farm import holding
from safekit_py.plugins.farm.hashing import bucket_of
from safekit_py.plugins.farm.holding import Holding, Places
from safekit_py.plugins.farm.layout import KernelRule
from safekit_py.plugins.vip.connections import ESTABLISHED, FIN_WAIT1, FIN_WAIT2, Row

from safekit_py.core.buckets import BUCKETS, Table
from safekit_py.core.group import Member, Number, View
from safekit_py.core.trail import Trail

VIP, SEED, ME, OTHER = ip_address("10.0.0.50"), 7, 1, 2


def row(client="10.0.0.1", client_port=4000, port=80, local=VIP, state=ESTABLISHED, inode=1):
    ends = struct.pack("!HH16s16s", port, client_port, local.packed, ip_address(client).packed)
    return Row(socket.AF_INET, state, ends.ljust(48, b"\0"), inode)


def places(*rules):
    return Places([VIP], rules or (KernelRule("tcp", "on_port", 0, 80),), SEED)


def view(epoch, owner, holders=(ME,)):
    tables = (Table(((BUCKETS, owner),)),)
    members = (Member(ME, (1,)), Member(OTHER, (1,)))
    return View(Number(epoch, 0, 1), members, tables, "", (Trail(((BUCKETS, tuple(holders)),)),))


def owners(mine):
    """A table in which only these buckets are this server's."""
    return [bytes(ME if bucket in mine else OTHER for bucket in range(BUCKETS))]


def test_the_first_rule_that_covers_a_connection_decides():
    made = places(
        KernelRule("udp", "on_addr", 3, 80),
        KernelRule("tcp", "on_addr", 1, 80, VIP),
        KernelRule("tcp", "on_port", 2),
    )
    assert made.rule(row()).group == 1
    assert made.rule(row(port=81)).group == 2
    assert places().rule(row(port=81)) is None


def test_a_connection_of_the_server_with_itself_is_nobody_s_matter():
    assert places().rule(row(client=str(VIP))) is None


@given(st.ip_addresses(v=4), st.integers(1, 65535), st.sampled_from(["on_addr", "on_port"]))
def test_a_connection_is_foreign_when_its_bucket_is(client, port, way):
    bucket = bucket_of(client, SEED, port if way == "on_port" else None)
    made, held = places(KernelRule("tcp", way, 0, 80)), row(str(client), port)
    if client == VIP:
        return
    assert not made.is_foreign(held, owners({bucket}), ME)
    assert made.is_foreign(held, owners({(bucket + 1) % BUCKETS}), ME)


def test_with_on_ipid_any_connection_may_have_foreign_packets():
    assert places(KernelRule("tcp", "on_ipid", 0, 80)).is_foreign(row(), owners(set(range(BUCKETS))), ME)
    assert not places().is_foreign(row(port=81), owners(set()), ME)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in (("LOOK", 0.02), ("IN_FORCE", 0.05), ("DRAIN_LOOK", 0.01), ("SHARE", 0)):
        monkeypatch.setattr(holding, name, value)


class Made:
    """A ``Holding`` whose kernel is a list of rows."""

    def __init__(self, rows=()):
        self.rows, self.told, self.lines, self.counts = list(rows), [], [], 0
        self.holding = Holding(places(), ME, self.told.append, lambda _, text: self.lines.append(text), self.count)

    def count(self, states):
        self.counts += 1
        if isinstance(self.rows, OSError):
            raise self.rows
        return iter([each for each in self.rows if states >> each.state & 1])

    async def __aenter__(self):
        self.holding.begin()
        return self

    async def __aexit__(self, *_):
        await self.holding.finish()


async def until(look):
    async with asyncio.timeout(5):
        while not look():
            await asyncio.sleep(0.01)


def test_it_is_settled_when_nothing_foreign_is_left_and_says_so_once_a_view():
    async def main():
        async with Made([row()]) as made:
            made.holding.seen(view(5, OTHER), owning=True)
            await until(lambda: made.counts >= 4)
            assert made.told == []
            made.rows.clear()
            await until(lambda: made.told == [5])
            made.holding.seen(view(6, OTHER), owning=True)
            await until(lambda: made.told == [5, 6])
            await asyncio.sleep(0.1)
            assert made.told == [5, 6]

    asyncio.run(main())


def test_its_own_connections_do_not_keep_it():
    async def main():
        async with Made([row()]) as made:
            made.holding.seen(view(5, ME, (OTHER, ME)), owning=True)
            await until(lambda: made.told == [5])

    asyncio.run(main())


@pytest.mark.parametrize(("given", "owning"), [(view(5, OTHER, (OTHER,)), True), (view(5, OTHER), False)])
def test_who_is_no_holder_or_owns_nothing_says_nothing(given, owning):
    async def main():
        async with Made() as made:
            made.holding.seen(given, owning=owning)
            await asyncio.sleep(0.15)
            assert made.told == []
            assert made.counts == 0

    asyncio.run(main())


def test_a_kernel_that_does_not_tell_keeps_it_unsettled_and_is_named_once():
    async def main():
        async with Made() as made:
            made.rows = PermissionError(1, "not permitted")
            made.holding.seen(view(5, OTHER), owning=True)
            await until(lambda: made.counts >= 4)
            assert made.told == []
            assert made.lines == ["connections cannot be counted: not permitted"]

    asyncio.run(main())


def test_a_drain_counts_what_an_application_may_still_use():
    async def main():
        made, said = Made([row(), row(port=81), row(client_port=1, state=FIN_WAIT2, inode=0)]), []
        left = asyncio.create_task(made.holding.left(said.append))
        await until(lambda: len(said) >= 2)
        assert set(said) == {1}
        made.rows.pop(0)
        await asyncio.wait_for(left, 5)

    asyncio.run(main())


def test_what_is_on_its_way_may_arrive_before_the_reset(monkeypatch):
    monkeypatch.setattr(holding, "LAST_WORDS", 0.2)

    async def main():
        made = Made([row(state=FIN_WAIT1)])
        resetting = asyncio.create_task(made.holding.reset())
        await until(lambda: made.counts >= 2)
        made.rows.clear()
        await asyncio.wait_for(resetting, 5)
        assert made.lines == []

    asyncio.run(main())
