"""Plugins that hang in a real event loop: the loop goes on, and the culprit is named."""

import asyncio
import contextlib
import inspect
import re
import socket
import sys
import threading
import time

import pytest

from safekit_py.errors import SafekitError
from safekit_py.hookspecs import hookimpl
from safekit_py.model.plugin import Action, CheckerType
from safekit_py.runtime import guard, plugins
from safekit_py.runtime.board import Board
from safekit_py.runtime.guard import Guard, PluginExit, PluginStalled
from safekit_py.runtime.watch import Watch

# ruff: noqa: ASYNC251 - to block the loop is what these tests are about
LIMIT = 8.0  # seconds: 2.5 on a quiet machine


@pytest.fixture
def quick(monkeypatch):
    """Half the time limits; that the real ones work is seen once, below."""
    monkeypatch.setattr(guard, "LIMIT", 0.8)
    monkeypatch.setattr(guard, "EVERY", 0.2)


async def sleeps():
    time.sleep(60)


async def loops():
    while True:
        pass


async def swallows():
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


async def reads():
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


async def locks():
    held = threading.Lock()
    held.acquire()
    held.acquire()


async def in_a_task_of_its_own():
    await asyncio.create_task(sleeps())


@pytest.mark.parametrize("behave", [sleeps, loops, swallows, reads, locks, in_a_task_of_its_own])
def test_code_that_blocks_the_loop_is_ended(behave, quick):
    told = []

    async def main():
        watching = Guard(lambda owner, error: told.append((owner, error)))
        watching.start()
        try:
            ticks = asyncio.create_task(tick(found := []))
            began = time.monotonic()
            with pytest.raises(PluginStalled, match="plugin bad, its part"):
                await guard.task("plugin bad, its part", behave())
            took = time.monotonic() - began
            await asyncio.sleep(0.1)
            ticks.cancel()
            return took, found
        finally:
            watching.stop()

    async def tick(found):
        while True:
            found.append(time.monotonic())
            await asyncio.sleep(0.02)

    took, found = asyncio.run(main())
    assert took < LIMIT
    assert found
    assert [owner for owner, _ in told] == ["plugin bad, its part"]


def test_a_call_that_blocks_is_ended_with_the_frames_of_the_plugin(quick):
    told = []

    def outer():
        inner()

    def inner():
        time.sleep(60)

    async def main():
        watching = Guard(lambda _, error: told.append(error))
        watching.start()
        try:
            guard.call("plugin bad, a hook", outer)
        finally:
            watching.stop()

    with pytest.raises(PluginStalled):
        asyncio.run(main())
    names, trace = [], told[0].__traceback__
    while trace:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names == ["outer", "inner"]


def test_a_callback_that_a_plugin_asked_for_is_ended(quick):
    told = []

    async def plugin():
        asyncio.get_running_loop().call_soon(time.sleep, 60)
        await asyncio.sleep(0)

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        watching = Guard(lambda owner, _: told.append(owner))
        watching.start()
        try:
            began = time.monotonic()
            await guard.task("plugin bad, a callback", plugin())
            await asyncio.sleep(0.05)
            return time.monotonic() - began
        finally:
            watching.stop()

    assert asyncio.run(main()) < LIMIT
    assert told == ["plugin bad, a callback"]


def test_the_engines_own_code_is_only_reported(caplog, monkeypatch):
    monkeypatch.setattr(guard, "LIMIT", 0.4)
    monkeypatch.setattr(guard, "EVERY", 0.1)

    async def main():
        watching = Guard()
        watching.start()
        time.sleep(1.0)
        watching.stop()

    asyncio.run(main())
    assert "by no plugin" in caplog.text
    assert caplog.text.count("by no plugin") == 1


def test_a_plugin_that_calls_into_the_engine_is_not_interrupted_there():
    """The innermost frames decide: what a plugin called may not be left half done."""
    look = "def report():\n    return culprit(frame())\n"
    names = {"culprit": guard.culprit, "frame": sys._getframe}
    engine, plugin = {**names, "__name__": "safekit_py.runtime.board"}, {**names, "__name__": "mail"}
    exec(look, engine)
    exec(look, plugin)
    assert guard.call("plugin good, a hook", engine["report"]) == ""
    assert guard.call("plugin good, a hook", plugin["report"]) == "plugin good, a hook"
    assert plugin["report"]() == ""


class Hanging:
    """A plugin whose every part hangs."""

    name, goal = "hanging", None

    @hookimpl
    def safekit_event(self, event):
        time.sleep(60)

    @hookimpl
    def safekit_module_types(self):
        return [self]

    @hookimpl
    def safekit_checkers(self):
        return [CheckerType("hanging", lambda _: time.sleep(60))]

    @hookimpl
    def safekit_actions(self):
        return [Action("hanging", self.act)]

    async def act(self, control, cause):
        time.sleep(60)

    def check(self, config, cluster):
        yield time.sleep(60)

    def requirements(self, config):
        return []

    def runtime(self, context):
        return self

    async def prepare(self):
        time.sleep(60)

    def report(self):
        time.sleep(60)

    def explain(self, what, words):
        time.sleep(60)


async def act(manager):
    await manager.actions()["hanging"].run(None, "x")


async def prepare(manager):
    await manager.module_types()["hanging"].runtime(None).prepare()


def explain(manager):
    with contextlib.suppress(SafekitError):
        manager.module_types()["hanging"].runtime(None).explain("x", ())


PARTS = {
    "safekit_event": lambda manager: manager.event(None),
    "check of the module type": lambda manager: manager.module_types()["hanging"].check(None, None),
    "report of the module type": lambda manager: manager.module_types()["hanging"].runtime(None).report(),
    "explain of the module type": explain,
    "the checker type": lambda manager: manager.checkers()["hanging"].create(None),
    "the action": act,
    "prepare of the module type": prepare,
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_plugin_is_ended_when_it_hangs(part, quick):
    async def main():
        manager = plugins.Manager()
        manager.register("bad", Hanging())
        manager.guard.start()
        try:
            with contextlib.suppress(PluginStalled):
                done = PARTS[part](manager)
                await done if inspect.isawaitable(done) else None
        finally:
            manager.guard.stop()
        return manager.entry("bad")

    began = time.monotonic()
    entry = asyncio.run(main())
    assert time.monotonic() - began < LIMIT
    assert entry.faults == 1
    assert f"plugin bad, {part}" in entry.problems[0].message
    assert "time.sleep(60)" in entry.last


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_is_an_exception_of_the_plugin(error):
    def leave():
        raise error

    with pytest.raises(PluginExit):
        guard.call("plugin bad, a hook", leave)


def test_an_exit_in_a_task_of_its_own_does_not_end_the_loop():
    async def leaves():
        sys.exit(3)

    async def plugin():
        with pytest.raises(PluginExit, match=re.escape("SystemExit: 3")):
            await asyncio.create_task(leaves())
        return "goes on"

    async def main():
        watching = Guard()
        watching.start()
        try:
            return await guard.task("plugin bad, x", plugin())
        finally:
            watching.stop()

    assert asyncio.run(main()) == "goes on"


def test_a_time_limit_without_a_loop():
    began = time.monotonic()
    with pytest.raises(PluginStalled, match="its import"), guard.within(0.2, "plugin bad, its import"):
        time.sleep(60)
    assert time.monotonic() - began < LIMIT


def test_a_checker_that_hangs_shows_at_its_own_resource_and_the_others_go_on():
    class Checker:
        when, action = "both", "noaction"

        def __init__(self, resource, run):
            self.resource, self.run = resource, run

    async def hangs(report):
        time.sleep(60)

    async def works(report):
        while True:
            report("up", "fine")
            await asyncio.sleep(0.05)

    async def main():
        manager = plugins.Manager()
        manager.plugins.append(plugins.Loaded("bad", "test"))
        manager._watches("bad", "x.bad")
        manager.guard.start()
        board = Board(lambda *_: None)
        watching = Watch(board, manager.guarded)
        watching.start("run", [Checker("x.bad", hangs), Checker("x.good", works)])
        try:
            end = time.monotonic() + LIMIT
            while board.get("x.bad") != "unknown" and time.monotonic() < end:
                await asyncio.sleep(0.05)
            causes = {each.name: each.cause for each in board.all()}
            return board.get("x.bad"), causes["x.bad"], board.get("x.good"), manager.entry("bad").faults
        finally:
            manager.guard.stop()
            await watching.stop("run")

    value, cause, other, faults = asyncio.run(main())
    assert (value, other, faults) == ("unknown", "up", 1)
    assert "plugin bad, the checker x.bad blocked the agent" in cause
