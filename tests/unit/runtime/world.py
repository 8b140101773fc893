"""What stands around a runner in random histories: a module type, scripts, checkers and actions that behave as told.

They hold the runner to the order that the automaton promises; a broken promise is kept until the end, since the runner
survives exceptions.
"""

import asyncio

from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.hookspecs import hookimpl
from safekit_py.model.plugin import Action, CheckerType
from safekit_py.model.rules import Operand, Rule, Test
from safekit_py.model.state import Readiness, State
from safekit_py.programs import ScriptFailed

HOOKS = ("prepare", "open", "close", "release")
PHASES = (("pre", "wait"), ("pre", "stopstart"), ("both", "restart"), ("both", "wait"), ("both", "shove"))
PHASES += (("both", "stop"), ("both", "noaction"), ("both", "tell"), ("custom", "restart"), ("both", "clumsy"))
PHASES += (("both", "careless"),)
USERS = Rule("full", Test(Operand("local", "custom", "full"), True, "down"), "stopstart")
GONE = "the agent is killed"


class World:
    """The server around the runner, which outlives it: what stands in the kernel, the application, what fails."""

    def __init__(self):
        self.trace, self.broken, self.faults = [], [], {}
        self.recovered = self.prepared = self.opened = self.application = self.left = False
        self.scripts, self.excused, self.lacks = "fine", False, False
        self.well = asyncio.Event()  # ends what hangs
        self.values = {}
        self.turned = asyncio.Event()
        self.checkers = ()
        self.runner = None

    def note(self, *what):
        self.trace.append(what)

    def must(self, holds, what):
        if not holds:
            self.broken.append(what)
            self.note("BROKEN", what)

    def turn(self, name, value):
        self.values[name] = value
        self.turned.set()
        self.turned = asyncio.Event()

    def heal(self):
        self.faults.clear()
        self.scripts, self.lacks = "fine", False
        self.well.set()
        for name in list(self.values):
            self.turn(name, "up")

    def killed(self):
        self.note(GONE)
        self.recovered = False
        self.left = self.application

    async def fault(self, hook):
        kind, lasts = self.faults.get(hook, (None, False))
        if not lasts:
            self.faults.pop(hook, None)
        await asyncio.sleep(0)
        if kind is None:
            return False
        self.note("fault", hook, kind)
        if kind == "hang":
            await self.well.wait()
            return False
        if kind == "safekit":
            raise SafekitError(Problem("trial.fault", f"{hook} failed"))
        if kind == "state":
            raise StateError(Problem("trial.fault", f"{hook} does not like it"))
        if kind == "cancel":
            raise asyncio.CancelledError
        raise OSError(28, f"{hook}: no space")


class Runtime:
    def __init__(self, world):
        self.world = world

    async def recover(self):
        self.world.note("recover")
        self.world.recovered, self.world.prepared, self.world.opened, self.world.excused = True, False, False, False

    async def prepare(self):
        world = self.world
        world.note("prepare")
        world.must(world.recovered, "prepare before recover")
        world.must(not world.prepared, "prepared twice")
        world.must(world.runner.state is State.WAIT, "prepare outside of WAIT")
        world.prepared = True  # perhaps half of it
        await world.fault("prepare")

    async def open(self):
        world = self.world
        world.note("open")
        world.must(world.prepared, "open before prepare")
        world.must(not world.opened, "opened twice")
        world.must(world.application, "open without an application")
        now = (world.runner.state, world.runner.readiness)
        world.must(now == (State.UP, Readiness.TRANSIENT), f"open in {now}")
        world.opened = True
        await world.fault("open")

    async def close(self):
        world = self.world
        world.note("close")
        try:
            await world.fault("close")
        except BaseException:
            world.excused = True
            raise
        world.opened = False

    async def release(self):
        world = self.world
        world.note("release")
        world.must(not world.opened or world.excused, "release before close")
        try:
            await world.fault("release")
        except BaseException:
            world.excused = True
            raise
        world.prepared = False

    def report(self):
        return {}


class Scripts:
    """Stands for the module's scripts."""

    def __init__(self, world):
        self.world, self.user, self.killed = world, None, asyncio.Event()

    def kill(self, *_):
        self.killed.set()

    async def run(self, step, more=()):
        world = self.world
        world.note("script", step.name, *step.arguments)
        self.killed = asyncio.Event()
        starts, stops = step.name == "start_both", step.name == "stop_both"
        if starts:
            world.must(not world.left, "started beside what a killed run left")
            world.must(not world.opened or world.excused, "started while clients get in")
            world.application = True
        if stops:
            world.must(not world.opened or world.excused, "stopped while clients get in")
            if step.forced:
                world.application = world.left = False  # as far as a script can
        mode = world.scripts
        if mode == "hang":
            ends = [asyncio.create_task(self.killed.wait()), asyncio.create_task(world.well.wait())]
            try:
                await asyncio.wait(ends, timeout=0.08, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in ends:
                    each.cancel()
            if not world.well.is_set():
                raise ScriptFailed(Problem("script.timeout", f"{step.name} was killed"))
        else:
            await asyncio.sleep(0)
        if mode == "fail":
            raise ScriptFailed(Problem("script.failed", f"{step.name} ended with status 1"))
        if mode == "system":
            raise OSError(12, "no memory")
        return True


class Type:
    name, goal = "trial", State.UP

    def __init__(self):
        self.world = None

    def check(self, config, cluster):
        return ()

    def requirements(self, config):
        return (Problem("trial.lacks", "something is lacking"),) if self.world.lacks else ()

    def runtime(self, context):
        return Runtime(self.world)


class Turned:
    """A checker that does what the history says."""

    limit = 0.05

    def __init__(self, world, number, version):
        self.when, self.action = PHASES[number]
        self.resource = f"turned.{number}"
        self.world, self.config = world, version
        world.values.setdefault(self.resource, "up")

    async def run(self, report):
        while True:
            value, turned = self.world.values[self.resource], self.world.turned
            if value == "raise":
                raise RuntimeError("boom")
            if value == "cancel":
                raise asyncio.CancelledError
            if value == "end":
                return
            if value != "silent":
                report(value, "turned")
            try:
                async with asyncio.timeout(0.02):
                    await turned.wait()
            except TimeoutError:
                continue


async def shove(control, cause):
    await control.stopstart(cause)


async def clumsy(control, cause):
    await control.restart(cause)
    raise ValueError("after its work")


async def careless(control, cause):
    try:
        await control.restart(cause)
    except SafekitError:
        return


async def tell(control, cause):
    await asyncio.sleep(0)


class Plugin:
    def __init__(self, kind):
        self.kind = kind

    @hookimpl
    def safekit_module_types(self):
        return [self.kind]

    @hookimpl
    def safekit_checkers(self):
        return [CheckerType("trial", lambda _: self.kind.world.checkers)]

    @hookimpl
    def safekit_actions(self):
        ranks = ((shove, 45), (clumsy, 12), (careless, 13), (tell, 5))
        return [Action(run.__name__, run, rank=rank) for run, rank in ranks]
