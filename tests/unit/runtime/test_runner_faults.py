"""What fails under the runner's hands: its module type, the system below the scripts, a plugin's action."""

import asyncio

import pytest
from trial import Switch, Trial

from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.model.plugin import Action
from safekit_py.model.rules import Operand, Rule, Test
from safekit_py.model.state import State
from safekit_py.runtime import automation, requests
from safekit_py.runtime.runner import Verb


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.02)
    monkeypatch.setattr(requests, "AGAIN", 0.01)


@pytest.mark.parametrize("hook", ["close", "release"])
def test_a_stop_comes_to_stop_past_what_fails_and_the_next_start_cleans_up_first(tmp_path, hook):
    async def main():
        async with Trial(tmp_path) as trial:
            trial.script("poststop")
            await trial.ask(Verb.START)
            trial.faults[hook] = OSError(28, "no space")
            await trial.ask(Verb.STOP)
            assert trial.runner.state is State.STOP
            assert trial.order() == ["poststop WAIT STOP stop"]
            assert trial.said(f"{hook} failed while the module stops, which goes on")
            trial.faults.clear()
            trial.calls.clear()
            await trial.ask(Verb.START)
            assert trial.calls == ["recover", "prepare", "open"]
            await trial.ask(Verb.STOP)
            trial.calls.clear()
            await trial.ask(Verb.START)
            assert trial.calls == ["prepare", "open"], "what is clean is not cleaned again"

    asyncio.run(main())


@pytest.mark.parametrize(
    "fault",
    [
        SafekitError(Problem("trial.fault", "no address")),
        StateError(Problem("trial.fault", "no address")),
        ValueError("no address"),
    ],
)
def test_whatever_prepare_raises_the_module_stops_and_says_why(tmp_path, fault):
    async def main():
        async with Trial(tmp_path, faults={"prepare": fault}) as trial:
            with pytest.raises(SafekitError, match="no address"):
                await trial.ask(Verb.START)
            assert trial.runner.state is State.STOP
            assert "no address" in trial.runner.reason
            assert trial.calls[-1] == "release"

    asyncio.run(main())


@pytest.mark.parametrize("hook", ["prepare", "open"])
def test_a_module_type_that_cancels_itself_does_not_end_the_worker(tmp_path, hook):
    async def main():
        async with Trial(tmp_path, faults={hook: asyncio.CancelledError()}) as trial:
            with pytest.raises(SafekitError, match="not by the agent"):
                await trial.ask(Verb.START)
            assert trial.runner.state is State.STOP
            trial.faults.clear()
            await trial.ask(Verb.START)
            assert trial.runner.state is State.UP

    asyncio.run(main())


def test_an_action_that_cancels_itself_does_not_end_the_worker(tmp_path):
    async def cancel(control, cause):
        raise asyncio.CancelledError

    async def main():
        async with Trial(tmp_path, actions=[Action("cancel", cancel, rank=12)]) as trial:
            await trial.ask(Verb.START)
            trial.runner.context.request("cancel", "test", "a fault", ())
            await trial.reach("STOP NotReady")
            await trial.ask(Verb.START)
            assert trial.runner.state is State.UP

    asyncio.run(main())


@pytest.mark.parametrize("hook", ["prepare", "open", "close"])
def test_a_forced_stop_ends_a_call_of_the_module_type_that_hangs(tmp_path, hook):
    async def main():
        hang = asyncio.Event()
        async with Trial(tmp_path, faults={hook: hang}) as trial:
            start = trial.runner.submit(Verb.START, "test", person=True)
            if hook == "close":
                await start
                trial.runner.submit(Verb.RESTART, "test", person=True)
            await trial.until(lambda: hook in trial.calls)
            stop = trial.runner.submit(Verb.FORCESTOP, "test", person=True)
            if hook == "close":
                await trial.until(lambda: trial.calls.count("close") == 2)
                hang.set()  # its own call of close has a limit that is too long for a test
            await asyncio.wait_for(stop, 10)
            assert trial.runner.state is State.STOP
            assert trial.calls[-1] == "release"

    asyncio.run(main())


def test_a_second_forced_stop_cuts_nothing_of_the_first_short(tmp_path):
    async def main():
        hang = asyncio.Event()
        async with Trial(tmp_path) as trial:
            await trial.ask(Verb.START)
            trial.faults["release"] = hang
            first = trial.runner.submit(Verb.FORCESTOP, "test", person=True)
            await trial.until(lambda: "release" in trial.calls)
            second = trial.runner.submit(Verb.FORCESTOP, "test", person=True)
            await asyncio.sleep(0.05)
            assert not first.done()
            hang.set()
            await asyncio.wait_for(asyncio.gather(first, second), 10)
            assert not trial.said("failed")

    asyncio.run(main())


def test_a_system_that_runs_no_scripts_is_a_script_that_failed(tmp_path):
    async def main():
        async with Trial(tmp_path, maxloop=1) as trial:

            async def refuse(*_):
                raise OSError(12, "Cannot allocate memory")

            object.__setattr__(trial.runner, "scripts", type("None", (), {"run": refuse, "kill": lambda *_: None})())
            with pytest.raises(SafekitError, match="cannot be run: Cannot allocate memory"):
                await trial.ask(Verb.START)
            await trial.reach("STOP NotReady")
            assert "maxloop" in trial.runner.reason

    asyncio.run(main())


def test_an_action_that_hides_a_failure_does_not_leave_the_module_half_way(tmp_path):
    async def careless(control, cause):
        try:
            await control.restart(cause)
        except SafekitError:
            return

    async def main():
        switch = Switch("careless")
        async with Trial(tmp_path, checkers=[switch], actions=[Action("careless", careless, rank=12)]) as trial:
            trial.script("start_both", 'test ! -e "$SAFEUSERVAR/bad"')
            await trial.ask(Verb.START)
            bad = trial.paths.module_var("app") / "bad"
            bad.touch()
            switch.turn("down")
            await trial.until(lambda: trial.said("it was left UP Transient"))
            bad.unlink()
            switch.turn("up")
            await trial.reach("UP Ready")

    asyncio.run(main())


def test_of_two_checkers_that_report_one_resource_the_first_counts(tmp_path):
    async def main():
        first, second = Switch("noaction"), Switch("noaction", value="down")
        async with Trial(tmp_path, checkers=[first, second]) as trial:
            await trial.ask(Verb.START)
            assert trial.runner.board.get("trial.switch") == "up"
            assert trial.said("2 checkers report trial.switch")

    asyncio.run(main())


def test_a_notification_holds_no_client_out(tmp_path):
    async def tell(control, cause):
        told.append(cause)

    told = []

    async def main():
        switch = Switch("tell", value="down")
        async with Trial(tmp_path, checkers=[switch], actions=[Action("tell", tell, rank=5)]) as trial:
            await trial.ask(Verb.START)
            assert trial.runner.state is State.UP
            await trial.until(lambda: told)

    asyncio.run(main())


def test_a_notification_is_sent_while_the_module_waits(tmp_path):
    async def tell(control, cause):
        told.append(cause)

    told = []
    rule = Rule("full", Test(Operand("local", "custom", "disk"), True, "down"), "tell")

    async def main():
        gate = Switch("wait", "pre", "down")
        actions = [Action("tell", tell, rank=5)]
        async with Trial(tmp_path, checkers=[gate], rules=[rule], actions=actions) as trial:
            trial.runner.submit(Verb.START, "test", person=True)
            await trial.until(lambda: trial.runner.state is State.WAIT)
            trial.runner.board.set("custom.disk", "down", "test")
            await trial.until(lambda: told)
            assert trial.runner.state is State.WAIT

    asyncio.run(main())
