"""Commands and automatic actions that meet: which goes first, what becomes of the other, and what is remembered."""

import asyncio

import pytest
from trial import Switch, Trial

from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.state import State
from safekit_py.runtime import automation
from safekit_py.runtime.runner import Verb


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.02)


def submit(trial, verb, person=True):
    return trial.runner.submit(verb, "test", person=person)


def test_a_refused_command_leaves_memory_and_counter_alone(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("stop_both", "sleep 0.2")
            await trial.ask(Verb.START)
            assert trial.runner.count_one("handler") == 1
            trial.script("start_both")
            restart = submit(trial, Verb.RESTART, person=False)
            await trial.until(trial.order)
            stop = submit(trial, Verb.STOP, person=False)
            for verb in (Verb.START, Verb.STOPSTART):
                with pytest.raises(StateError):
                    submit(trial, verb)
            assert trial.runner.loop.count == 1
            trial.runner.memory.write(started=False)
            with pytest.raises(StateError):
                submit(trial, Verb.WAIT)
            assert trial.runner.memory.now.started is False
            await asyncio.wait_for(asyncio.gather(restart, stop, return_exceptions=True), 10)

    asyncio.run(main())


@pytest.mark.parametrize("person", [True, False])
def test_a_start_while_it_stops_is_remembered(tmp_path, person):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("stop_both", "sleep 0.1")
            await trial.ask(Verb.START)
            stop = submit(trial, Verb.STOP)
            await trial.until(trial.order)
            start = submit(trial, Verb.START, person=person)
            await asyncio.wait_for(asyncio.gather(stop, start), 10)
            assert trial.runner.state is State.UP
            assert trial.runner.memory.now.started is True

    asyncio.run(main())


@pytest.mark.parametrize("verb", [Verb.RESTART, Verb.STOPSTART, Verb.WAIT])
def test_while_it_stops_nothing_starts_it_but_a_start(tmp_path, verb):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("stop_both", "sleep 0.1")
            await trial.ask(Verb.START)
            stop = submit(trial, Verb.STOP)
            await trial.until(trial.order)
            trial.runner.context.request("stopstart", "errd", "httpd is gone", ())
            with pytest.raises(StateError, match="is being stopped"):
                trial.runner.automatic(verb, "script")
            with pytest.raises(StateError, match="is being stopped"):
                submit(trial, verb)
            await asyncio.wait_for(stop, 10)
            await asyncio.sleep(0.1)
            assert trial.runner.state is State.STOP
            assert trial.runner.loop.count == 0

    asyncio.run(main())


def test_a_restart_that_meets_a_start_on_its_way_lets_it_go_on(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            await trial.ask(Verb.START)
            trial.script("poststop")
            trial.script("transition", 'test "$2" != STOP || sleep 0.2')
            first = submit(trial, Verb.STOPSTART)
            await trial.until(lambda: trial.runner.state is State.STOP)
            second = submit(trial, Verb.RESTART)
            with pytest.raises(StateError, match="another command"):
                await asyncio.wait_for(first, 10)
            await asyncio.wait_for(second, 10)
            await trial.reach("UP Ready")
            assert trial.calls == ["recover", "prepare", "open", "close", "release", "prepare", "open"]

    asyncio.run(main())


@pytest.mark.parametrize("verb", [Verb.RESTART, Verb.WAIT, Verb.STOPSTART])
def test_what_waits_behind_a_start_that_fails_is_refused(tmp_path, verb):
    async def main():
        lacks = []
        async with Trial(tmp_path, problems=lacks) as trial:
            await trial.ask(Verb.START)
            await trial.boot()
            lacks.append(Problem("trial.lacks", "no bcc"))
            trial.script("stop_both", "sleep 0.2")
            start = submit(trial, Verb.START)
            await trial.until(trial.order)
            after = submit(trial, verb)
            with pytest.raises(SafekitError, match="no bcc"):
                await asyncio.wait_for(start, 10)
            with pytest.raises(StateError, match="is stopped"):
                await asyncio.wait_for(after, 10)
            assert trial.runner.state is State.STOP
            assert trial.calls.count("prepare") == 1

    asyncio.run(main())


def test_a_stop_is_as_good_as_another(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("start_both", "sleep 0.2")
            submit(trial, Verb.START)
            await trial.until(trial.order)
            stops = [submit(trial, verb) for verb in (Verb.STOP, Verb.STOP, Verb.FORCESTOP)]
            await asyncio.wait_for(asyncio.gather(*stops), 10)
            assert trial.runner.state is State.STOP

    asyncio.run(main())


def test_a_forced_stop_takes_over_a_stop_that_hangs_and_both_are_answered(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("stop_both", '[ "$1" = force ] || sleep 30')
            await trial.ask(Verb.START)
            stop = submit(trial, Verb.STOP)
            await trial.until(trial.order)
            forced = submit(trial, Verb.FORCESTOP)
            await asyncio.wait_for(asyncio.gather(stop, forced), 10)
            assert trial.runner.state is State.STOP

    asyncio.run(main())


def test_a_wish_of_higher_rank_takes_the_place_of_the_one_that_is_coming(tmp_path, monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.1)

    async def main():
        async with Trial(tmp_path) as trial:
            await trial.ask(Verb.START)
            trial.runner.context.request("restart", "errd", "one is gone", ())
            trial.runner.context.request("stopstart", "errd", "more are gone", ())
            trial.runner.context.request("restart", "errd", "another is gone", ())
            assert trial.runner.loop.count == 1, "one action, counted once"
            await trial.until(lambda: trial.calls.count("prepare") == 2)
            await trial.reach("UP Ready")
            trial.runner.context.request("restart", "errd", "one is gone", ())
            trial.runner.context.request("stop", "errd", "it is of no use", ())
            await trial.reach("STOP NotReady")

    asyncio.run(main())


def test_a_persons_restart_takes_the_place_of_the_automatic_one(tmp_path, monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.1)

    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("start_both")
            await trial.ask(Verb.START)
            trial.runner.context.request("restart", "errd", "one is gone", ())
            await trial.ask(Verb.RESTART)
            await asyncio.sleep(0.3)
            assert trial.order() == ["start_both WAIT UP start", "start_both UP UP start"]

    asyncio.run(main())


def test_an_automatic_action_does_not_outlive_the_run_that_it_was_about(tmp_path, monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.3)

    async def main():
        async with Trial(tmp_path) as trial:
            await trial.ask(Verb.START)
            trial.runner.context.request("stop", "errd", "it is gone", ())
            trial.runner.submit(Verb.STOPSTART, "test", person=True)
            await trial.until(lambda: trial.calls.count("open") == 2)
            await asyncio.sleep(0.5)
            assert trial.runner.state is State.UP

    asyncio.run(main())


def test_when_the_runner_ends_everybody_is_answered_and_nothing_follows(tmp_path):
    async def main():
        switch = Switch()
        async with Trial(tmp_path, checkers=[switch]) as trial:
            await trial.ask(Verb.START)
            trial.script("stop_both", "sleep 30")
            carried_out = submit(trial, Verb.RESTART)
            await trial.until(trial.order)
            waits = submit(trial, Verb.STOPSTART)
            trial.runner.board.set("trial.switch", "down", "test")
            await trial.runner.shutdown()
            for future in (carried_out, waits):
                with pytest.raises(StateError) as caught:
                    await asyncio.wait_for(future, 1)
                assert caught.value.code == "module.ended"
            for verb in Verb:
                with pytest.raises(StateError):
                    submit(trial, verb)
            trial.runner.context.request("restart", "errd", "too late", ())
            await asyncio.sleep(0.1)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert trial.runner.loop.count == 0

    asyncio.run(main())


@pytest.mark.parametrize("verb", [Verb.START, Verb.STOP, Verb.FORCESTOP])
def test_after_a_crash_a_persons_command_too_removes_what_was_left(tmp_path, verb):
    async def main():
        async with Trial(tmp_path) as trial:
            await trial.ask(Verb.START)
            await trial.boot()
            trial.script("stop_both")
            assert trial.runner.mark.there
            await trial.ask(verb)
            assert trial.order() == ["stop_both force WAIT STOP stop"]
            assert trial.runner.mark.there == (verb is Verb.START)

    asyncio.run(main())


def test_what_waits_is_seen_as_settled_at_once(tmp_path):
    async def main():
        gate = Switch("wait", "pre", "down")
        async with Trial(tmp_path, checkers=[gate]) as trial:
            submit(trial, Verb.START)
            await asyncio.wait_for(trial.runner.until(lambda: trial.runner.settled and trial.runner.busy), 0.5)

    asyncio.run(main())
