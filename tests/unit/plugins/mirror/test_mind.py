"""The mind: what was true when a witness was asked need not be true any more when it answers."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.lease import Lease
from safekit_py.plugins.mirror.mind import SLEPT, Mind
from safekit_py.plugins.mirror.roles import Decision, Rules, Side
from safekit_py.plugins.mirror.seams import Grant

from safekit_py.api import Readiness, State

ONE = gen.sharing(gen.first("d1"))


class Slow:
    """A witness that grants when it is let, and tells what it was asked."""

    proves = True

    def __init__(self):
        self.may, self.asked, self.released = asyncio.Event(), [], 0

    async def acquire(self, data, previous, *, known=False):
        self.asked.append(data)
        await self.may.wait()
        return Grant(granted=True, until=1 << 62)

    async def release(self):
        self.released += 1


class Module:
    """As much of a module at work as the mind looks at: a fenced primary that has lost its secondary."""

    def __init__(self, witness):
        self.done = []
        self.lease = Lease(witness, 2.0, 1.0)
        self.engine = SimpleNamespace(
            generation=lambda: ONE, replicates=True, alone=self._does("alone"), release=self._does("release")
        )
        self.addresses = SimpleNamespace(up=self._does("up"), down=self._does("down"), announce=lambda: None)
        self.context = SimpleNamespace(change=lambda state, _: self.done.append(state), set_resource=lambda *_: None)
        self.state, self.readiness = State.PRIM, Readiness.READY
        self.fenced = self.frozen = self.silent = True
        self.connected = self.failing = self.refused = self.leaving = False
        self.election = self.decided = self.began = self.peer = self.link = None
        self.new = self.said = self.outdated_for = ""
        self.claim = self.yields = 0
        self.fenced_at = 0
        self.rules = Rules(witness=True)

    def _does(self, what):
        async def do(*_, **__):
            self.done.append(what)

        return do

    def me(self):
        return Side(0, self.state, self.readiness, ONE, True, self.frozen, self.connected, self.leaving)

    def side(self):
        return None

    def say(self):
        """Nobody listens."""

    def show(self):
        """Nobody looks."""

    def renew(self):
        self.done.append("renew")

    def may_until(self):
        return self.lease.until(None, None)

    def log(self, *_):
        """Nobody reads."""


@pytest.mark.parametrize("stays", [True, False])
def test_an_answer_that_comes_after_the_module_has_left_its_role_changes_nothing(stays):
    """Else the address would stand on a server that waits."""

    async def play():
        witness = Slow()
        module = Module(witness)
        task = asyncio.create_task(Mind(module)._think())
        while not witness.asked:
            await asyncio.sleep(0)
        if not stays:
            module.state = State.WAIT
        witness.may.set()
        await task
        return module.done

    done = asyncio.run(play())
    assert ("up" in done) is stays
    assert ("alone" in done) is stays


@pytest.mark.parametrize("fenced", [True, False])
def test_a_primary_that_gives_way_is_not_asked_again(fenced):
    """Its address is gone: the change to WAIT is asked for again until it is made. When its lease ends meanwhile, what
    its application writes fails: it would keep the scripts that stop it waiting."""

    async def play():
        witness = Slow()
        module = Module(witness)
        module.fenced = fenced
        module.decided = Decision(State.WAIT, "the witness does not let it go on")
        await Mind(module)._think()
        return module.done, witness.asked

    assert asyncio.run(play()) == (["down", *(["release"] if fenced else []), State.WAIT], [])


@pytest.mark.parametrize(
    ("frozen", "connected", "goal", "asked"),
    [
        (
            False,
            False,
            State.ALONE,
            [State.ALONE],
        ),  # it goes on alone, and a restart was under way when that was decided
        (False, True, State.ALONE, []),  # the secondary is back already
        (False, False, State.PRIM, []),
    ],
)
def test_a_change_to_alone_that_another_command_kept_is_asked_for_again(frozen, connected, goal, asked):
    """Else the state would go on saying that the other server has the same data."""

    async def play():
        module = Module(None)
        module.fenced = False
        module.frozen, module.connected, module.decided = frozen, connected, Decision(goal, "the secondary is lost")
        await Mind(module)._think()
        return [each for each in module.done if isinstance(each, State)]

    assert asyncio.run(play()) == asked


def test_a_server_that_wakes_knows_that_it_slept_before_its_lease_is_kept_again():
    """News of the volume may be looked at first: what is known of the other server is old then, not its silence."""

    async def play():
        module = Module(None)
        module.config = SimpleNamespace(pulse=0.01)
        mind = Mind(module)
        keeping = asyncio.create_task(mind.keep())
        await asyncio.sleep(0.05)
        seen = [mind.awake]
        time.sleep(SLEPT + 0.1)  # noqa: ASYNC251 - as a stopped process: no task runs
        woken = time.monotonic()
        seen.append(mind.awake)
        await asyncio.sleep(0.05)
        seen.append(mind.awake)
        keeping.cancel()
        return seen, woken

    (before, at_once, later), woken = asyncio.run(play())
    assert before < woken - SLEPT
    assert woken <= at_once < woken + 0.4
    assert woken <= later < woken + 0.4
