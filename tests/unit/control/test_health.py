"""Health answers over real sockets: what is told, and what a stranger cannot do."""

import asyncio
import os
import socket
from types import SimpleNamespace

import pytest

from safekit_py.control import health
from safekit_py.model.paths import Paths
from safekit_py.model.state import Readiness, State
from safekit_py.runtime.agent import Agent


@pytest.fixture
def agent(tmp_path):
    made = Agent(Paths(tmp_path))
    made.broken["broken"] = ()
    return made


@pytest.fixture
def port(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    monkeypatch.setenv(health.VARIABLE, f"127.0.0.1:{number}")
    return number


def served(agent, port, talk):
    """Run ``talk(port)`` while the answers are served."""

    async def both():
        until = asyncio.Event()
        serving = asyncio.create_task(health.serve(agent, until))
        try:
            async with asyncio.timeout(20):
                while not serving.done():
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        await asyncio.sleep(0.02)
                    else:
                        writer.close()
                        break
                return await talk(port)
        finally:
            until.set()
            await serving

    return asyncio.run(both())


async def sent(port, data, limit=5):
    """What comes back until the other side closes, or for a moment when it does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(limit):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def get(agent, port, path, method="GET"):
    text = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    return served(agent, port, lambda at: sent(at, text.encode()))


@pytest.mark.parametrize(
    ("state", "readiness", "status"),
    [
        (State.UP, Readiness.READY, 200),
        (State.PRIM, Readiness.READY, 200),
        (State.ALONE, Readiness.READY, 200),
        (State.SECOND, Readiness.READY, 503),
        (State.UP, Readiness.TRANSIENT, 503),
        (State.STOP, Readiness.NOT_READY, 503),
    ],
)
def test_ready_is_who_serves_clients(agent, port, state, readiness, status):
    agent.runners["m"] = SimpleNamespace(state=state, readiness=readiness, starts=4)
    head, _, body = get(agent, port, "/health/m").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b'"starts":4' in body
    assert b'"ready":true' in body if status == 200 else b'"ready":false' in body
    assert b"\r\nserver:" not in head.lower()
    ready = get(agent, port, "/var/modules/m/ready.txt")
    assert ready.startswith(b"HTTP/1.1 200 " if status == 200 else b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/health/none", "GET", 404),
        ("/var/modules/none/ready.txt", "GET", 404),
        ("/health/broken", "GET", 503),
        ("/var/modules/broken/ready.txt", "GET", 404),
        ("/health/broken", "HEAD", 503),
        ("/health/broken", "POST", 405),
        ("/health/broken/", "GET", 404),
        ("/", "GET", 404),
        ("/api/v1/modules", "GET", 404),
        ("/docs", "GET", 404),
        ("/health/%2e%2e", "GET", 404),
    ],
)
def test_nothing_else_is_there(agent, port, path, method, status):
    assert get(agent, port, path, method).startswith(b"HTTP/1.1 %d " % status)


def test_a_request_that_is_too_long_or_none_is_refused_and_not_logged(agent, port, caplog):
    async def talk(at):
        long = await sent(at, b"GET /health/m HTTP/1.1\r\nA: " + b"x" * 100_000)
        return long, await sent(at, b"\x16\x03\x01 nonsense\r\n\r\n")

    for answer in served(agent, port, talk):
        assert answer.startswith(b"HTTP/1.1 400 ") or not answer
    assert not caplog.records


def test_a_connection_ends_with_its_lifetime_even_when_it_dribbles(agent, port, monkeypatch):
    monkeypatch.setattr(health, "LIFETIME", 0.5)

    async def talk(at):
        reader, writer = await asyncio.open_connection("127.0.0.1", at)
        writer.write(b"GET /health/m HTTP/1.1\r\n")
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    assert served(agent, port, talk) == b""


def test_many_connections_that_say_nothing_hold_up_nobody_for_long_and_take_few_files(agent, port, monkeypatch):
    monkeypatch.setattr(health, "MOST", 10)
    monkeypatch.setattr(health, "LIFETIME", 1.0)

    async def talk(at):
        held = [await asyncio.open_connection("127.0.0.1", at) for _ in range(60)]
        await asyncio.sleep(0.2)
        files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of names
        await asyncio.sleep(1.2)
        answer = await sent(at, b"GET /health/broken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for _, writer in held:
            writer.close()
        return files, answer

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of names
    files, answer = served(agent, port, talk)
    assert files - before < 60 + 10 + 15
    assert answer.startswith(b"HTTP/1.1 503 ")


def test_a_port_in_use_is_said_and_nothing_is_served(agent, port, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        asyncio.run(health.serve(agent, asyncio.Event()))
    assert "[health.no-port]" in caplog.text or "no answer on 127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", health.DEFAULT),
        ("off", ()),
        ("10.0.0.1:80", (("10.0.0.1", 80),)),
        ("[::1]:9010", (("::1", 9010),)),
    ],
)
def test_where_it_listens(text, found):
    assert health.addresses(text) == found


@pytest.mark.parametrize("text", ["on", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "name:80", ":80"])
def test_a_place_that_is_none_is_said_and_nobody_is_answered(text, monkeypatch, caplog):
    monkeypatch.setenv(health.VARIABLE, text)
    assert health.listen() == []
    assert health.VARIABLE in caplog.text
