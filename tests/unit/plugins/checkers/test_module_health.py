"""Asking another agent: real connections, and answers of any kind."""

import asyncio

import pytest
from safekit_py.plugins.checkers.module_health import BODY, NoAnswer, ask, read

GOOD = b'{"module":"db","state":"UP","readiness":"Ready","ready":true,"starts":2,"agent":"a"}'
SAID = {"state": "UP", "readiness": "Ready", "starts": 2, "agent": "a"}


def asked(answer):
    """What ``ask`` makes of a server's bytes, and what it sent."""
    got = []

    async def serve(reader, writer):
        got.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async def both():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, asyncio.timeout(10):
            return await ask("127.0.0.1", server.sockets[0].getsockname()[1], "db")

    return asyncio.run(both()), got


def http(status, body):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def test_it_asks_for_the_health_of_the_module():
    found, sent = asked(http(200, GOOD))
    assert found == SAID
    assert sent[0].startswith(b"GET /health/db HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{", "no HTTP"),
        (b"HTTP/1.1 200 X\r\nA: " + b"x" * 100_000, "no HTTP"),
        (http(200, b"x" * (BODY + 1)), "too long"),
        (http(301, GOOD), "with status 301"),
    ],
)
def test_any_other_answer_is_told(answer, words):
    with pytest.raises(NoAnswer, match=words):
        asked(answer)


def test_a_module_that_is_not_there_has_no_state():
    assert read(404, b"", "db") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        GOOD.replace(b"db", b"web"),
        GOOD.replace(b"2", b"null"),
        b"[" * BODY,
        b"\xff",
        b"1" * 5000,
    ],
)
def test_an_answer_about_something_else_says_nothing(body):
    with pytest.raises(NoAnswer):
        read(200, body, "db")
