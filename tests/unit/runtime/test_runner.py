"""The runner with real scripts: commands, checkers and rules as they are meant to be."""

import asyncio
import time
from dataclasses import replace

import pytest
from trial import Switch, Trial

from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.config import Service, User
from safekit_py.model.state import State
from safekit_py.runtime import automation
from safekit_py.runtime.runner import Verb


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.05)


def test_start_and_stop_in_the_order_of_the_contract(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            for name in ("prestart", "transition", "start_both", "stop_both", "poststop"):
                trial.script(name)
            await trial.ask(Verb.START)
            assert f"{trial.runner.state} {trial.runner.readiness}" == "UP Ready"
            assert trial.calls == ["recover", "prepare", "open"]
            await trial.ask(Verb.STOP)
            assert trial.calls == ["recover", "prepare", "open", "close", "release"]
            assert trial.order() == [
                "transition STOP WAIT start",
                "prestart STOP WAIT start",
                "transition WAIT UP start",
                "start_both WAIT UP start",
                "stop_both UP WAIT stop",
                "transition UP WAIT stop",
                "stop_both force WAIT STOP stop",
                "poststop WAIT STOP stop",
                "transition WAIT STOP stop",
            ]

    asyncio.run(main())


def test_a_start_that_always_fails_stops_by_maxloop_and_says_why(tmp_path):
    async def main():
        async with Trial(tmp_path, maxloop=2) as trial:
            trial.script("start_both", "exit 7")
            with pytest.raises(SafekitError, match="status 7"):
                await trial.ask(Verb.START)
            await trial.reach("STOP NotReady")
            assert trial.order().count("start_both WAIT UP start") == 1
            assert trial.order().count("start_both UP UP start") == 2
            assert "maxloop" in trial.runner.reason
            assert "start_both ended with status 7" in trial.runner.reason
            assert "open" not in trial.calls
            assert trial.runner.memory.now.started is False

    asyncio.run(main())


def test_a_fallen_checker_restarts_the_application_and_counts(tmp_path):
    async def main():
        switch = Switch()
        async with Trial(tmp_path, checkers=[switch]) as trial:
            trial.script("start_both")
            trial.script("stop_both")
            await trial.ask(Verb.START)
            switch.turn("down")
            while trial.runner.loop.count == 0:
                await asyncio.sleep(0.01)
            switch.turn("up")
            while len(trial.order()) < 3:
                await asyncio.sleep(0.01)
            await trial.reach("UP Ready")
            assert trial.order()[1:] == ["stop_both UP UP stop", "start_both UP UP start"]
            assert trial.calls[2:] == ["open", "close", "open"]
            await trial.ask(Verb.RESTART)
            assert trial.runner.loop.count == 0, "a person's command resets the counter"

    asyncio.run(main())


def test_noaction_leaves_the_module_alone(tmp_path):
    async def main():
        switch = Switch("noaction")
        async with Trial(tmp_path, checkers=[switch]) as trial:
            await trial.ask(Verb.START)
            switch.turn("down")
            await asyncio.sleep(0.3)
            assert trial.runner.state is State.UP
            assert trial.runner.loop.count == 0

    asyncio.run(main())


def test_stop_from_inside_start_both_does_not_deadlock(tmp_path):
    """What `$SAFE/safekit stop -i start_both` in the script asks for is carried out after the script."""

    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("start_both", "sleep 0.3")
            start = trial.runner.submit(Verb.START, "test", person=True)
            while not trial.order():
                await asyncio.sleep(0.01)
            await trial.ask(Verb.STOP, "asked by start_both", person=False)
            assert trial.runner.state is State.STOP
            assert trial.runner.reason == "asked by start_both"
            with pytest.raises(StateError):
                await start
            assert "open" not in trial.calls

    asyncio.run(main())


def test_forcestop_ends_a_script_that_hangs(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("start_both", "sleep 60")
            trial.script("stop_both")
            trial.runner.submit(Verb.START, "test", person=True)
            while not trial.order():
                await asyncio.sleep(0.01)
            began = time.monotonic()
            await trial.ask(Verb.FORCESTOP)
            assert time.monotonic() - began < 30  # the script sleeps for 60
            assert trial.order()[1:] == ["stop_both force WAIT STOP stop"]

    asyncio.run(main())


def test_a_missing_requirement_changes_nothing(tmp_path):
    async def main():
        async with Trial(tmp_path, problems=[Problem("farm.no-bcc", "no bcc", "apt-get install")]) as trial:
            trial.script("prestart")
            with pytest.raises(SafekitError, match="no bcc"):
                await trial.ask(Verb.START)
            assert trial.order() == []
            assert trial.calls == ["recover"]
            assert trial.runner.reason == "no bcc"

    asyncio.run(main())


def test_restart_of_a_stopped_module_is_refused(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            with pytest.raises(StateError, match="start it first"):
                trial.runner.submit(Verb.RESTART, "test", person=True)

    asyncio.run(main())


def test_wait_stays_until_the_pre_checker_is_content(tmp_path):
    async def main():
        gate = Switch("wait")
        gate.when = "pre"
        gate.value = "down"
        async with Trial(tmp_path, checkers=[gate]) as trial:
            trial.script("start_both")
            start = trial.runner.submit(Verb.START, "test", person=True)
            while str(trial.runner.readiness) != "NotReady" or trial.runner.state is not State.WAIT:
                await asyncio.sleep(0.01)
            assert trial.runner.reason == "waits: trial.switch is down; rule trial_switch"
            assert trial.order() == []
            gate.turn("up")
            await asyncio.wait_for(start, 5)
            assert trial.runner.state is State.UP
            gate.turn("down")
            while trial.runner.state is not State.WAIT:
                await asyncio.sleep(0.01)
            gate.turn("up")
            await trial.reach("UP Ready")

    asyncio.run(main())


def test_the_wish_is_remembered(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            await trial.ask(Verb.START)
            assert trial.runner.memory.now.started is True
            await trial.ask(Verb.STOP)
            assert trial.runner.memory.now.started is False

    asyncio.run(main())


def test_after_a_crash_the_forced_stop_scripts_come_first(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("stop_both")
            trial.script("start_both")
            await trial.ask(Verb.START)
            await trial.runner.shutdown()  # no stop: as if the agent had been killed
        async with trial:
            await trial.runner.submit(Verb.START, "test", person=False, run=trial.runner.deeds.resume)
            assert trial.order()[1:] == ["stop_both force WAIT STOP stop", "start_both WAIT UP start"]
            await trial.ask(Verb.STOP)
        count = len(trial.order())
        async with trial:
            await trial.runner.submit(Verb.START, "test", person=False, run=trial.runner.deeds.resume)
            assert trial.order()[count:] == ["start_both WAIT UP start"]

    asyncio.run(main())


def test_an_action_is_held_for_handle_time(tmp_path):
    async def main():
        switch = Switch()
        async with Trial(tmp_path, checkers=[switch], handle_time=0.4) as trial:
            await trial.ask(Verb.START)
            switch.turn("down")
            await asyncio.sleep(0.1)
            switch.turn("up")
            await asyncio.sleep(0.5)
            assert trial.runner.loop.count == 0, "a short failure is forgiven"
            began = time.monotonic()
            switch.turn("down")
            while trial.runner.loop.count == 0:
                await asyncio.sleep(0.01)
            assert time.monotonic() - began >= 0.4

    asyncio.run(main())


def test_with_failover_off_the_rule_is_seen_and_nothing_follows(tmp_path):
    async def main():
        switch = Switch()
        async with Trial(tmp_path, checkers=[switch]) as trial:
            await trial.ask(Verb.START)
            trial.runner.memory.write(failover="off")
            switch.turn("down")
            await asyncio.sleep(0.3)
            assert trial.runner.loop.count == 0
            assert trial.runner.explain()[0].true
            assert any("failover is off" in e.message for e in trial.events)

    asyncio.run(main())


def test_an_automatic_stopstart_reboots_where_it_is_asked_for_and_the_count_is_kept(tmp_path):
    async def main():
        reboots, switch = [], Switch("stopstart")
        async with Trial(tmp_path, checkers=[switch]) as trial:
            trial.runner.config = replace(trial.config, service=Service("trial", automatic_reboot=True))
            trial.runner.deeds._reboot = lambda: reboots.append(1)
            await trial.ask(Verb.START)
            await trial.ask(Verb.STOPSTART)
            assert reboots == [], "a person's command is no failure"
            switch.turn("down")
            while not reboots:
                await asyncio.sleep(0.01)
            await trial.reach("STOP NotReady")
            assert trial.runner.memory.now.started
        async with trial:
            assert trial.runner.loop.count == 1

    asyncio.run(main())


def test_what_a_checker_asks_for_by_itself_carries_its_arguments(tmp_path):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("start_both")
            await trial.ask(Verb.START)
            trial.runner.context.request("restart", "errd", "httpd is gone", ("-Services", "web"))
            while len(trial.order()) < 2:
                await asyncio.sleep(0.01)
            assert trial.order()[1] == "start_both UP UP start -Services web"
            assert trial.runner.loop.count == 1
            trial.runner.context.request("noaction", "errd", "never mind", ())
            assert trial.runner.loop.count == 1

    asyncio.run(main())


def test_a_start_of_what_is_started_changes_nothing(tmp_path):
    async def main():
        gate = Switch("wait")
        gate.when, gate.value = "pre", "down"
        async with Trial(tmp_path, checkers=[gate]) as trial:
            first = trial.runner.submit(Verb.START, "test", person=True)
            while trial.runner.state is not State.WAIT:
                await asyncio.sleep(0.01)
            await trial.ask(Verb.START)
            with pytest.raises(StateError, match="in WAIT"):
                trial.runner.submit(Verb.RESTART, "test", person=True)
            gate.turn("up")
            await asyncio.wait_for(first, 5)
            assert trial.runner.state is State.UP

    asyncio.run(main())


def test_a_script_that_counts_itself_stops_the_module_over_maxloop(tmp_path):
    async def main():
        async with Trial(tmp_path, maxloop=1) as trial:
            await trial.ask(Verb.START)
            assert trial.runner.count_one("handler") == 1
            trial.runner.count_one("handler")
            await trial.reach("STOP NotReady")
            assert "maxloop" in trial.runner.reason
            trial.runner.count_anew()
            assert trial.runner.loop.count == 0

    asyncio.run(main())


def test_a_new_configuration_is_taken_while_the_application_runs(tmp_path):
    async def main():
        async with Trial(tmp_path, checkers=[Switch()]) as trial:
            trial.script("start_both")
            await trial.ask(Verb.START)
            new = replace(trial.config, service=Service("trial", maxloop=9), user=User(1.0, 1.0))
            assert await trial.runner.reconfigure(new) == ["trial.switch"]
            assert trial.runner.loop.maxloop == 9
            assert trial.runner.scripts.user == User(1.0, 1.0)
            assert trial.order() == ["start_both WAIT UP start"]
            assert trial.runner.state is State.UP

    asyncio.run(main())
