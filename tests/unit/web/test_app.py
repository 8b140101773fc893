"""A client that does not go on, in either direction, is given up."""

import asyncio

import pytest
from starlette.datastructures import Headers

from safekit_py.web import app
from safekit_py.web.app import StalledError, TooLargeError, check_length, pieces

HEADS = Headers({})


async def never(*_):
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(app, "STALLED", 0.05)


def test_a_reader_that_takes_nothing_is_cut_off():
    cut = []
    sender = app._Sender(never, True, lambda: cut.append(True))
    with pytest.raises(StalledError):
        asyncio.run(sender({"type": "http.response.start", "status": 200, "headers": []}))
    assert cut == [True]


def collect(receive, limit=10):
    async def all_of():
        return [piece async for piece in pieces(receive, HEADS, limit)]

    return asyncio.run(all_of())


def test_a_body_that_does_not_come_is_refused():
    with pytest.raises(StalledError):
        collect(never)


def test_a_small_body_has_one_limit_of_time_for_all_its_pieces():
    async def dripping():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(StalledError):
        asyncio.run(app.whole(dripping, HEADS, 10_000))


def test_a_body_has_its_end_and_its_limit():
    def of(*parts):
        left = [{"type": "http.request", "body": p, "more_body": True} for p in parts]
        left.append({"type": "http.request", "body": b""})

        async def receive():
            return left.pop(0)

        return receive

    assert collect(of(b"12345", b"67890")) == [b"12345", b"67890"]
    with pytest.raises(TooLargeError):
        collect(of(b"12345", b"678901"))


@pytest.mark.parametrize("said", ["11", "-1", "x", "1" * 30])
def test_a_length_that_cannot_be(said):
    with pytest.raises(TooLargeError):
        check_length(Headers({"content-length": said}), 10)
