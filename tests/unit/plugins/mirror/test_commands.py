"""Commands of a mirror: with ``look`` they change nothing, and what is impossible now is refused with a remedy."""

import asyncio
from types import SimpleNamespace

import pytest
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.commands import Commands
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.roles import Side

from safekit_py.api import Readiness, SafekitError, State

ONE = gen.sharing(gen.first("d1"))
TWO = gen.synced(Generation(), ONE)


class Module:
    """What commands see of a module: it notes what was ordered."""

    def __init__(self, state=State.STOP, generation=TWO, peer=None, *, connected=False, silent=False):
        self.state, self.connected, self.silent = state, connected, silent
        self.generation, self.wish, self.fullsync, self.swaps = generation, "", False, 0
        self.peer = SimpleNamespace(side=peer) if peer is not None else None
        self.orders, self.nudges, self.engine = [], 0, Engine()
        self.context = SimpleNamespace(name="m", order=self.order)

    async def order(self, verb, reason):
        self.orders.append((verb, reason))

    def nudge(self):
        self.nudges += 1

    def me(self):
        return Side(0, self.state, Readiness.READY, self.generation, connected=self.connected)

    def changed(self):
        return self.orders, self.nudges, self.wish, self.fullsync, self.swaps, self.engine.calls

    def run(self, verb, *arguments):
        return asyncio.run(Commands(self).carry_out(verb, arguments))


class Engine:
    """A replication engine with the commands of the built-in one."""

    def __init__(self):
        self.calls = []

    async def verify(self):
        self.calls.append(("verify",))
        return {"text": "the data of both servers are the same"}

    async def external(self, role, uid):
        self.calls.append(("external", role, uid))
        return {"text": "copied"}

    async def resize(self, directory, size):
        self.calls.append(("resize", directory, size))
        return {"text": "grown"}


UNCHANGED = ([], 0, "", False, 0, [])
PRIM = Side(1, State.PRIM, Readiness.READY, ONE, connected=True)
SECOND = Side(1, State.SECOND, Readiness.READY, TWO, connected=True)


@pytest.mark.parametrize("verb", ["prim", "primforce", "second", "secondforce"])
def test_a_start_in_a_role_starts_a_stopped_module(verb):
    module = Module()
    found = module.run(verb)
    assert found["text"]
    assert [each for each, _ in module.orders] == ["start"]
    assert module.wish == verb
    assert module.fullsync == (verb == "secondforce")


def test_a_module_that_waits_already_is_only_told():
    module = Module(State.WAIT)
    module.run("second", "fullsync")
    assert (module.orders, module.nudges) == ([], 1)
    assert module.wish.startswith("second")
    assert module.fullsync


@pytest.mark.parametrize("verb", ["prim", "primforce", "second", "secondforce", "swap", "rfssync"])
def test_a_look_changes_nothing(verb):
    module = Module(*([State.PRIM, ONE, SECOND] if verb == "swap" else []), connected=verb == "swap")
    assert module.run(verb, "look")
    assert module.changed() == UNCHANGED


def test_what_a_command_discards_is_said():
    assert Module().run("prim", "look")["discards"]
    assert Module().run("second", "fullsync", "look")["discards"]
    assert not Module().run("second", "look")["discards"]


@pytest.mark.parametrize(
    ("module", "verb", "code"),
    [
        (Module(peer=PRIM), "prim", "mirror.other-is-primary"),
        (Module(generation=gen.outdated(TWO)), "prim", "mirror.not-uptodate"),
        (Module(State.PRIM, ONE), "prim", "mirror.running"),
        (Module(State.ALONE, ONE), "swap", "mirror.no-swap"),
        (Module(State.PRIM, ONE, SECOND, connected=True, silent=True), "swap", "mirror.no-swap"),
        (Module(State.ALONE, ONE), "rfsverify", "rfs.not-connected"),
        (Module(State.PRIM, ONE), "rfsdiff", "rfs.not-connected"),
        (Module(State.WAIT), "rfssync", "module.running"),
        (Module(State.PRIM, ONE), "rfs-export", "module.running"),
        (Module(), "rfs-export", "rfs.no-command"),
        (Module(), "explode", "command.unknown"),
    ],
)
def test_what_is_impossible_is_refused_and_changes_nothing(module, verb, code):
    with pytest.raises(SafekitError) as caught:
        module.run(verb)
    assert caught.value.problems[0].code == code
    assert caught.value.problems[0].remedy
    assert module.changed() == UNCHANGED


def test_the_primary_exchanges_by_itself_and_the_secondary_asks_it_to():
    primary = Module(State.PRIM, ONE, SECOND, connected=True)
    primary.run("swap")
    assert [each for each, _ in primary.orders] == ["swap"]
    secondary = Module(State.SECOND, TWO, PRIM, connected=True)
    secondary.run("swap")
    assert (secondary.orders, secondary.swaps, secondary.nudges) == ([], 1, 1)


def test_what_the_engine_does_is_passed_on():
    module = Module(State.PRIM, ONE, SECOND, connected=True)
    assert "same" in module.run("rfsverify")["text"]
    module.run("rfs-resize", "/data", "2G")
    stopped = Module()
    stopped.run("rfssync", "external", "prim", "copy")
    assert module.engine.calls == [("verify",), ("resize", "/data", "2G")]
    assert stopped.engine.calls == [("external", "prim", "copy")]


@pytest.mark.parametrize("verb", ["second", "secondforce", "prim"])
def test_what_a_secondary_will_remove_of_its_own_is_said_first(verb):
    module = Module(generation=Generation())
    module.engine.covers = lambda: ("/srv/data",)
    found = module.run(verb, "look")
    assert ("/srv/data" in found["discards"]) is (verb != "prim")
    assert module.changed() == ([], 0, "", False, 0, [])


def test_a_comparison_is_the_primarys():
    module = Module(State.SECOND, connected=True)
    module.other = "server1"
    with pytest.raises(SafekitError, match="server1") as refused:
        module.run("rfsverify")
    assert refused.value.problems[0].code == "rfs.not-primary"
