"""A real runner with real scripts, around which a test brings a module type that fails when told to, and checkers."""

import asyncio
import time

from safekit_py.hookspecs import hookimpl
from safekit_py.model.config import Cluster, Failover, ModuleConfig, Service, User
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import CheckerType
from safekit_py.model.state import State
from safekit_py.net.keys import Keys
from safekit_py.runtime import plugins
from safekit_py.runtime.runner import ModuleRunner


class TrialRuntime:
    def __init__(self, calls, faults):
        self.calls, self.faults = calls, faults

    def __getattr__(self, name):
        async def call(*_given, **_named):
            self.calls.append(name)
            fault = self.faults.get(name)
            if isinstance(fault, asyncio.Event):
                await fault.wait()
            elif fault is not None:
                raise fault

        return call

    def report(self):
        return {}


class TrialType:
    name, goal = "trial", State.UP

    def __init__(self, calls, problems, faults):
        self.calls, self.problems, self.faults = calls, problems, faults

    def check(self, config, cluster):
        return ()

    def requirements(self, config):
        return self.problems

    def runtime(self, context):
        return TrialRuntime(self.calls, self.faults)


class Switch:
    """A checker that a test turns up and down."""

    def __init__(self, action="restart", when="both", value="up", resource="trial.switch"):
        self.action, self.when, self.value, self.resource = action, when, value, resource
        self.changed = asyncio.Event()

    async def run(self, report):
        while True:
            report(self.value, "turned by the test")
            self.changed.clear()
            await self.changed.wait()

    def turn(self, value):
        self.value = value
        self.changed.set()


class Trial:
    """One module and its runner.

    :param problems: what its type lacks here.
    :param faults: by the name of a call of its type: the exception that it raises, or an event that it waits for.
    :param rules: of ``<failover>``.
    :param actions: that a plugin brings.
    """

    def __init__(
        self, tmp_path, *, maxloop=3, handle_time=0.0, checkers=(), problems=(), faults=None, rules=(), actions=()
    ):
        self.calls, self.events, self.faults = [], [], faults if faults is not None else {}
        self.paths = Paths(tmp_path)
        self.bin = self.paths.module("app") / "bin"
        self.bin.mkdir(parents=True)
        trial, kinds = TrialType(self.calls, problems, self.faults), [CheckerType("trial", lambda _: checkers)]

        class Plugin:
            @hookimpl
            def safekit_module_types(self):
                return [trial]

            @hookimpl
            def safekit_checkers(self):
                return kinds

            @hookimpl
            def safekit_actions(self):
                return actions

        self.manager = plugins.Manager()
        self.manager.load_module("safekit_py.plugins.actions.basic")
        self.manager.register("trial", Plugin())
        self.config = ModuleConfig(
            Service("trial", maxloop=maxloop),
            User(5.0, 5.0),
            failover=Failover(handle_time=handle_time, rules=tuple(rules)),
        )

    def script(self, name, text="true"):
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.bin}/../order\n{text}\n')
        path.chmod(0o755)

    def order(self):
        path = self.bin.parent / "order"
        return path.read_text().splitlines() if path.exists() else []

    async def __aenter__(self):
        self.runner = ModuleRunner(
            "app",
            self.config,
            paths=self.paths,
            manager=self.manager,
            cluster=Cluster(nodes=("a",)),
            node="a",
            keys=Keys.of(b"k" * 32),
            module_id=1,
            publish=self.events.append,
        )
        await self.runner.recover()
        return self

    async def __aexit__(self, *_):
        await self.runner.shutdown()

    async def ask(self, verb, cause="test", *, person=True):
        await asyncio.wait_for(self.runner.submit(verb, cause, person=person), 20)

    async def reach(self, state, limit=15.0):
        end = time.monotonic() + limit
        while f"{self.runner.state} {self.runner.readiness}" != state or self.runner.busy:
            assert time.monotonic() < end, (self.runner.state, self.runner.readiness, [e.message for e in self.events])
            await asyncio.sleep(0.02)

    async def boot(self):
        """The agent was killed without a word, and a new one has come."""
        await self.runner.shutdown()
        return await self.__aenter__()

    async def until(self, look, limit=10.0):
        """Wait until something is so."""
        end = time.monotonic() + limit
        while not look():
            assert time.monotonic() < end, [e.message for e in self.events]
            await asyncio.sleep(0.01)

    def said(self, text):
        """Whether a line of the log has this text."""
        return any(text in event.message for event in self.events)
