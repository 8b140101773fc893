"""The script contract, held against the table, and the automaton's invariants over every plan."""

import pytest

from safekit_py.core import automaton
from safekit_py.core.automaton import SCRIPTS, Become, Effect, Enter, Script
from safekit_py.model.state import Readiness, State

S = State


def scripts(plan):
    return [" ".join((s.name, *s.arguments)) for s in plan if isinstance(s, Script)]


def names(plan):
    return [s.name for s in plan if isinstance(s, Script)]


def start(goal):
    return (*automaton.begin(), *automaton.rise(goal))


def test_start_of_a_farm():
    assert scripts(start(S.UP)) == [
        "transition STOP WAIT start",
        "prestart STOP WAIT start",
        "transition WAIT UP start",
        "start_both WAIT UP start",
        "start_prim WAIT UP start",
        "start_sec WAIT UP start",
    ]


def test_stop_of_a_farm_is_graceful_and_then_forced():
    assert scripts(automaton.stop(S.UP)) == [
        "stop_sec UP WAIT stop",
        "stop_prim UP WAIT stop",
        "stop_both UP WAIT stop",
        "transition UP WAIT stop",
        "stop_sec force WAIT STOP stop",
        "stop_prim force WAIT STOP stop",
        "stop_second force WAIT STOP stop",
        "stop_both force WAIT STOP stop",
        "poststop WAIT STOP stop",
        "transition WAIT STOP stop",
    ]


def test_restart_runs_scripts_and_keeps_the_state():
    plan = automaton.restart(S.UP)
    assert names(plan) == ["stop_sec", "stop_prim", "stop_both", "start_both", "start_prim", "start_sec"]
    assert {s.state for s in plan if isinstance(s, Enter)} == {S.UP}


def test_wait_uses_the_action_stopwait_and_ends_not_ready():
    plan = automaton.wait(S.UP)
    assert scripts(plan)[0] == "stop_sec UP WAIT stopwait"
    assert plan[-1] == Enter(S.WAIT, Readiness.NOT_READY)


def test_forced_stop_runs_no_graceful_script():
    plan = automaton.stop(S.UP, force=True)
    assert names(plan) == ["transition", "stop_sec", "stop_prim", "stop_second", "stop_both", "poststop", "transition"]
    assert all(s.forced for s in plan if isinstance(s, Script) and s.name.startswith("stop_"))


def test_stop_of_a_stopped_module_runs_nothing():
    assert automaton.stop(S.STOP) == (Enter(S.STOP, Readiness.NOT_READY),)


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ((S.ALONE, S.PRIM), ["stop_sec ALONE PRIM start", "transition ALONE PRIM start"]),
        ((S.PRIM, S.ALONE), ["transition PRIM ALONE start", "start_sec PRIM ALONE start"]),
        (
            (S.SECOND, S.ALONE),
            ["stop_second SECOND ALONE start", "transition SECOND ALONE start", "start_prim SECOND ALONE start"],
        ),
        (
            (S.ALONE, S.SECOND),
            ["stop_prim ALONE SECOND start", "transition ALONE SECOND start", "start_second ALONE SECOND start"],
        ),
    ],
)
def test_a_change_of_role_runs_the_scripts_of_the_contract(roles, expected):
    assert scripts(automaton.change(*roles)) == expected


def test_a_swap_of_both_sides():
    assert names(automaton.change(S.PRIM, S.SECOND, "stopstart")) == [
        "stop_prim",
        "transition",
        "start_second",
        "start_sec",
    ]
    assert names(automaton.change(S.SECOND, S.PRIM, "stopstart")) == [
        "stop_sec",
        "stop_second",
        "transition",
        "start_prim",
    ]


def test_a_change_that_the_contract_does_not_know_is_refused():
    with pytest.raises(KeyError):
        automaton.change(S.UP, S.SECOND)


ONGOING = ((S.PRIM, S.ALONE), (S.ALONE, S.PRIM))
ROLES = [pair for pair in SCRIPTS if not {*pair} & {S.STOP, S.WAIT, S.UP} and pair not in ONGOING]


@pytest.mark.parametrize("pair", ONGOING)
def test_between_prim_and_alone_the_application_goes_on(pair):
    plan = automaton.change(*pair)
    assert not [step for step in plan if isinstance(step, Effect)]
    assert plan[0] == Become(pair[1])
    assert plan[-1] == Enter(pair[1], Readiness.READY)


@pytest.mark.parametrize("plan", [*(automaton.change(*pair) for pair in ROLES), automaton.rise(S.SECOND)])
def test_a_role_is_taken_between_the_stop_scripts_and_the_start_scripts(plan):
    at = next(n for n, step in enumerate(plan) if isinstance(step, Become))
    assert not any(isinstance(s, Script) and s.name.startswith("stop_") for s in plan[at:])
    assert not any(isinstance(s, Script) and s.starts for s in plan[:at])


def every_plan():
    running = (S.UP, S.ALONE, S.PRIM, S.SECOND)
    for state in running:
        yield start(state)
        yield automaton.rise(state)
        yield automaton.restart(state)
        yield automaton.wait(state)
        yield automaton.fall(state, "stop")
    for roles in ROLES:
        yield automaton.change(*roles)
    for state in (*running, S.WAIT):
        yield automaton.stop(state)
        yield automaton.stop(state, "stopstart")
        yield automaton.stop(state, force=True)


@pytest.mark.parametrize("plan", list(every_plan()))
def test_clients_are_in_only_between_the_last_start_and_the_first_stop(plan):
    opened = Effect.OPEN not in plan
    for step in plan:
        if isinstance(step, Script) and step.name.startswith("stop_"):
            assert Effect.CLOSE in plan[: plan.index(step)]
        if isinstance(step, Script) and step.starts:
            assert Effect.OPEN not in plan[: plan.index(step)]
        opened = opened or step is Effect.OPEN
    assert opened


def last_state(plan):
    return [step for step in plan if isinstance(step, Enter)][-1]


@pytest.mark.parametrize("plan", [p for p in every_plan() if last_state(p).state is S.STOP])
def test_what_ends_in_stop_is_released_and_not_ready(plan):
    assert last_state(plan).readiness is Readiness.NOT_READY
    assert Effect.RELEASE in plan
    assert Effect.REST in plan


@pytest.mark.parametrize("plan", [p for p in every_plan() if Effect.PREPARE in p])
def test_ready_comes_last_and_after_the_checkers_answered(plan):
    order = [plan.index(Effect.PREPARE), plan.index(Effect.WATCH), plan.index(Effect.OPEN), len(plan) - 1]
    if plan[-1].readiness is Readiness.READY:
        assert order == sorted(order)
