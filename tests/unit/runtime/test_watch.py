"""Checkers run side by side; a broken one shows as its own resource and nothing else."""

import asyncio
import time
from dataclasses import dataclass

from safekit_py.runtime import watch
from safekit_py.runtime.board import Board


class Fake:
    when = "both"

    def __init__(self, resource, behave, action="restart", **more):
        self.resource, self.behave, self.action = resource, behave, action
        self.__dict__.update(more)

    async def run(self, report):
        await self.behave(report)


class Plain(Fake):
    def run(self, report, stop):
        self.behave(report, stop)


async def up_for_ever(report):
    report("up", "fine")
    await asyncio.Event().wait()


async def raising(report):
    raise RuntimeError("boom")


async def leaving(report):
    raise SystemExit(1)


async def falling(report):
    report("up", "fine")
    await asyncio.sleep(0.01)
    report("down", "gone")
    report("down", "gone")
    await asyncio.Event().wait()


def values(board):
    return {r.name: r.value for r in board.all()}


def play(*checkers, wait=0.1, during=None):
    changes = []

    async def main():
        board = Board(lambda r, before: changes.append((r.name, before, r.value, r.cause)))
        running = watch.Watch(board)
        running.start("run", checkers)
        await asyncio.sleep(wait)
        state = values(board)
        if during:
            await during(running, board)
        await running.stop("run")
        assert board.all() == []
        return state

    return asyncio.run(main()), changes


def test_a_failure_is_told_once():
    state, changes = play(Fake("tcp.a", falling))
    assert state == {"tcp.a": "down"}
    assert changes == [("tcp.a", "init", "up", "fine"), ("tcp.a", "up", "down", "gone")]


def test_a_raising_and_an_exiting_checker_disturb_nobody():
    state, changes = play(Fake("a.raises", raising), Fake("b.exits", leaving), Fake("c.works", up_for_ever))
    assert state == {"a.raises": "unknown", "b.exits": "unknown", "c.works": "up"}
    assert ("a.raises", "init", "unknown", "the checker failed: RuntimeError: boom") in changes
    assert ("b.exits", "init", "unknown", "the checker failed: SystemExit: 1") in changes


def test_a_silent_checker_is_unknown_and_is_started_again(monkeypatch):
    monkeypatch.setattr(watch, "BACKOFF", (0.05,))
    runs = []

    async def silent(report):
        runs.append(1)
        report("up", "once")
        await asyncio.Event().wait()

    _, changes = play(Fake("a.silent", silent, limit=0.05), wait=0.4)
    assert ("a.silent", "up", "unknown", "the checker has said nothing for 0.05 s") in changes
    assert len(runs) >= 2


def test_a_plain_function_runs_in_a_thread_and_is_told_to_end():
    ended = []

    def looking(report, stop):
        report("up", "from a thread")
        stop.wait(10)
        ended.append(stop.is_set())

    state, _ = play(Plain("a.thread", looking))
    assert state == {"a.thread": "up"}
    assert ended == [True]


def test_a_thread_that_hangs_costs_nobody_else_anything(monkeypatch):
    monkeypatch.setattr(watch, "THREAD_END", 0.05)
    monkeypatch.setattr(watch, "BACKOFF", (0.05,))

    def hanging(report, stop):
        time.sleep(1.5)

    state, _ = play(Plain("a.hangs", hanging, limit=0.1), Fake("b.works", up_for_ever), wait=0.4)
    assert state == {"a.hangs": "unknown", "b.works": "up"}


def test_switched_off_a_checker_has_no_value_and_on_again_it_looks():
    async def during(running, board):
        assert await running.switch("tcp.*", on=False) == ["tcp.a"]
        assert values(board) == {"ping.b": "up"}
        assert [e.state for e in running.entries()] == ["running", "suspended"]
        assert running.off == ("tcp.*",)
        assert await running.switch("*", on=True) == ["tcp.a"]
        await asyncio.sleep(0.05)
        assert values(board) == {"ping.b": "up", "tcp.a": "up"}

    play(Fake("tcp.a", up_for_ever), Fake("ping.b", up_for_ever), during=during)


def test_a_custom_checker_waits_until_it_is_enabled():
    async def during(running, board):
        assert values(board) == {}
        assert await running.enable(["proc.a"], on=True) == ["proc.a"]
        await asyncio.sleep(0.05)
        assert values(board) == {"proc.a": "up"}
        await running.enable(["proc.a"], on=False)
        assert values(board) == {}

    play(Fake("proc.a", up_for_ever, when="custom"), during=during)


@dataclass(frozen=True)
class Made:
    interval: float


def test_replace_leaves_alone_what_is_made_of_the_same():
    starts = []

    async def counting(report):
        starts.append(1)
        await up_for_ever(report)

    async def during(running, board):
        same, changed = Fake("a.same", counting, config=Made(1.0)), Fake("b.changed", counting, config=Made(2.0))
        assert await running.replace({"run": [same, changed, Fake("d.new", counting)]}) == [
            "b.changed",
            "c.gone",
            "d.new",
        ]
        await asyncio.sleep(0.05)
        assert values(board) == {"a.same": "up", "b.changed": "up", "d.new": "up"}
        assert len(starts) == 5

    play(
        Fake("a.same", counting, config=Made(1.0)),
        Fake("b.changed", counting, config=Made(1.0)),
        Fake("c.gone", counting),
        during=during,
    )


def test_a_checker_that_is_cancelled_by_itself_is_unknown_and_looks_again(monkeypatch):
    """It must not stay up for ever with nobody looking."""
    monkeypatch.setattr(watch, "BACKOFF", (0.05,))
    runs = []

    async def cancelled(report):
        runs.append(1)
        report("up", "fine")
        raise asyncio.CancelledError

    _, changes = play(Fake("a.cancels", cancelled), wait=0.3)
    assert ("a.cancels", "up", "unknown", "the checker was cancelled, and not by the agent") in changes
    assert len(runs) >= 2


def test_a_checker_that_refuses_to_end_holds_nobody_up_and_reports_no_more(monkeypatch):
    monkeypatch.setattr(watch, "TASK_END", 0.05)
    enough = []

    async def stubborn(report):
        while not enough:
            report("up", "still here")
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async def main():
        board = Board(lambda *_: None)
        running = watch.Watch(board)
        running.start("run", [Fake("a.stays", stubborn)])
        await asyncio.sleep(0.05)
        await asyncio.wait_for(running.stop("run"), 2)
        await asyncio.sleep(0.05)
        assert board.all() == []
        enough.append(1)
        await asyncio.sleep(0.05)

    asyncio.run(main())


async def slow_to_end(report):
    report("up", "fine")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)


def test_what_is_switched_or_replaced_while_its_phase_ends_does_not_begin_again():
    async def during(running, board):
        new = [Fake("a.slow", slow_to_end, config=Made(2.0)), Fake("b.new", up_for_ever)]
        changes = [
            asyncio.create_task(running.switch("a.*", on=False)),
            asyncio.create_task(running.replace({"run": new})),
        ]
        await asyncio.sleep(0)
        await asyncio.gather(running.stop("run"), *changes)
        await running.switch("*", on=True)
        assert running.entries() == []
        assert board.all() == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    play(Fake("a.slow", slow_to_end, config=Made(1.0)), during=during)


def test_a_checker_that_is_switched_off_and_on_while_it_ends_runs_once():
    runs = []

    async def counted(report):
        runs.append(1)
        try:
            await slow_to_end(report)
        finally:
            runs.pop()

    async def during(running, board):
        off = asyncio.create_task(running.switch("a.*", on=False))
        await asyncio.sleep(0.02)
        await asyncio.gather(off, running.switch("a.*", on=True))
        await asyncio.sleep(0.2)
        assert len(runs) == 1
        assert values(board) == {"a.slow": "up"}

    play(Fake("a.slow", counted), during=during)


def test_a_checker_may_change_its_phase():
    async def during(running, board):
        running.start("pre", [Fake("b.pre", up_for_ever, when="pre", config=Made(1.0))])
        await asyncio.sleep(0.05)
        moved = Fake("a.both", up_for_ever, when="pre", config=Made(1.0))
        other = Fake("b.pre", up_for_ever, when="both", config=Made(1.0))
        assert await running.replace({"pre": [moved], "run": [other]}) == ["a.both", "b.pre"]
        await asyncio.sleep(0.05)
        assert values(board) == {"a.both": "up", "b.pre": "up"}
        assert [(e.checker.resource, e.phase) for e in running.entries()] == [("a.both", "pre"), ("b.pre", "run")]
        await running.stop("pre")

    play(Fake("a.both", up_for_ever, config=Made(1.0)), during=during)
