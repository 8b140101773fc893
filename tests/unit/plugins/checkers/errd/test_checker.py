"""The checkers at work on real processes: what they report, what they ask for, and when."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest
from safekit_py.plugins.checkers.errd import checker
from safekit_py.plugins.checkers.errd.model import Proc

from safekit_py.errors import Problem, SafekitError
from safekit_py.model.config import ModuleConfig, Service, User

CONFIG = ModuleConfig(Service("light"), User())


@dataclass
class Context:
    """What a runner gives; keeps what is asked of it."""

    config: ModuleConfig = CONFIG
    asked: list = field(default_factory=list)
    logged: list = field(default_factory=list)

    def request(self, *given):
        self.asked.append(given)

    def log(self, _severity, text):
        self.logged.append(text)


class Seen(list):
    """Reports with their times, and waiting for one."""

    def report(self, status, cause):
        self.append((str(status), cause, time.monotonic()))

    @property
    def last(self):
        return self[-1][0] if self else ""

    async def until(self, status, limit=10.0):
        async with asyncio.timeout(limit):
            while self.last != status:
                await asyncio.sleep(0.01)


def watching(proc, body, polltimer=60.0, context=None):
    """Run a checker, and the body of a test beside it."""
    context = context or Context()

    async def run():
        (made,) = checker.create(context, (proc,), polltimer)
        seen = Seen()
        task = asyncio.create_task(made.run(seen.report))
        try:
            await body(context, seen)
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_killed_process_is_seen_at_once_and_the_action_asked_for_once(daemons):
    process = daemons.start()

    async def body(context, seen):
        await seen.until("up")
        killed = time.monotonic()
        daemons.kill(process)
        await seen.until("down")
        assert seen[-1][2] - killed < 10.0  # polltimer is 60 s
        await asyncio.sleep(0.2)
        assert context.asked == [
            ("restart", "errd", f"no process {daemons.name} runs, and at least 1 must", ("-Services", "A, B"))
        ]

    watching(Proc(daemons.name, action="restart", services=("A", "B")), body)


def test_of_two_one_may_go(daemons):
    first, second = daemons.start(), daemons.start()

    async def body(context, seen):
        await seen.until("up")
        daemons.kill(first)
        await asyncio.sleep(0.3)
        assert seen.last == "up"
        assert seen[-1][1] == f"1 process {daemons.name} runs"
        daemons.kill(second)
        await seen.until("down")
        assert context.asked == [("stop", "errd", f"no process {daemons.name} runs, and at least 1 must", ())]

    watching(Proc(daemons.name, action="stop"), body)


def test_two_must_run(daemons):
    daemons.start()
    last = daemons.start()

    async def body(context, seen):
        await seen.until("up")
        daemons.kill(last)  # the youngest
        await seen.until("down")
        assert [each[0] for each in context.asked] == ["stopstart"]

    watching(Proc(daemons.name, atleast=2), body)


def test_too_many_are_seen_by_the_next_look_and_asked_for_at_each_poll(daemons):
    daemons.start()

    async def body(context, seen):
        await seen.until("up")
        extra = daemons.start()
        await seen.until("down")
        assert seen[-1][1] == f"2 processes {daemons.name} run, and at most 1 may"
        await asyncio.sleep(0.7)
        assert 2 <= len(context.asked) <= 5
        daemons.kill(extra)
        await seen.until("up")

    watching(Proc(daemons.name, atmost=1), body, polltimer=0.3)


def test_noaction_asks_for_nothing(daemons):
    async def body(context, seen):
        await seen.until("down")
        daemons.start()
        await seen.until("up")
        assert context.asked == []

    watching(Proc(daemons.name, action="noaction"), body, polltimer=0.2)


def test_the_first_looks_are_not_judged(daemons):
    async def body(context, seen):
        began = time.monotonic()
        await seen.until("down")
        assert time.monotonic() - began >= 0.85  # two times polltimer, and what is missing after a start

    watching(Proc(daemons.name, start_after=3), body, polltimer=0.3)


def test_a_daemon_that_comes_up_after_its_script_is_not_missed(daemons):
    async def body(context, seen):
        await asyncio.sleep(0.6)
        assert seen == []
        daemons.start()
        await seen.until("up")
        assert (len(seen), context.asked) == (1, [])

    watching(Proc(daemons.name), body)


def test_what_is_missing_after_a_start_is_told_soon(daemons):
    async def body(context, seen):
        await seen.until("down", checker.SETTLE + 5)
        assert len(context.asked) == 1

    watching(Proc(daemons.name), body)


def test_processes_that_end_all_the_time_do_not_make_it_busy(daemons):
    for _ in range(40):
        daemons.start()

    async def body(context, seen):
        await seen.until("up")
        for process in list(daemons.running)[:39]:
            daemons.kill(process)
            await asyncio.sleep(0.01)
        assert len(seen) <= 15
        assert seen.last == "up"

    watching(Proc(daemons.name), body)


class Scripts:
    """Stands for the engine, which runs a script of the module."""

    def __init__(self, daemons, outcome):
        self.daemons, self.outcome, self.calls = daemons, outcome, []

    async def __call__(self, name, arguments):
        self.calls.append((name, arguments))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome:
            self.daemons.start()
        return self.outcome


FAILED = SafekitError(Problem("script.failed", "repair ended with status 3"))


@pytest.mark.parametrize(
    ("outcome", "after"),
    [
        (True, ""),
        (False, "the module has no script repair in its bin"),
        (FAILED, "repair ended with status 3"),
    ],
)
def test_a_handler_repairs_or_else_stopstart_follows(daemons, outcome, after):
    context = Context()
    context.script = Scripts(daemons, outcome)

    async def body(context, seen):
        await seen.until("down" if after else "up")
        await asyncio.sleep(0.2)
        cause = f"no process {daemons.name} runs, and at least 1 must"
        assert context.logged == [f"{cause}: repair is called"]
        assert context.script.calls == [("repair", (f"proc.{daemons.name}",))]
        assert context.asked == ([("stopstart", "errd", f"{cause}; {after}", ())] if after else [])

    watching(Proc(daemons.name, action="repair"), body, context=context)


def test_a_service_is_watched_by_its_manager_and_its_main_process(daemons, tmp_path):
    process = daemons.start()
    manager = tmp_path / "systemctl"
    manager.write_text(
        f"#!/bin/sh\necho LoadState=loaded; echo MainPID={process.pid}; echo SubState=x\n"
        f"kill -0 {process.pid} 2>/dev/null && echo ActiveState=active || echo ActiveState=failed\n"
    )
    manager.chmod(0o755)
    variables = (("SAFEKIT_SYSTEMCTL", str(manager)),)
    context = Context(ModuleConfig(Service("light"), User(variables=variables)))

    async def body(context, seen):
        await seen.until("up")
        killed = time.monotonic()
        daemons.kill(process)
        await seen.until("down")
        assert seen[-1][2] - killed < 10.0
        assert seen[-1][1] == "the service web.service is failed (x)"

    watching(Proc("web.service", service=True), body, context=context)


def test_without_a_service_manager_nothing_is_known_and_nothing_follows():
    variables = (("SAFEKIT_SYSTEMCTL", "/nonexistent/systemctl"),)
    context = Context(ModuleConfig(Service("light"), User(variables=variables)))

    async def body(context, seen):
        await seen.until("unknown")
        assert seen[-1][1] == "/nonexistent/systemctl cannot be run: No such file or directory"
        assert context.asked == []

    watching(Proc("web.service", service=True), body, context=context)


def test_what_the_engine_must_know():
    given = (Proc("a", when="custom"), Proc("b", action="repair", start_after=4))
    first, second = checker.create(Context(), given, 30.0)
    assert (first.resource, first.when, first.action) == ("proc.a", "custom", "noaction")
    assert first.limit == 90.0
    assert second.limit == 4 * 30 + 300 + 60
    assert first.config == checker.create(Context(), given, 30.0)[0].config != second.config


def test_fifty_share_their_looks(daemons, monkeypatch):
    looks = []
    monkeypatch.setattr(checker, "scan", lambda *, commands: looks.append(commands) or [])

    async def run():
        made = checker.create(Context(), tuple(Proc(f"p{n}", action="noaction") for n in range(50)), 0.2)
        seen = [Seen() for _ in made]
        tasks = [asyncio.create_task(c.run(s.report)) for c, s in zip(made, seen, strict=True)]
        await asyncio.gather(*(each.until("down") for each in seen))
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert 2 <= len(looks) <= 40, "without sharing, each of the fifty would look twice at least"
