"""The replay guard over random and hostile orders of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core.replay import ADMITTED, REPLAYED, RETIRED, UNPROVEN, WINDOW, Guard, admit

BOOTS = st.integers(1, 4)
COUNTERS = st.one_of(st.integers(0, 2 * WINDOW), st.integers(2**64 - 2 * WINDOW, 2**64 - 1))
DATAGRAMS = st.tuples(BOOTS, COUNTERS, st.integers(0, 2), st.booleans())


def proven(counter=0, lan=0, boot=7):
    guard, verdict = admit(Guard(), boot, counter, lan, echoes=True)
    assert verdict == ADMITTED
    return guard


@given(st.lists(DATAGRAMS, max_size=80), st.data())
def test_every_invariant_over_any_arrivals(datagrams, data):
    arrivals = data.draw(st.permutations(datagrams + datagrams[: len(datagrams) // 2]))  # some of them twice
    guard, admitted, present, replaced, echoed = Guard(), set(), 0, set(), {}
    for boot, counter, lan, echoes in arrivals:
        after, verdict = admit(guard, boot, counter, lan, echoes=echoes)
        if verdict != ADMITTED:
            assert after == guard, "a refused datagram changes nothing"
            if boot in replaced:
                assert verdict == RETIRED
            elif (boot, lan) not in echoed:
                assert verdict == UNPROVEN
                assert not echoes
            else:
                assert verdict == REPLAYED
            continue
        assert (boot, lan, counter) not in admitted, "admitted twice"
        assert boot not in replaced, "a replaced boot came back"
        if (boot, lan) not in echoed:
            assert echoes, "admitted without a proof"
            echoed[boot, lan] = counter
        assert counter >= echoed[boot, lan], "older than the proof"
        if boot != present:
            replaced |= {present} - {0}
            present = boot
        admitted.add((boot, lan, counter))
        guard = after
        assert guard.boot == present
        assert guard.retired == replaced


@given(st.lists(st.tuples(BOOTS, COUNTERS, st.integers(0, 2)), max_size=40))
def test_nothing_is_admitted_before_an_echo(recorded):
    for boot, counter, lan in recorded:
        assert admit(Guard(), boot, counter, lan, echoes=False) == (Guard(), UNPROVEN)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_what_was_sent_before_the_echo_stays_out(first, other):
    guard = proven(first)
    after, verdict = admit(guard, 7, other, 0, echoes=False)
    assert verdict == (ADMITTED if other > first else REPLAYED)
    assert admit(guard, 7, other, 1, echoes=False) == (guard, UNPROVEN), "each LAN asks for an echo of its own"
    if verdict == ADMITTED:
        assert admit(after, 7, other, 0, echoes=True) == (after, REPLAYED)


@given(st.permutations(range(1, WINDOW + 1)))
def test_reordering_within_the_window_loses_nothing(order):
    guard = proven()
    for counter in order:
        guard, verdict = admit(guard, 7, counter, 0, echoes=False)
        assert verdict == ADMITTED
    for counter in order:
        assert admit(guard, 7, counter, 0, echoes=True) == (guard, REPLAYED)


@given(st.integers(3 * WINDOW, 2**63))
def test_the_edge_of_the_window(top):
    guard, verdict = admit(proven(), 7, top + 1, 0, echoes=False)
    assert verdict == ADMITTED
    for behind in range(3 * WINDOW):
        _, verdict = admit(guard, 7, top + 1 - behind, 0, echoes=False)
        assert verdict == (ADMITTED if 0 < behind < WINDOW else REPLAYED)


def test_lans_do_not_disturb_each_other():
    guard = proven(1000, lan=0)
    guard, verdict = admit(guard, 7, 3, 1, echoes=True)
    assert verdict == ADMITTED
    for lan, counter in ((0, 1001), (1, 4)):
        guard, verdict = admit(guard, 7, counter, lan, echoes=False)
        assert verdict == ADMITTED


def test_a_new_boot_begins_anew_on_every_lan():
    guard, _ = admit(proven(1000, lan=0), 7, 1000, 1, echoes=True)
    assert admit(guard, 8, 1, 0, echoes=False) == (guard, UNPROVEN)
    guard, verdict = admit(guard, 8, 1, 0, echoes=True)
    assert verdict == ADMITTED
    assert admit(guard, 8, 2000, 1, echoes=False) == (guard, UNPROVEN)
    assert admit(guard, 7, 1001, 0, echoes=True) == (guard, RETIRED)


def test_boot_0_is_nobodys():
    assert admit(Guard(), 0, 5, 0, echoes=True) == (Guard(), RETIRED)
