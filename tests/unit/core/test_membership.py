"""Membership in simulated time: playbooks of single faults, and histories that hypothesis makes up."""

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator import MS, World

from safekit_py.core import membership
from safekit_py.core.group import Heartbeat, Known, Lease, Note, Number, Received, Send, SetPowers, Settings, Tick, View

SECOND = 1000 * MS
TWO = Settings(0, (0, 1), 1)


def settled(size, seed=0):
    world = World(size, seed)
    world.settle()
    world.assert_owned_once()
    return world


def epoch(world, number=0):
    return world.servers[number].state.number.epoch


# --- playbooks --------------------------------------------------------------------------------------


def test_a_lonely_server_listens_before_it_owns_everything():
    state = membership.new(Settings(0, (0, 1), 1), 7, 0)
    commands = ()
    for pulse in range(1, 12):
        state, commands = membership.step(TWO, state, Tick(pulse * TWO.pulse))
        if pulse < TWO.mlost:
            assert not any(isinstance(c, View | Lease) for c in commands)
    assert state.owning
    assert commands[-1] == Lease(11 * TWO.pulse + TWO.lease)
    assert state.number == Number(1, 0, 7)


def test_the_lease_ends_before_the_others_can_miss_a_server():
    for slost, mlost in ((8, 8), (3, 20), (20, 3)):
        some = Settings(0, (0, 1), 1, slost=slost, mlost=mlost)
        assert some.lease < min(some.lost_after, some.coordinator_lost_after)


def test_a_view_is_taken_only_from_the_coordinator_and_only_when_newer():
    state = settled(3).servers[2].state
    mine = Settings(2, (0, 1, 2), 1)
    forged = View(Number(99, 1, 5), state.view.members, state.view.tables)
    assert membership.step(mine, state, Received(state.ticked, 1, state.peers[1].boot, forged)) == (state, ())
    old = View(Number(0, 0, 5), state.view.members, state.view.tables)
    assert membership.step(mine, state, Received(state.ticked, 0, state.peers[0].boot, old)) == (state, ())


def test_a_message_of_nobody_changes_nothing():
    state = settled(2).servers[0].state
    beat = Heartbeat(1, Number(9, 9, 9), False, (1,), b"", 0, ())
    assert membership.step(TWO, state, Received(state.ticked, 17, 1, beat)) == (state, ())


def test_a_crash_moves_only_the_buckets_of_the_dead():
    world = settled(4)
    before = world.servers[0].table()
    world.servers[2].crash()
    world.run(membership.settled_after(world.servers[0].settings))
    after = world.servers[0].table()
    assert all(x == y for x, y in zip(before, after, strict=True) if x != 2)
    assert 2 not in after


def test_a_dead_server_is_missed_within_250_ms():
    for seed in range(20):
        world = settled(3, seed)
        victim = seed % 3
        world.servers[victim].crash()
        world.run(250 * MS)
        for server in world.servers:
            if server.up:
                assert victim not in server.table()


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_a_rejoin_needs_one_view_and_takes_only_its_share(victim, seed):
    world = settled(3, seed)
    world.servers[victim].crash()
    world.settle()
    before, known = world.servers[(victim + 1) % 3].table(), set(world.views)
    world.servers[victim].boot()
    world.settle()
    after = world.servers[(victim + 1) % 3].table()
    world.assert_owned_once()
    assert all(x == y for x, y in zip(before, after, strict=True) if y != victim)
    assert [world.views[n].cause for n in sorted(set(world.views) - known)] == [f"join {victim}"]


def test_a_graceful_leave_is_seen_at_once():
    world = settled(3)
    world.servers[1].leave()
    world.run(60 * MS)
    assert 1 not in world.servers[0].table()
    assert 1 not in world.servers[2].table()


def test_a_power_of_nought_gives_the_buckets_away_and_one_takes_them_back():
    world = settled(3)
    before = world.servers[0].table()
    world.servers[1].take(membership.SetPowers(world.now, (0,)))
    world.run(60 * MS)
    assert 1 not in world.servers[0].table()
    world.servers[1].take(membership.SetPowers(world.now, (1,)))
    world.run(60 * MS)
    assert world.servers[0].table().count(1) == before.count(1)


def test_a_paused_server_owns_nothing_until_it_was_answered():
    world = settled(3)
    paused = world.servers[0]
    paused.paused = True
    world.run(SECOND)
    assert set(world.servers[1].table()) == {1, 2}
    paused.paused = False
    late = paused.backlog
    paused.state, commands = membership.step(paused.settings, paused.state, Tick(world.now))
    assert not any(isinstance(c, Lease) for c in commands)
    assert any(isinstance(c, Note) for c in commands)
    paused.backlog = late
    paused.resume()  # what was sent long ago proves nothing
    paused.state, commands = membership.step(paused.settings, paused.state, Tick(world.now + 1))
    assert not any(isinstance(c, Lease) for c in commands)
    world.settle()
    world.assert_owned_once()


def test_a_server_that_was_alone_and_away_listens_before_it_owns_again():
    """Others may have taken over meanwhile."""
    state = membership.new(TWO, 7, 0)
    now = 0
    for _ in range(TWO.mlost + 1):
        now += TWO.pulse
        state, commands = membership.step(TWO, state, Tick(now))
    assert any(isinstance(c, Lease) for c in commands)
    for _ in range(2):  # away, and away again before it has listened
        now += SECOND
        state, commands = membership.step(TWO, state, Tick(now))
        assert not state.owning
        assert not any(isinstance(c, Lease) for c in commands)
    for _ in range(TWO.mlost - 1):
        now += TWO.pulse
        state, commands = membership.step(TWO, state, Tick(now))
        assert not any(isinstance(c, Lease) for c in commands)
    state, commands = membership.step(TWO, state, Tick(now + TWO.pulse))
    assert state.owning
    assert any(isinstance(c, Lease) for c in commands)


def test_an_answer_from_before_a_second_absence_proves_nothing():
    state = settled(2).servers[0].state
    state, _ = membership.step(TWO, state, Tick(state.ticked + SECOND))
    asked = state.doubt
    state, _ = membership.step(TWO, state, Tick(state.ticked + SECOND))
    peer = state.peers[1]
    known = (Known(0, state.boot, asked, True, False, False),)
    answer = Heartbeat(peer.beat + 1, state.number, False, (1,), peer.info, 1, known, True)
    state, _ = membership.step(TWO, state, Received(state.ticked + 1, 1, peer.boot, answer))
    assert state.doubt
    known = (Known(0, state.boot, state.doubt, True, False, False),)
    answer = Heartbeat(peer.beat + 2, state.number, False, (1,), peer.info, 1, known, True)
    state, _ = membership.step(TWO, state, Received(state.ticked + 2, 1, peer.boot, answer))
    assert not state.doubt
    state, commands = membership.step(TWO, state, Tick(state.ticked + TWO.pulse))
    assert any(isinstance(c, Lease) for c in commands)


def test_a_server_without_others_need_not_ask():
    alone = Settings(0, (0,), 1)
    state = membership.new(alone, 7, 0)
    now = 0
    for _ in range(alone.mlost + 1):
        now += alone.pulse
        state, _ = membership.step(alone, state, Tick(now))
    state, commands = membership.step(alone, state, Tick(now + SECOND))
    assert any(isinstance(c, Lease) for c in commands)


def test_two_servers_in_doubt_do_not_vouch_for_each_other():
    world = settled(3)
    pair = world.servers[1:]
    for server in pair:
        server.paused = True
    world.run(SECOND)
    assert set(world.servers[0].table()) == {0}, "the third has taken over"
    world.cut(0, 1)
    world.cut(0, 2)
    for server in pair:
        server.backlog = []
        server.resume()
    world.run(pair[0].settings.coordinator_lost_after)
    assert not any(server.state.owning for server in pair)
    world.settle()
    world.assert_owned_once()


def test_a_late_tick_accuses_nobody():
    """Four pulses late, less than the lease: the others were not heard because this server did not listen."""
    world = settled(3)
    late = world.servers[1]
    number = late.state.number
    state, _ = membership.step(late.settings, late.state, Tick(late.state.ticked + 10 * late.settings.pulse))
    state, commands = membership.step(late.settings, state, Tick(state.ticked + late.settings.pulse))
    assert state.number == number
    assert not any(isinstance(c, Send) and isinstance(c.message, View) for c in commands)


def test_a_partial_cut_leaves_one_owner():
    world = settled(3)
    world.cut(1, 2)
    world.settle()
    world.assert_owned_once()
    assert set(world.servers[0].table()) == {0, 1}, "the higher number of the pair is left out"
    world.cuts.clear()
    world.settle()
    assert set(world.servers[0].table()) == {0, 1, 2}


def test_a_cut_from_the_coordinator_with_a_witness_between():
    world = settled(3)
    world.cut(0, 1)
    world.settle()
    world.assert_owned_once()
    assert set(world.servers[0].table()) == {0, 2}
    assert not world.servers[1].state.owning


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_a_one_way_cut(one, other):
    world = settled(3)
    world.cut(one, other, one_way=True)
    world.settle()
    world.assert_owned_once()


def test_a_chain_has_one_group_of_owners():
    world = World(4, 3)
    for pair in ((0, 1), (0, 3), (1, 2)):
        world.cut(*pair)  # what is left is 0-2-3-1
    world.settle()
    world.assert_owned_once()


def test_partitions_serve_by_themselves_and_heal():
    world = settled(5)
    for one in (0, 1):
        for other in (2, 3, 4):
            world.cut(one, other)
    world.settle()
    world.assert_owned_once()
    assert set(world.servers[0].table()) == {0, 1}
    assert set(world.servers[2].table()) == {2, 3, 4}
    world.cuts.clear()
    world.settle()
    world.assert_owned_once()
    assert len({s.state.number for s in world.servers}) == 1


def test_nothing_happens_while_nothing_happens():
    world = settled(5)
    numbers = len(world.views)
    world.run(20 * SECOND)
    assert len(world.views) == numbers


def test_a_boot_during_a_coordinators_death():
    world = settled(3)
    world.servers[2].crash()
    world.settle()
    world.servers[2].boot()
    world.run(30 * MS)
    world.servers[0].crash()
    world.settle()
    world.assert_owned_once()


# --- histories --------------------------------------------------------------------------------------

FAULTS = st.sampled_from(["crash", "boot", "cut", "one way", "heal", "pause", "resume", "power", "leave", "noise"])
STEPS = st.lists(st.tuples(FAULTS, st.integers(0, 31), st.integers(0, 31), st.integers(0, 400)), max_size=12)


def apply(world, fault, one, other):
    server = world.servers[one]
    if fault == "crash":
        server.crash()
    elif fault == "boot" and not server.up:
        server.boot()
    elif fault in ("cut", "one way") and one != other:
        world.cut(one, other, one_way=fault == "one way")
    elif fault == "heal":
        world.cuts.clear()
    elif fault == "pause" and server.up:
        server.paused = True
    elif fault == "resume" and server.paused:
        server.resume()
    elif fault == "power" and server.up and not server.paused:
        server.power = other % 4
        server.take(membership.SetPowers(world.now, (server.power,)))
    elif fault == "leave" and server.up and not server.paused:
        server.leave()
    elif fault == "noise":
        world.loss, world.duplicate, world.delay = 0.2, 0.2, (0, 40 * MS)


def end_the_faults(world):
    world.loss, world.duplicate, world.delay = 0.0, 0.0, (0, 3 * MS)
    for server in world.servers:
        if server.paused:
            server.resume()


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(size=st.integers(2, 7), seed=st.integers(0, 10**6), steps=STEPS)
def test_any_history_ends_with_one_owner_in_each_connected_group(size, seed, steps):
    world = World(size, seed)
    for fault, one, other, wait in steps:
        apply(world, fault, one % size, other % size)
        world.run(wait * MS)
    end_the_faults(world)
    world.settle()
    world.assert_owned_once()


@settings(max_examples=examples(2), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(size=st.integers(8, 40), seed=st.integers(0, 10**6), steps=STEPS)
def test_large_groups_too(size, seed, steps):
    world = World(size, seed)
    for fault, one, other, wait in steps[:6]:
        apply(world, fault, one % size, other % size)
        world.run(wait * MS)
    end_the_faults(world)
    world.settle()
    world.assert_owned_once()


@pytest.mark.parametrize("seed", range(examples(6)))
def test_no_bucket_has_two_owners_while_views_change(seed):
    """Not even for the time in which one server has the new view and another one still the old."""
    world = World(4, seed)
    world.settle()
    for step in range(6):
        victim = world.servers[world.random.randrange(4)]
        if not victim.up:
            victim.boot()
        elif step % 3 == 2:
            victim.leave()
        else:
            victim.power = world.random.randrange(4)
            victim.take(SetPowers(world.now, (victim.power,)))
        for _ in range(400):
            world.run(MS)
            taken = 0
            for server in world.servers:
                assert not taken & server.owned * server.up
                taken |= server.owned * server.up
