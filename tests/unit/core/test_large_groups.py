"""Groups of more servers than send to each other in every pulse, in simulated time."""

import pytest
from simulator import MS, PULSE, Heartbeat, World

from safekit_py.core import membership, overlay
from safekit_py.core.group import SetPowers

SECOND = 1000 * MS
SEEN = 300 * MS  # five pulses without a heartbeat, some to hear of it, and the view


def settled(size, seed=0):
    world = World(size, seed)
    world.run(SECOND)
    world.assert_owned_once()
    return world


def members(world, number):
    return {member.server for member in world.servers[number].state.view.members}


def seen_without(world, *gone):
    """Every running server has, and may take what it is given by, a view without those."""
    running = [server for server in world.servers if server.up]
    expected = {server.number for server in running} - {*gone}
    assert all(members(world, server.number) == expected for server in running if server.number not in gone)
    assert all(server.state.owning for server in running if server.number not in gone)


@pytest.mark.parametrize("size", [17, 40, 80])
def test_a_quiet_server_sends_as_much_in_any_group_and_tells_as_much(size):
    world, facts = settled(size), []
    send = world.send

    def seen(sender, boot, command):
        if isinstance(command.message, Heartbeat):
            facts.append(len(command.message.known))
        send(sender, boot, command)

    world.send, world.sent = seen, 0
    world.run(20 * PULSE)
    assert world.sent / size / 20 <= overlay.NEAR + overlay.TURN + 1
    assert max(facts) <= overlay.NEAR + overlay.TURN + overlay.TOLD


@pytest.mark.parametrize("victim", [0, 21])
def test_a_dead_server_is_missed_by_all_and_only_its_buckets_move(victim):
    world = settled(40, victim)
    before, views = world.servers[7].table(), len(world.views)
    world.servers[victim].crash()
    world.run(SEEN)
    seen_without(world, victim)
    after = world.servers[7].table()
    assert all(one == other for one, other in zip(before, after, strict=True) if victim not in (one, other) or one == 7)
    assert len(world.views) == views + 1


def test_a_rack_is_lost_at_once():
    world = settled(40)
    for victim in range(10, 20):
        world.servers[victim].crash()
    world.run(2 * SEEN)
    seen_without(world)
    world.assert_owned_once()


def test_a_server_whose_link_fails_accuses_everybody_and_loses():
    world = settled(30)
    views = len(world.views)
    for other in range(30):
        if other != 5:
            world.cut(5, other)
    world.run(SEEN)
    assert all(members(world, n) == set(range(30)) - {5} for n in range(30) if n != 5)
    assert not world.servers[5].state.owning
    assert len([v for v in world.views.values() if v.has(7)]) == views + 1


def test_a_join_and_a_leave_need_one_view_each():
    world = settled(30)
    world.servers[12].crash()
    world.run(SECOND)
    views = len(world.views)
    world.servers[12].boot()
    world.run(SECOND)
    seen_without(world)
    assert len(world.views) == views + 1
    world.servers[12].leave()
    world.run(3 * PULSE)
    seen_without(world)
    assert len(world.views) == views + 2


def test_a_changed_power_is_known_to_all_in_a_few_pulses():
    world = settled(40)
    world.servers[33].power = 3
    world.servers[33].take(SetPowers(world.now, (3,)))
    world.run(3 * PULSE)
    assert all(len([o for o in server.table() if o == 33]) > 4000 for server in world.servers)


@pytest.mark.parametrize("seed", range(4))
def test_two_that_do_not_hear_each_other_wait_for_no_word_that_cannot_come(seed):
    """What is in force where is told on by others: the word of one does not reach the other by itself."""
    world = World(23, seed)
    world.run(seed * 80 * MS)
    world.cut(19, 7, one_way=True)
    world.settle()
    world.assert_owned_once()


def test_halves_serve_by_themselves_and_heal():
    world = settled(24)
    for one in range(12):
        for other in range(12, 24):
            world.cut(one, other)
    world.settle()
    world.assert_owned_once()
    assert set(world.servers[0].table()) == set(range(12))
    assert set(world.servers[20].table()) == set(range(12, 24))
    world.cuts.clear()
    world.run(SECOND)
    world.assert_owned_once()
    assert len({server.state.number for server in world.servers}) == 1


def test_loss_on_the_way_costs_nobody_a_place():
    world = settled(30)
    views = len(world.views)
    world.loss = 0.1
    world.run(10 * SECOND)
    assert len(world.views) == views


def test_no_bucket_has_two_owners_while_views_change():
    world = settled(20, 5)
    for step in range(4):
        victim = world.servers[world.random.randrange(20)]
        if not victim.up:
            victim.boot()
        elif step % 3 == 2:
            victim.leave()
        else:
            victim.power = world.random.randrange(4)
            victim.take(SetPowers(world.now, (victim.power,)))
        for _ in range(300):
            world.run(MS)
            taken = 0
            for server in world.servers:
                assert not taken & server.owned * server.up
                taken |= server.owned * server.up
    world.run(membership.settled_after(world.servers[0].settings))
    world.assert_owned_once()
