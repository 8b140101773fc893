"""The fixtures for authors of plugins, used as an author uses them."""

import asyncio
import time

import pytest

from safekit_py.errors import ConfigError
from safekit_py.hookspecs import hookimpl
from safekit_py.model.plugin import CheckerType
from safekit_py.model.state import State

FRAGMENT = '<check><tcp ident="web" when="both"><to addr="127.0.0.1" port="9" interval="10"/></tcp></check>'


class Listener:
    def __init__(self):
        self.events = []

    @hookimpl
    def safekit_event(self, event):
        self.events.append(event)

    @hookimpl
    def safekit_checkers(self):
        return [CheckerType("none", lambda _: [])]


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def plugins_under_test(listener):
    return (listener,)


def test_time_passes_only_when_it_is_turned(fake_clock):
    seen, began = [], time.monotonic()

    async def tick():
        while True:
            seen.append(asyncio.get_running_loop().time())
            await asyncio.sleep(60)

    fake_clock.start(tick())
    assert seen == [1000]
    fake_clock.advance(59)
    assert seen == [1000]
    fake_clock.advance(3600)
    assert len(seen) == 61
    assert fake_clock.now == 1000 + 3659
    assert time.monotonic() - began < 5


def test_timers_run_in_their_order(fake_clock):
    seen = []

    async def later(name, seconds):
        await asyncio.sleep(seconds)
        seen.append(name)

    for name, seconds in (("c", 3), ("a", 1), ("b", 2)):
        fake_clock.start(later(name, seconds))
    fake_clock.advance(10)
    assert seen == ["a", "b", "c"]


def test_a_thread_is_waited_for_before_time_goes_on(fake_clock):
    async def work():
        async with asyncio.timeout(1):
            return await asyncio.to_thread(lambda: time.sleep(0.3) or "done")

    assert fake_clock.run(work()) == "done"


def test_a_socket_is_waited_for_too(fake_clock):
    async def talk():
        server = await asyncio.start_server(lambda _, writer: writer.write(b"hello\n"), "127.0.0.1", 0)
        async with server, asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            line = await reader.readline()
            writer.close()
            return line

    assert fake_clock.run(talk()) == b"hello\n"


def test_what_never_happens_fails_at_once(fake_clock):
    async def waits():
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        fake_clock.run(waits(), limit=3600)
    with pytest.raises(RuntimeError, match="nothing is left to happen"):
        fake_clock.loop.run_until_complete(waits())


def test_a_configuration_by_the_real_check(module_config):
    config = module_config(FRAGMENT)
    assert config.one("check/tcp").port == 9
    with pytest.raises(ConfigError) as caught:
        module_config(FRAGMENT.replace("port", "prt"))
    assert caught.value.code == "config.unknown-attribute"
    with pytest.raises(ConfigError, match="no plugin brings the mode moon"):
        module_config('<safe><service mode="moon"/></safe>')


def test_a_checker_on_the_clock(module_config, fake_group, plugin_manager, run_checker):
    group = fake_group(module_config(FRAGMENT))
    (checker,) = plugin_manager.checkers()["tcp"].create(group.context)
    reports = run_checker(checker, seconds=25)
    assert [(r.at, r.status) for r in reports] == [
        (pytest.approx(10, abs=0.5), "down"),
        (pytest.approx(20, abs=0.5), "down"),
    ]


def test_a_checker_that_raises_raises_in_the_test(run_checker):
    class Bad:
        async def run(self, report):
            report("up", "once")
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        run_checker(Bad())


def test_a_checker_that_is_a_plain_function(run_checker):
    class Plain:
        def run(self, report, stop):
            while not stop.wait(0.05):
                report("up", "fine")

    assert {r.status for r in run_checker(Plain(), seconds=0.3)} == {"up"}


def test_a_module_that_records(fake_group, listener):
    group = fake_group()
    group.others["db"] = {"state": "UP"}
    context = group.context
    context.set_resource("tcp.a", "down", "no answer")
    context.set_resource("tcp.a", "down", "still none")
    context.request("stopstart", "tcp", "no answer", ("x",))
    group.enter(State.UP)
    assert [(e.kind, e.data.get("before")) for e in group.events] == [("resource", "init"), ("state", "STOP NotReady")]
    assert listener.events == group.events
    assert [(r.action, r.identity, r.arguments) for r in group.requests] == [("stopstart", "tcp", ("x",))]
    assert (context.resource("tcp.a"), context.resource("tcp.b")) == ("down", "unknown")
    assert (context.ask("db"), context.ask("none")) == ({"state": "UP"}, {})
    assert group.module("app").status()["state"] == "UP"


@pytest.mark.lab
def test_a_real_cluster(lab_cluster):
    lab = lab_cluster(servers=1, agent=False)
    assert lab.run("server1", ["safekit-py", "--version"], capture_output=True).returncode == 0
