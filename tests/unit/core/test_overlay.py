"""Who sends to whom in a large group: bounded, mutual, nobody forgotten, and no vote that a single server can win."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core import overlay
from safekit_py.core.overlay import FULL, NEAR, TOLD, TURN

SIZES = st.integers(FULL + 1, 250)


@st.composite
def groups(draw):
    """A large group's servers: any numbers, in order."""
    size = draw(SIZES)
    return tuple(sorted(draw(st.sets(st.integers(0, 249), min_size=size, max_size=size))))


@pytest.mark.parametrize("size", range(1, FULL + 1))
def test_in_a_small_group_all_are_neighbours_and_nobody_waits_for_a_turn(size):
    nodes = tuple(range(size))
    for server in nodes:
        assert overlay.neighbours(nodes, server) == set(nodes) - {server}
        assert overlay.in_turn(nodes, server, 7) == ()
    assert overlay.period(nodes) == 0


@given(groups())
def test_to_be_neighbours_is_mutual_and_each_has_as_many(nodes):
    for server in nodes:
        near = overlay.neighbours(nodes, server)
        assert len(near) == min(NEAR, len(nodes) - 1)
        assert server not in near
        assert all(server in overlay.neighbours(nodes, other) for other in near)


@given(groups(), st.integers(0, 1 << 40), st.data())
def test_within_a_period_everybody_has_been_sent_to(nodes, beat, data):
    server = data.draw(st.sampled_from(nodes))
    near = overlay.neighbours(nodes, server)
    reached = set(near)
    for later in range(beat, beat + overlay.period(nodes)):
        turn = overlay.in_turn(nodes, server, later)
        assert len(turn) <= TURN
        assert not near & {*turn}
        reached |= {*turn}
    assert reached == set(nodes) - {server}


@given(groups(), st.integers(0, 1 << 40), st.data())
def test_what_is_repeated_is_bounded_and_holds_whoever_is_sent_to(nodes, beat, data):
    server = data.draw(st.sampled_from(nodes))
    told = overlay.told(nodes, server, beat)
    assert len(told) == len(set(told)) <= NEAR + TURN + TOLD
    assert overlay.neighbours(nodes, server) | {*overlay.in_turn(nodes, server, beat)} <= {*told}
    assert server not in told
    rounds = -(-len(nodes) // TOLD)
    assert set().union(*(overlay.told(nodes, server, beat + i) for i in range(rounds))) == set(nodes) - {server}


@pytest.mark.parametrize("size", [17, 32, 64, 200, 250])
def test_any_server_is_few_steps_away_and_a_lost_rack_parts_nobody(size):
    nodes = tuple(range(size))
    rack = set(range(3, 3 + size // 4))
    rest = set(nodes) - rack
    reached, steps, edge = {0}, 0, {0}
    while edge:
        edge = {other for one in edge for other in overlay.neighbours(nodes, one)} - reached - rack
        reached |= edge
        steps += bool(edge)
    assert reached == rest
    assert steps <= 5


@given(groups(), st.data())
def test_a_vote_needs_more_than_half_of_the_living_neighbours(nodes, data):
    living = data.draw(st.sets(st.sampled_from(nodes), min_size=2))
    accusers = {
        server: data.draw(st.sets(st.sampled_from(sorted(overlay.neighbours(nodes, server)))))
        for server in data.draw(st.sets(st.sampled_from(nodes), max_size=8))
    }
    gone = overlay.outvoted(nodes, accusers, living)
    assert gone <= set(accusers)
    for server in nodes:
        voters = {s for s in overlay.neighbours(nodes, server) if s in living and s not in gone}
        against = voters & set(accusers.get(server, ()))
        if server in gone:
            assert accusers[server]
        else:
            assert 2 * len(against) <= len(voters)


def test_a_server_whose_own_link_has_failed_wins_no_vote():
    """It misses everybody, everybody misses it."""
    nodes = tuple(range(40))
    accusers = {other: {5} for other in overlay.neighbours(nodes, 5)} | {5: set(overlay.neighbours(nodes, 5))}
    assert overlay.outvoted(nodes, accusers, set(nodes)) == {5}


def test_neighbours_that_are_lost_together_have_no_vote():
    """A server with all but one of its neighbours gone is lost when the last one says so."""
    nodes = tuple(range(20))
    near = sorted(overlay.neighbours(nodes, 0))
    assert overlay.outvoted(nodes, {0: {near[0]}}, set(nodes)) == frozenset()
    assert overlay.outvoted(nodes, {0: {near[0]}}, {0, near[0]}) == {0}
