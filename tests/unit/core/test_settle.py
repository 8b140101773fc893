"""When a file may be read, by looks at given times."""

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core.settle import Settler


def play(looks, quiet=0.3):
    """Every look's time and what was handed on then."""
    settler, told = Settler(quiet), []
    for now, files in looks:
        settler, ready, _ = settler.look(now, files)
        told += [(now, name, files.get(name)) for name in ready]
    return told


def test_a_file_is_handed_on_once_it_has_been_quiet():
    assert play([(0.0, {"a": 1}), (0.2, {"a": 1}), (0.3, {"a": 1}), (9.0, {"a": 1})]) == [(0.3, "a", 1)]


def test_each_change_begins_the_wait_anew():
    assert play([(0.0, {"a": 1}), (0.2, {"a": 2}), (0.4, {"a": 3}), (0.6, {"a": 3}), (0.75, {"a": 3})]) == [
        (0.75, "a", 3)
    ]


def test_a_file_that_is_gone_for_a_moment_was_replaced_and_not_removed():
    assert play([(0.0, {"a": 1}), (0.3, {"a": 1}), (1.0, {}), (1.1, {"a": 2}), (1.5, {"a": 2})]) == [
        (0.3, "a", 1),
        (1.5, "a", 2),
    ]


def test_a_removal_is_told_once():
    assert play([(0.0, {"a": 1}), (0.3, {"a": 1}), (1.0, {}), (1.3, {}), (2.0, {})]) == [
        (0.3, "a", 1),
        (1.3, "a", None),
    ]


def test_what_should_be_there_is_told_once_even_if_it_was_never_seen():
    assert play([(0.0, {"a": None}), (0.3, {"a": None}), (1.0, {"a": None}), (2.0, {"a": None})]) == [(0.3, "a", None)]


def test_when_to_look_again():
    settler, ready, due = Settler(0.3).look(5.0, {"a": 1, "b": 1})
    assert (ready, due) == ((), 5.3)
    settler, _, due = settler.look(5.1, {"a": 1, "b": 2})
    assert due == 5.3
    settler, ready, due = settler.look(5.3, {"a": 1, "b": 2})
    assert ready == ("a",)
    assert abs(due - 5.4) < 1e-9
    settler, ready, due = settler.look(6.0, {"a": 1, "b": 2})
    assert (ready, due) == (("b",), None)


def test_again_hands_it_on_once_more():
    settler, *_ = Settler(0.0).look(0.0, {"a": 1})
    settler, ready, _ = settler.look(1.0, {"a": 1})
    assert ready == ()
    settler, ready, _ = settler.again("a").look(2.0, {"a": 1})
    assert ready == ("a",)


steps = st.lists(
    st.tuples(
        st.floats(0.001, 1.0),
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    ),
    max_size=40,
)


@given(steps)
def test_what_is_handed_on_was_quiet_and_is_never_handed_on_twice(given_steps):
    looks, now = [], 0.0
    for pause, files in given_steps:
        now += pause
        looks.append((now, files))
    last = {}
    for time, name, value in play(looks):
        recent = [files.get(name) for when, files in looks if when <= time < when + 0.3 or when == time]
        assert set(recent) == {value}
        before = [files.get(name) for when, files in looks if when + 0.3 <= time]
        assert before, "a first look alone proves nothing"
        changed = [files.get(name) for when, files in looks if last.get(name, (0.0,))[0] < when <= time]
        assert name not in last or set(changed) != {last[name][1]}
        last[name] = (time, value)


@given(steps, st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)))
def test_all_is_handed_on_as_it_is_in_the_end(given_steps, final):
    looks, now = [], 0.0
    for pause, files in given_steps:
        now += pause
        looks.append((now, files))
    looks += [(now + 1.0, final), (now + 2.0, final)]
    told = {}
    for _, name, value in play(looks):
        told[name] = value
    assert {name: value for name, value in told.items() if value is not None} == final
