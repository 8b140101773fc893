"""A stop that first waits for the module's clients: what it waits for, what ends that, and what meets it."""

import asyncio

import pytest
from trial import Switch, Trial, TrialRuntime

from safekit_py.errors import StateError
from safekit_py.model.state import State
from safekit_py.runtime import automation
from safekit_py.runtime.requests import Verb


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.02)


def drain(trial, limit):
    return trial.runner.submit(Verb.STOP, "test", person=True, run=trial.runner.deeds.drained(limit))


def play(main, *given, **named):
    async def played():
        async with Trial(*given, **named) as trial:
            for script in ("start_both", "stop_both"):
                trial.script(script)
            await trial.ask(Verb.START)
            await main(trial)

    asyncio.run(played())


async def begun(trial):
    await trial.until(lambda: "drain" in trial.calls)


def test_the_stop_comes_when_the_clients_have_left(tmp_path):
    left = asyncio.Event()

    async def main(trial):
        stopping = drain(trial, 60)
        await begun(trial)
        assert f"{trial.runner.state} {trial.runner.readiness}" == "UP Transient"
        assert trial.runner.reason == "drains: new clients go elsewhere, 60 s"
        assert not any("stop_both" in line for line in trial.order()), "the application runs on"
        left.set()
        await asyncio.wait_for(stopping, 10)
        assert trial.runner.state is State.STOP
        assert trial.calls[-3:] == ["drain", "close", "release"]
        assert trial.said("the last client has left")

    play(main, tmp_path, faults={"drain": left})


def test_the_stop_comes_when_the_time_is_over(tmp_path):
    async def main(trial):
        await asyncio.wait_for(drain(trial, 0.1), 10)
        assert trial.runner.state is State.STOP
        assert trial.said("the time to leave is over: new clients go elsewhere")

    play(main, tmp_path, faults={"drain": asyncio.Event()})


def test_no_time_is_an_ordinary_stop(tmp_path):
    async def main(trial):
        await asyncio.wait_for(drain(trial, 0), 10)
        assert "drain" not in trial.calls
        assert trial.runner.state is State.STOP

    play(main, tmp_path)


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.FORCESTOP])
def test_another_stop_ends_the_waiting(tmp_path, verb):
    async def main(trial):
        first = drain(trial, 60)
        await begun(trial)
        await trial.ask(verb)
        assert trial.runner.state is State.STOP
        await asyncio.wait_for(first, 5)  # which is done by it

    play(main, tmp_path, faults={"drain": asyncio.Event()})


def test_another_drain_gives_another_time(tmp_path):
    async def main(trial):
        first = drain(trial, 60)
        await begun(trial)
        await asyncio.wait_for(drain(trial, 0.1), 10)
        await asyncio.wait_for(first, 5)
        assert trial.runner.state is State.STOP
        assert trial.calls.count("drain") == 2

    play(main, tmp_path, faults={"drain": asyncio.Event()})


@pytest.mark.parametrize(
    ("verb", "said"),
    [(Verb.START, "drains: "), (Verb.RESTART, "being stopped"), (Verb.STOPSTART, "being stopped")],
)
def test_nothing_but_a_stop_is_taken_meanwhile(tmp_path, verb, said):
    async def main(trial):
        stopping = drain(trial, 60)
        await begun(trial)
        with pytest.raises(StateError, match=said):
            trial.runner.submit(verb, "test", person=True)
        assert not stopping.done()

    play(main, tmp_path, faults={"drain": asyncio.Event()})


def test_checkers_do_not_disturb_it(tmp_path):
    switch = Switch()

    async def main(trial):
        stopping = drain(trial, 60)
        await begun(trial)
        switch.turn("down")
        await trial.until(lambda: trial.runner.board.get(switch.resource) == "down")
        await asyncio.sleep(0.2)
        assert trial.runner.loop.count == 0
        assert not stopping.done()
        assert trial.order() == ["start_both WAIT UP start"]

    play(main, tmp_path, faults={"drain": asyncio.Event()}, checkers=(switch,))


def test_a_type_that_fails_at_it_is_stopped_all_the_same(tmp_path):
    async def main(trial):
        await asyncio.wait_for(drain(trial, 60), 10)
        assert trial.runner.state is State.STOP
        assert trial.said("clients are not waited for: OSError: none")

    play(main, tmp_path, faults={"drain": OSError("none")})


def test_a_type_that_knows_no_clients_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(TrialRuntime, "drain", None, raising=False)
    monkeypatch.setattr(TrialRuntime, "traffic", None, raising=False)

    async def main(trial):
        with pytest.raises(StateError, match="knows nothing of its clients"):
            trial.runner.deeds.drained(10)
        with pytest.raises(StateError, match="opens and closes by itself"):
            await trial.runner.deeds.traffic(opened=True)

    play(main, tmp_path)


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_time_that_is_none_is_refused(tmp_path, limit):
    async def main(trial):
        with pytest.raises(StateError, match="no time to wait"):
            trial.runner.deeds.drained(limit)

    play(main, tmp_path)


def test_scripts_have_no_say_over_what_does_not_run(tmp_path):
    async def main(trial):
        await trial.runner.deeds.traffic(opened=True)
        assert trial.calls[-1] == "traffic"
        await trial.ask(Verb.STOP)
        with pytest.raises(StateError, match="is stopped"):
            await trial.runner.deeds.traffic(opened=True)

    play(main, tmp_path)
