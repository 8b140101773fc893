"""A real runner lives through random histories: commands, failures, faults of its module type, crashes of the agent.

Only the scripts and the module type are the test's own; they hold the runner to the order that the automaton promises
while it goes on. In the end all is made well again, and then the module must come to rest.
"""

import asyncio
import gc
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import HOOKS, PHASES, USERS, Plugin, Scripts, Turned, Type, World

from safekit_py.errors import StateError
from safekit_py.model.config import Cluster, Failover, ModuleConfig, Service, User
from safekit_py.model.paths import Paths
from safekit_py.model.state import Readiness, State
from safekit_py.net.keys import Keys
from safekit_py.runtime import automation, plugins, requests, steps, watch
from safekit_py.runtime.runner import ModuleRunner, Verb

COUNTED = ("restart", "wait", "stopstart", "swap")


@pytest.fixture(scope="module")
def kind():
    return Type()


@pytest.fixture(scope="module")
def manager(kind):
    made = plugins.Manager()
    made.load_module("safekit_py.plugins.actions.basic")
    made.register("trial", Plugin(kind))
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(automation, "PAUSE", 0.004)
    monkeypatch.setattr(steps, "LOOK", 0.01)
    monkeypatch.setattr(steps, "FORCED_LIMIT", 0.2)
    monkeypatch.setattr(watch, "BACKOFF", (0.005,))
    monkeypatch.setattr(watch, "THREAD_END", 0.05)
    monkeypatch.setattr(requests, "AGAIN", 0.005)
    gc.collect()
    gc.freeze()  # each history is followed by a collection of its own
    yield
    gc.unfreeze()


class History:
    def __init__(self, root, manager, kind, setup):
        self.numbers, maxloop, handle_time, reboots = setup
        self.world = kind.world = World()
        self.manager, self.paths = manager, Paths(root)
        self.service = Service("trial", maxloop=maxloop, automatic_reboot=reboots)
        self.config = ModuleConfig(self.service, User(5.0, 5.0), failover=Failover(True, 1.0, handle_time, (USERS,)))
        self.version, self.futures, self.events, self.unhandled = 0, [], [], []
        self.make_checkers(self.numbers)

    def make_checkers(self, numbers):
        self.world.checkers = tuple(Turned(self.world, number, self.version) for number in sorted(numbers))

    async def boot(self):
        made = ModuleRunner(
            "app",
            self.config,
            paths=self.paths,
            manager=self.manager,
            cluster=Cluster(nodes=("a",)),
            node="a",
            keys=Keys.of(b"k" * 32),
            module_id=1,
            publish=self.publish,
            reboot=lambda: self.world.note("reboot"),
        )
        made.scripts = Scripts(self.world)
        self.runner = self.world.runner = made
        self.asked = False
        await made.recover()

    def publish(self, event):
        if event.kind == "command":
            self.world.note("command", event.data["command"], event.data["who"])
        elif event.kind == "state":
            self.world.note(event.message)
        elif event.source in ("heart", "failover"):
            self.world.note("log", event.message)

    # --- what may happen ------------------------------------------------------------------------

    async def do(self, what, *values):
        self.world.note("do", what, *values)
        try:
            await getattr(self, f"_{what}")(*values)
        except StateError as error:
            self.world.note("refused", error.problems[0].message)

    async def _ask(self, verb):
        future = self.runner.submit(verb, "a person", person=True)
        self.world.note("person")
        self.asked = True  # of this runner
        self.futures.append(future)

    async def _automatic(self, verb):
        self.futures.append(self.runner.automatic(verb, "script"))

    async def _wanted(self, action):
        self.runner.context.request(action, "errd", "gone", ())

    async def _turn(self, number, value):
        self.world.turn(f"turned.{number}", value)

    async def _scripts(self, mode):
        self.world.scripts = mode
        self.world.well.clear()

    async def _fault(self, hook, what, lasts):
        self.world.faults[hook] = (what, lasts)
        self.world.well.clear()

    async def _lacks(self):
        self.world.lacks = True

    async def _heal(self):
        self.world.heal()

    async def _failover(self, value):
        self.runner.memory.write(failover=value)
        self.runner.failover.touch()

    async def _checkers(self, on):
        await self.runner.switch_checkers("turned.*", on=on)

    async def _enable(self, on):
        await self.runner.watch.enable(["turned.8"], on=on)

    async def _resource(self, value):
        self.runner.board.set("custom.full", value, "a script")

    async def _count(self):
        self.runner.count_one("handler")

    async def _configure(self, numbers, same):
        self.version += not same
        self.make_checkers(numbers)
        await self.runner.reconfigure(replace(self.config, user=User(4.0, 4.0)))

    async def _rest(self, seconds):
        await asyncio.sleep(seconds)

    async def _crash(self):
        await self.end()
        self.world.killed()
        await self.boot()
        if self.runner.memory.now.started:
            start = self.runner.submit(Verb.START, "with the agent", person=False, run=self.runner.deeds.resume)
            self.asked = True
            self.futures.append(start)

    # --- how it ends ----------------------------------------------------------------------------

    async def end(self):
        """End the runner; nothing of it lives on."""
        await self.runner.shutdown()
        for _ in range(3):
            await asyncio.sleep(0)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        self.world.must(not rest, f"tasks are left: {rest}")
        self.world.must(all(each.done() for each in self.futures), "a request was never answered")
        with pytest.raises(StateError):
            self.runner.submit(Verb.START, "too late", person=True)

    @property
    def at_rest(self):
        quiet = (
            self.runner.desk.current is None
            and self.runner.desk.waiting is None
            and self.runner.automation.coming is None
        )
        return quiet and (self.runner.state is State.STOP or self.runner.readiness is Readiness.READY)

    async def come_to_rest(self):
        self.world.heal()
        self.runner.memory.write(failover="")
        self.runner.board.set("custom.full", "up", "a script")
        await self.runner.switch_checkers("*", on=True)
        quiet = 0
        for _ in range(600):
            await asyncio.sleep(0.005)
            quiet = quiet + 1 if self.at_rest else 0
            if quiet >= 3:
                break
        self.world.must(quiet >= 3, "it does not come to rest")

    def judge_rest(self):
        world, up = self.world, self.runner.state is State.UP
        world.must(all(each.done() for each in self.futures), "a request is not answered at rest")
        world.must(not up or (world.prepared and world.opened and world.application), "UP, and clients are not let in")
        world.must(not up or self.runner.memory.now.started, "it runs, and is remembered as stopped")
        if not up:
            self.judge_stop()

    def judge_stop(self):
        world = self.world
        world.must(not world.prepared or world.excused, "STOP, and not released")
        world.must(not world.opened or world.excused, "STOP, and clients get in")
        world.must(not self.runner.watch.entries(), "STOP, and checkers look")
        # After a crash in the midst of a stop the mark stays until somebody asks for something.
        world.must(not self.runner.mark.there or not self.asked, "STOP, and marked as running")

    def judge_loop(self):
        count, maxloop = 0, self.service.maxloop
        for what, *values in self.world.trace:
            if what == "person":
                count = 0
            elif what == "command" and values[0] in COUNTED and values[1] != "a person":
                count += 1
                # One more: it was on its way when a person's command made the count begin anew.
                self.world.must(count <= maxloop + 1, f"{count} automatic actions")

    async def play(self, story):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.unhandled.append(context))
        await self.boot()
        for happening, pause in story:
            await self.do(*happening)
            await asyncio.sleep(pause)
        await self.come_to_rest()
        self.judge_rest()
        await asyncio.wait_for(self.runner.submit(Verb.STOP, "a person", person=True), 5)
        self.asked = True
        self.world.must(self.runner.state is State.STOP, "a stop that does not end in STOP")
        self.world.must(not self.world.application, "a stop that leaves the application")
        self.world.must(not self.runner.memory.now.started, "stopped, and remembered as started")
        self.judge_stop()
        await self.end()
        self.judge_loop()


VERBS = st.sampled_from([Verb.START] * 4 + [Verb.RESTART, Verb.STOPSTART, Verb.STOP, Verb.WAIT, Verb.FORCESTOP])
NUMBERS = st.sets(st.integers(0, len(PHASES) - 1), max_size=4)
VALUES = st.sampled_from(["down", "down", "down", "up", "unknown", "raise", "silent", "end", "cancel"])
FAULTS = st.sampled_from(["safekit", "state", "os", "cancel", "hang"])
WANTED = st.sampled_from(["restart", "stopstart", "stop", "wait", "shove", "careless", "tell"])
ASK = st.tuples(st.just("ask"), VERBS)
TURN = st.tuples(st.just("turn"), st.integers(0, len(PHASES) - 1), VALUES)
HAPPENINGS = st.one_of(
    *(ASK, ASK, ASK, TURN, TURN),
    st.tuples(st.just("automatic"), st.sampled_from([Verb.RESTART, Verb.STOPSTART, Verb.WAIT])),
    st.tuples(st.just("wanted"), WANTED),
    st.tuples(st.just("scripts"), st.sampled_from(["fine", "fail", "hang", "system"])),
    st.tuples(st.just("fault"), st.sampled_from(HOOKS), FAULTS, st.booleans()),
    st.tuples(st.just("heal")),
    st.tuples(st.just("configure"), NUMBERS, st.booleans()),
    st.tuples(st.just("crash")),
    st.one_of(
        st.tuples(st.just("lacks")),
        st.tuples(st.just("failover"), st.sampled_from(["on", "off"])),
        st.tuples(st.just("checkers"), st.booleans()),
        st.tuples(st.just("enable"), st.booleans()),
        st.tuples(st.just("resource"), st.sampled_from(["up", "down"])),
        st.tuples(st.just("count")),
    ),
)
STORIES = st.lists(st.tuples(HAPPENINGS, st.sampled_from([0.0, 0.0, 0.001, 0.006, 0.03])), min_size=6, max_size=16)
SETUPS = st.tuples(NUMBERS, st.integers(1, 3), st.sampled_from([0.0, 0.01]), st.booleans())


def live_through(manager, kind, setup, story):
    with tempfile.TemporaryDirectory() as root:
        history = History(Path(root), manager, kind, setup)
        try:
            asyncio.run(history.play([(("ask", Verb.START), 0.006), *story]))
            gc.collect()
            history.world.must(not history.unhandled, f"unhandled: {history.unhandled}")
            assert not history.world.broken, history.world.broken
        except BaseException:
            print("----", *history.world.trace, sep="\n")
            raise


@settings(
    max_examples=examples(60),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(setup=SETUPS, story=STORIES)
def test_whatever_happens_it_keeps_its_promises_and_comes_to_rest(manager, kind, setup, story):
    live_through(manager, kind, setup, story)
