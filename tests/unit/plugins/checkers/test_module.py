"""``<module>``: what is up, and when the other one was started anew."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.checkers.module import ModuleChecker, Restarts, _check, _create, judge
from safekit_py.plugins.checkers.module_element import ModuleCheck

from safekit_py.model.config import Cluster, ModuleConfig, Service
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import ModuleContext
from safekit_py.testing.checkers import watch
from safekit_py.testing.clock import FakeClock

CHECK = ModuleCheck("db", "module.db_127.0.0.1")


def state(state="UP", readiness="Ready", starts=1, agent="a"):
    return {"state": state, "readiness": readiness, "starts": starts, "agent": agent}


class Server:
    """What the agent knows of this module, ``web``, and of the other, ``db``, and what was asked of it."""

    def __init__(self, *checks):
        self.known, self.requests, self.lines = {"web": state(), "db": state()}, [], []
        config = ModuleConfig(Service(mode="light"), elements=(("check/module", checks),))
        self.context = ModuleContext(
            *("web", config, Cluster(), "s", Paths(), b"", 0, lambda *line: self.lines.append(line), lambda *_: None),
            request=lambda *request: self.requests.append(request),
            ask=lambda name: self.known.get(name, {}),
        )


@pytest.mark.parametrize(
    ("found", "value", "words"),
    [
        (state(), "up", "db is UP Ready on this server"),
        (state("PRIM"), "up", "db is PRIM Ready on this server"),
        (state("ALONE"), "up", "db is ALONE Ready on this server"),
        (state("SECOND"), "down", "db is SECOND Ready on this server"),
        (state(readiness="Transient"), "down", "db is UP Transient on this server"),
        (state("STOP", "NotReady"), "down", "db is STOP NotReady on this server"),
        (state("NOT_CONFIGURED", ""), "down", "db is NOT_CONFIGURED on this server"),
        ({}, "down", "this server has no module db that can run"),
    ],
)
def test_what_it_says_of_a_module_here(found, value, words):
    assert judge(CHECK, found, "") == (value, words)


def test_it_is_seen_down_and_up_within_a_second_and_a_new_start_brings_one_stopstart():
    server, clock = Server(CHECK), FakeClock()
    (checker,) = _create(server.context)
    server.known["db"] = state("STOP", "NotReady")
    assert [each.status for each in watch(clock, checker, 2.5)] == ["down"] * 3
    assert (checker.rule, checker.action, server.requests) == ("module_failure", "wait", [])

    async def change():
        task = asyncio.create_task(checker.run(lambda *_: None))
        for starts in (1, 2, 2, 3):
            server.known["db"] = state("UP", "Transient", starts)
            await asyncio.sleep(2)
            server.known["db"] = state(starts=starts)
            await asyncio.sleep(2)
        task.cancel()

    clock.run(change())
    assert server.requests == [("stopstart", "modulecheck", "db was started anew", ())] * 2


OWN = st.sampled_from(["UP", "WAIT", "STOP", "ALONE", ""])
READY = st.tuples(st.sampled_from("ab"), st.integers(0, 3)).map(lambda a: state(agent=a[0], starts=a[1]))
OTHER = st.one_of(READY, st.just({}), st.just(state(readiness="Transient", starts=9)))


@given(st.lists(st.tuples(OWN, OTHER)))
def test_a_restart_is_told_once_and_only_while_this_one_runs(looks):
    restarts, last = Restarts(), None
    for own, found in looks:
        told = restarts.look(own, found)
        good = found.get("readiness") == "Ready"
        start = (found["agent"], found["starts"]) if good else last
        assert told == (own in ("UP", "ALONE") and good and last is not None and start != last)
        assert not restarts.look(own, found), "told twice"
        last = start


def test_another_server_that_does_not_answer_is_down():
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))

        def look(port):
            # Its address is this server's for the test only: a real one would not be asked over the network.
            checker = ModuleChecker(Server().context, Elsewhere("db", "module.d", port=port, timeout=0.3))
            return asyncio.run(checker.look())

        assert look(silent.getsockname()[1])[1] == f"no answer from 127.0.0.1:{silent.getsockname()[1]} in 0.3 s"
        assert look(closed.getsockname()[1])[1].startswith("connection refused by 127.0.0.1")


class Elsewhere(ModuleCheck):
    """A module of another server, whatever its address."""

    local = False


def test_two_that_would_set_one_resource_are_refused():
    server = Server(CHECK, ModuleCheck("db", CHECK.resource, port=80))
    (problem,) = _check(server.context.config)
    assert problem.code == "module.watched-twice"
    assert "module.db_127.0.0.1" in problem.message
    assert not list(_check(Server(CHECK, ModuleCheck("db", "module.other", port=80)).context.config))
