"""Who may be primary: playbooks of situations and decisions, and what holds whatever two servers say."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.generation import Generation, compare
from safekit_py.plugins.mirror.orders import command
from safekit_py.plugins.mirror.roles import SERVES, Rules, Side, elect, react, refusal, returns

from safekit_py.api import Readiness, State, StateError

S, READY = State, Readiness.READY
ONE = gen.sharing(gen.first("d1"))  # the primary of a synchronised pair
TWO = gen.synced(Generation(), ONE)
WENT = gen.alone(ONE, "d2")
OTHER = gen.alone(TWO, "d3")
NONE = Generation()
PLAIN, WITNESS, WAITS = Rules(), Rules(witness=True), Rules(isolation="wait")


def side(node, state, generation, **more):
    return Side(node, state, READY, generation, **more)


def waiting(generation, node=0, **more):
    return side(node, S.WAIT, generation, **more)


# --- a server that starts -------------------------------------------------------------------------

ALONE_AT_HOME = [
    # its data, rules, silent, granted -> goal, a new identifier, asks the witness
    (NONE, PLAIN, True, None, S.WAIT, False, False),
    (gen.first("d1"), PLAIN, False, None, S.WAIT, False, False),
    (gen.first("d1"), PLAIN, True, None, S.ALONE, False, False),
    (ONE, PLAIN, True, None, S.WAIT, False, False),
    (TWO, PLAIN, True, None, S.WAIT, False, False),
    (WENT, PLAIN, True, None, S.ALONE, False, False),
    (gen.outdated(WENT), PLAIN, True, None, S.WAIT, False, False),
    (WENT, WITNESS, True, None, S.ALONE, False, True),
    (WENT, WITNESS, True, True, S.ALONE, False, False),
    (WENT, WITNESS, True, False, S.WAIT, False, False),
    (TWO, WITNESS, True, None, S.ALONE, True, True),
    (TWO, WITNESS, True, False, S.WAIT, False, False),
]


@pytest.mark.parametrize(("data", "rules", "silent", "granted", "goal", "new", "lease"), ALONE_AT_HOME)
def test_a_server_that_starts_and_hears_nobody(data, rules, silent, granted, goal, new, lease):
    found = elect(waiting(data), None, rules, silent=silent, granted=granted)
    assert (found.goal, found.new_data, found.lease) == (goal, new, lease)


def test_the_witness_must_know_of_data_before_it_lets_shared_ones_rise():
    assert elect(waiting(TWO), None, WITNESS, silent=True, granted=None).known
    assert not elect(waiting(WENT), None, WITNESS, silent=True, granted=None).known


def test_a_witness_that_proves_nothing_is_not_asked_about_shared_data():
    found = elect(waiting(TWO), None, Rules(witness=True, provable=False), silent=True, granted=None)
    assert (found.goal, found.lease) == (S.WAIT, False)


WISHES = [
    (NONE, "prim", S.ALONE), (ONE, "prim", S.ALONE), (gen.outdated(ONE), "prim", S.WAIT),
    (gen.outdated(ONE), "primforce", S.ALONE), (WENT, "second", S.WAIT),
]  # fmt: skip


@pytest.mark.parametrize(("data", "wish", "goal"), WISHES)
def test_what_a_person_asks_of_a_server_that_hears_nobody(data, wish, goal):
    found = elect(waiting(data, wish=wish), None, PLAIN, silent=False, granted=None)
    assert found.goal is goal
    if goal is S.ALONE and data.shared:
        assert found.new_data, "the other may have gone on from the same"


JOINS = [
    # own data, the primary's -> goal, aside, everything anew
    (NONE, ONE, S.SECOND, False, True),
    (TWO, ONE, S.SECOND, False, False),
    (TWO, WENT, S.SECOND, False, False),
    (OTHER, WENT, S.SECOND, True, False),
    (WENT, TWO, S.WAIT, False, False),
    (gen.first("x"), ONE, S.WAIT, False, False),
]


@pytest.mark.parametrize(("mine", "theirs", "goal", "aside", "full"), JOINS)
def test_a_server_that_starts_and_finds_a_primary(mine, theirs, goal, aside, full):
    found = elect(waiting(mine), side(1, S.ALONE, theirs), PLAIN, silent=False, granted=None)
    assert (found.goal, found.aside, found.fullsync) == (goal, aside, full)
    if goal is S.WAIT:
        assert "fullsync" in found.remedy


def test_a_server_that_finds_a_primary_with_newer_data_notes_at_once_that_it_is_outdated():
    """The primary may die before the first byte of the resynchronisation: its data are newer all the same."""
    for mine, theirs, outdate in ((TWO, WENT, True), (OTHER, WENT, True), (TWO, ONE, False), (NONE, ONE, False)):
        found = elect(waiting(mine), side(1, S.ALONE, theirs), PLAIN, silent=False, granted=None)
        assert (found.goal, found.outdate) == (S.SECOND, outdate)
    after = gen.outdated(TWO)
    assert elect(waiting(after), None, PLAIN, silent=True, granted=None).goal is S.WAIT


def test_a_person_can_give_up_what_is_newer_and_it_is_kept_aside():
    for data in (WENT, OTHER):
        found = elect(waiting(data, wish="secondforce"), side(1, S.ALONE, WENT), PLAIN, silent=False, granted=None)
        assert found.goal is S.SECOND
        assert found.fullsync
    mine = elect(waiting(WENT, wish="secondforce"), side(1, S.ALONE, TWO), PLAIN, silent=False, granted=None)
    assert mine.aside


def leader(low, high, rules=PLAIN):
    """The number of the server that rises when both wait, after both have agreed."""
    sides = [low, high]
    for _ in range(3):
        found = [
            elect(me, other, rules, silent=False, granted=True) for me, other in (sides, sides[::-1])
        ]  # fmt: skip
        sides = [
            replace(me, claim=me.node + 1 if mine.claim else 0, yields=other.claim if mine.yields else 0)
            for me, other, mine in zip(sides, sides[::-1], found, strict=True)
        ]
    risen = [me.node for me, mine in zip(sides, found, strict=True) if mine.goal in SERVES]
    assert len(risen) <= 1, "both rise"
    return risen[0] if risen else None


RESYNCING = gen.resyncing(OTHER)
BOTH = [
    (waiting(ONE), waiting(TWO, 1), 0),  # it was the primary
    (waiting(TWO), waiting(ONE, 1), 1),
    (waiting(gen.demoted(ONE)), waiting(TWO, 1), 0),  # the lower number
    (waiting(WENT), waiting(TWO, 1), 0),
    (waiting(TWO), waiting(WENT, 1), 1),
    (waiting(gen.outdated(ONE)), waiting(TWO, 1), 1),
    (waiting(gen.outdated(ONE)), waiting(gen.outdated(TWO), 1), None),
    (waiting(NONE), waiting(gen.first("d1"), 1), 1),
    (waiting(NONE), waiting(NONE, 1), None),
    (waiting(NONE, wish="prim"), waiting(NONE, 1), 0),
    (waiting(NONE, wish="prim"), waiting(gen.first("d1"), 1), 1),
    (waiting(gen.first("x")), waiting(gen.first("y"), 1), None),
    (waiting(gen.first("x")), waiting(gen.first("y"), 1, wish="primforce"), 1),
    (waiting(ONE, wish="second"), waiting(TWO, 1), 1),
    (waiting(TWO, wish="prim"), waiting(ONE, 1), 0),
    (waiting(WENT), waiting(OTHER, 1), 0),
    (waiting(WENT), waiting(OTHER, 1, began=S.PRIM), 1),  # the former primary stays
    (waiting(WENT), waiting(gen.alone(OTHER, "d4"), 1), 1),  # the longer history
    (waiting(RESYNCING), waiting(WENT, 1), 1),  # half of it is the other's already
    (waiting(WENT), waiting(gen.outdated(gen.alone(OTHER, "d4")), 1), 0),
    (waiting(RESYNCING), waiting(gen.outdated(WENT), 1), None),
]


@pytest.mark.parametrize(("low", "high", "wanted"), BOTH)
def test_two_that_start_and_hear_each_other(low, high, wanted):
    assert leader(low, high) == wanted


def test_defaultprim_decides_between_equals():
    one, two = waiting(gen.demoted(ONE)), waiting(TWO, 1)
    assert leader(one, two, Rules(node=1)) == 1


# --- a server that runs ---------------------------------------------------------------------------


def second(data=TWO, **more):
    return side(1, S.SECOND, data, **more)


LOSSES = [
    # own data, rules, granted -> goal
    (TWO, PLAIN, None, S.ALONE),
    (TWO, WAITS, None, S.WAIT),
    (TWO, WITNESS, None, S.ALONE),
    (TWO, WITNESS, True, S.ALONE),
    (TWO, WITNESS, False, S.WAIT),
    (TWO, Rules(failover=False), None, S.WAIT),
    (gen.outdated(TWO), PLAIN, None, S.WAIT),
    (gen.resyncing(TWO), WITNESS, True, S.WAIT),
]


@pytest.mark.parametrize(("data", "rules", "granted", "goal"), LOSSES)
def test_a_secondary_that_loses_its_primary(data, rules, granted, goal):
    found = react(second(data), None, rules, silent=True, granted=granted)
    assert found.goal is goal
    if goal is S.ALONE:
        assert found.new_data
        assert found.lease == (rules.witness and granted is None)


def test_a_secondary_waits_while_replication_still_runs_or_the_timeout_has_not_passed():
    assert react(second(connected=True), None, PLAIN, silent=True, granted=None).goal is S.SECOND
    assert react(second(), None, PLAIN, silent=False, granted=None).goal is S.SECOND


def test_a_secondary_notes_that_it_is_outdated_when_its_primary_cannot_go_on():
    frozen = side(0, S.PRIM, ONE, frozen=True)
    assert react(second(), frozen, PLAIN, silent=False, granted=None).outdate
    assert not react(second(connected=True), frozen, PLAIN, silent=False, granted=None).outdate
    assert not react(second(gen.outdated(TWO)), frozen, PLAIN, silent=False, granted=None).outdate
    assert not react(second(), replace(frozen, frozen=False), PLAIN, silent=False, granted=None).outdate


def test_a_secondary_does_not_take_over_before_the_other_has_given_the_data_up():
    stops = waiting(gen.demoted(ONE), leaving=False)
    assert react(second(), stops, PLAIN, silent=False, granted=None).goal is S.SECOND
    assert react(second(), replace(stops, leaving=True), PLAIN, silent=False, granted=None).goal is S.ALONE


def test_a_secondary_does_not_take_over_from_newer_data():
    assert react(second(), waiting(WENT), PLAIN, silent=False, granted=None).goal is S.WAIT


PRIMARY_LOSSES = [
    # the other server, silent, granted, rules -> goal
    (None, False, None, PLAIN, S.PRIM),
    (None, True, None, PLAIN, S.ALONE),
    (None, True, False, WITNESS, S.WAIT),
    (None, True, True, WITNESS, S.ALONE),
    (second(), False, None, PLAIN, S.PRIM),
    (second(outdated_for="d1"), False, None, PLAIN, S.ALONE),
    (second(outdated_for="d0"), False, None, PLAIN, S.PRIM),
    (waiting(TWO, 1), False, None, PLAIN, S.ALONE),
    (side(1, S.STOP, TWO), False, None, PLAIN, S.ALONE),
]


@pytest.mark.parametrize(("peer", "silent", "granted", "rules", "goal"), PRIMARY_LOSSES)
def test_a_primary_that_loses_its_secondary(peer, silent, granted, rules, goal):
    found = react(side(0, S.PRIM, ONE, frozen=True), peer, rules, silent=silent, granted=granted)
    assert found.goal is goal
    if goal is S.ALONE:
        assert found.new_data


def test_a_primary_that_lost_nothing_stays():
    assert react(side(0, S.PRIM, ONE), None, PLAIN, silent=True, granted=None).goal is S.PRIM
    connected = side(0, S.PRIM, ONE, frozen=True, connected=True)
    assert react(connected, None, PLAIN, silent=True, granted=None).goal is S.PRIM


def test_alone_becomes_prim_when_the_secondary_has_everything():
    assert react(side(0, S.ALONE, WENT), second(), PLAIN, silent=False, granted=None).goal is S.ALONE
    connected = side(0, S.ALONE, gen.sharing(WENT), connected=True)
    assert react(connected, second(), PLAIN, silent=False, granted=None).goal is S.PRIM


def test_alone_that_is_fenced_asks_the_witness_again():
    fenced = side(0, S.ALONE, WENT, frozen=True)
    assert react(fenced, None, WITNESS, silent=True, granted=None).lease
    assert react(fenced, None, WITNESS, silent=True, granted=False).goal is S.WAIT
    assert react(fenced, None, WITNESS, silent=True, granted=True).goal is S.ALONE


REFUSED = [
    # itself, the other, what the other had when it was heard last -> whether it may still become primary
    (side(1, S.SECOND, TWO), None, ONE, True),
    (side(1, S.SECOND, TWO), None, None, True),
    (side(1, S.SECOND, TWO), side(0, S.ALONE, ONE), ONE, False),
    (side(1, S.SECOND, gen.resyncing(TWO)), None, ONE, False),
    (side(1, S.SECOND, TWO), None, WENT, False),
    (side(1, S.SECOND, TWO), side(0, S.WAIT, WENT), WENT, False),
    (waiting(gen.outdated(TWO), 1, wish="primforce"), None, WENT, True),
    (waiting(gen.outdated(TWO), 1, wish="primforce"), side(0, S.PRIM, ONE), ONE, False),
    (waiting(NONE, wish="prim"), None, None, True),
]


@pytest.mark.parametrize(("me", "peer", "last", "may"), REFUSED)
def test_what_was_decided_is_looked_at_again_before_it_is_done(me, peer, last, may):
    assert (refusal(me, peer, last) == "") is may


def test_a_secondary_notes_that_it_is_outdated_when_its_primary_has_gone_on():
    """Also while its connection still looks whole: one direction alone may be cut."""
    found = react(side(1, S.SECOND, TWO, connected=True), side(0, S.ALONE, WENT), PLAIN, silent=False, granted=None)
    assert (found.goal, found.outdate) == (S.SECOND, True)


def test_an_alone_server_that_lost_the_secondary_it_had_just_made_the_same_goes_on_with_new_data():
    """It is not PRIM yet: between the end of the resynchronisation and that state the link was lost."""
    me = side(0, S.ALONE, ONE, frozen=True)
    found = react(me, None, PLAIN, silent=True, granted=None)
    assert (found.goal, found.new_data) == (S.ALONE, True)
    assert react(me, None, WITNESS, silent=True, granted=None).lease
    assert react(me, side(1, S.SECOND, TWO), PLAIN, silent=False, granted=None).goal is S.PRIM


def test_the_former_primary_of_an_exchange_stays_when_its_data_begin_to_be_replaced():
    """The new primary's first bytes may come before the heartbeat that says what it is."""
    me = side(0, S.SECOND, gen.resyncing(ONE), began=S.PRIM)
    assert react(me, side(1, S.SECOND, TWO), PLAIN, silent=False, granted=None).goal is S.SECOND
    assert react(me, side(1, S.WAIT, TWO), PLAIN, silent=False, granted=None).goal is S.WAIT
    assert react(me, None, PLAIN, silent=True, granted=None).goal is S.WAIT
    beside = side(0, S.SECOND, gen.resyncing(ONE))
    assert react(beside, side(1, S.SECOND, TWO), PLAIN, silent=False, granted=None).goal is S.WAIT


def test_a_primary_that_was_alone_gives_its_role_to_the_server_that_defaultprim_names():
    named, both = Rules(node=1), {"connected": True}
    me, peer = side(0, S.PRIM, ONE, **both), side(1, S.SECOND, TWO, **both)
    assert returns(me, peer, named)
    assert not returns(me, peer, Rules(node=0))
    assert not returns(me, peer, PLAIN)
    assert not returns(me, peer, Rules(node=1, failover=False))
    assert not returns(me, None, named)
    assert not returns(replace(me, state=S.ALONE), peer, named)
    assert not returns(replace(me, connected=False), peer, named)
    assert not returns(replace(me, frozen=True), peer, named)
    assert not returns(me, replace(peer, readiness=Readiness.TRANSIENT), named)
    assert not returns(me, replace(peer, generation=gen.outdated(TWO)), named)


def test_an_exchange_of_roles():
    was, becomes = side(0, S.SECOND, TWO, began=S.PRIM), second()
    assert react(was, becomes, PLAIN, silent=False, granted=None).goal is S.SECOND
    assert react(becomes, was, PLAIN, silent=False, granted=None).goal is S.PRIM
    assert react(second(), side(0, S.SECOND, TWO), PLAIN, silent=False, granted=None).goal is S.WAIT


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("me", "peer", "verb", "code"),
    [
        (waiting(TWO), side(1, S.PRIM, ONE), "prim", "mirror.other-is-primary"),
        (waiting(TWO), side(1, S.ALONE, WENT), "primforce", "mirror.other-is-primary"),
        (waiting(gen.outdated(TWO)), None, "prim", "mirror.not-uptodate"),
        (waiting(TWO), waiting(WENT, 1), "prim", "mirror.not-uptodate"),
        (side(0, S.PRIM, ONE), second(), "second", "mirror.running"),
        (side(0, S.ALONE, WENT), None, "swap", "mirror.no-swap"),
        (side(0, S.PRIM, ONE), second(connected=True), "swap", "mirror.no-swap"),
        (side(0, S.PRIM, ONE, connected=True), replace(second(), readiness=Readiness.TRANSIENT), "swap",
         "mirror.no-swap"),
    ],
)  # fmt: skip
def test_commands_that_are_refused(me, peer, verb, code):
    with pytest.raises(StateError) as caught:
        command(me, peer, verb)
    assert caught.value.problems[0].code == code
    assert caught.value.problems[0].remedy


@pytest.mark.parametrize(
    ("me", "peer", "verb", "goal", "discards"),
    [
        (waiting(NONE), None, "prim", S.ALONE, False),
        (waiting(TWO), None, "prim", S.ALONE, True),
        (waiting(TWO), waiting(ONE, 1), "prim", S.ALONE, False),
        (waiting(gen.outdated(TWO)), None, "primforce", S.ALONE, True),
        (waiting(TWO), None, "second", S.SECOND, False),
        (waiting(TWO), None, "second fullsync", S.SECOND, True),
        (waiting(TWO), None, "secondforce", S.SECOND, True),
        (side(0, S.PRIM, ONE, connected=True), second(), "swap", S.SECOND, False),
        (second(connected=True), side(0, S.PRIM, ONE), "swap", S.PRIM, False),
    ],
)
def test_commands_that_are_possible_say_what_they_discard(me, peer, verb, goal, discards):
    found = command(me, peer, verb)
    assert found.goal is goal
    assert bool(found.discards) == discards


# --- whatever they say ----------------------------------------------------------------------------

IDS = st.sampled_from(["", "d1", "d2", "d3"])
GENERATIONS = st.builds(
    Generation,
    data=IDS,
    history=st.lists(st.sampled_from(["d1", "d2", "d3"]), max_size=2, unique=True).map(tuple),
    uptodate=st.booleans(),
    shared=st.booleans(),
    primary=st.booleans(),
    base=IDS,
)
RULES = st.builds(Rules, st.booleans(), st.sampled_from(["alone", "wait"]), st.sampled_from([-1, 0, 1]), st.booleans())
GRANTED = st.sampled_from([None, True, False])


def sides(node, states=tuple(S), wishes=("", "prim", "primforce", "second", "secondforce")):
    flags = st.booleans()
    return st.builds(
        Side, st.just(node), st.sampled_from(states), st.sampled_from(Readiness), GENERATIONS, st.just(True), flags,
        flags, flags, IDS, st.sampled_from([0, 7]), st.sampled_from([0, 7]),
        st.sampled_from([None, S.PRIM, S.SECOND]), st.sampled_from(wishes),
    )  # fmt: skip


PEERS = st.one_of(st.none(), sides(1))
RUNNING = (S.PRIM, S.ALONE, S.SECOND)


@settings(max_examples=500)
@given(sides(0, (S.WAIT,), ("", "second")), PEERS, RULES, st.booleans(), GRANTED)
def test_without_a_persons_word_nobody_rises_with_data_that_are_not_up_to_date(me, peer, rules, silent, granted):
    found = elect(me, peer, rules, silent=silent, granted=granted)
    if found.goal in SERVES:
        assert me.generation.uptodate
        assert me.generation.data
        assert not (peer is not None and peer.state in (*SERVES, S.SECOND))


@settings(max_examples=500)
@given(sides(0, (S.SECOND,)), PEERS, RULES, st.booleans(), GRANTED)
def test_a_secondary_takes_over_only_with_data_that_are_up_to_date(me, peer, rules, silent, granted):
    found = react(me, peer, rules, silent=silent, granted=granted)
    if found.goal in SERVES:
        assert me.generation.uptodate
        assert peer is None or peer.state not in SERVES
        if peer is None:
            assert silent
            assert rules.failover
            assert rules.witness or rules.isolation == "alone"
        elif peer.state is not S.SECOND:
            assert compare(me.generation, peer.generation).kind in ("same", "mine")


@settings(max_examples=500)
@given(sides(0), PEERS, RULES, st.booleans(), GRANTED)
def test_a_witness_is_asked_before_anybody_goes_on_alone(me, peer, rules, silent, granted):
    look = react if me.state in RUNNING else elect
    if me.state is S.ALONE and not me.frozen:
        return
    found = look(me, peer, rules, silent=silent, granted=granted)
    kept = peer is not None and peer.state in SERVES and me.state in SERVES
    if rules.witness and found.goal is S.ALONE and not kept:
        assert granted is not False
        assert found.lease == (granted is None)


@settings(max_examples=500)
@given(sides(0, (S.WAIT,)), sides(1, (S.WAIT,)), RULES)
def test_two_that_wait_never_both_rise(low, high, rules):
    leader(low, high, rules)


@settings(max_examples=300)
@given(sides(0, SERVES), sides(1, SERVES), RULES)
def test_of_two_primaries_exactly_one_gives_way(one, two, rules):
    kind, mirrored = compare(one.generation, two.generation).kind, compare(two.generation, one.generation).kind
    if (kind, mirrored) in (("mine", "mine"), ("theirs", "theirs")):
        return  # each in the other's history: no transition leads there
    goals = [
        react(me, peer, rules, silent=False, granted=True).goal is me.state for me, peer in ((one, two), (two, one))
    ]
    assert sorted(goals) == [False, True]


@settings(max_examples=300)
@given(sides(0, (S.PRIM,)), PEERS, RULES, st.booleans(), GRANTED)
def test_a_primary_goes_on_alone_only_with_a_new_identifier(me, peer, rules, silent, granted):
    found = react(me, peer, rules, silent=silent, granted=granted)
    if found.goal is S.ALONE:
        assert found.new_data
        assert me.frozen
        assert not me.connected
        assert silent if peer is None else peer.outdated_for == me.generation.data or peer.state in (S.WAIT, S.STOP)
