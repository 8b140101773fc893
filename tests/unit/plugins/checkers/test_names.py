"""Host names to addresses."""

import asyncio
import socket
import threading

import pytest
from safekit_py.plugins.checkers.names import Name, Unresolved, possible


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("10.0.0.1", True), ("fd00::1", True), ("router", True), ("a.b-c.example", True), ("10.0.0.300", False),
        ("a b", False), ("224.0.0.1", False), ("-a", False), ("", False),
    ],
)  # fmt: skip
def test_what_a_host_can_be_called(host, fits):
    assert possible(host) is fits


def test_an_address_is_itself_and_a_name_is_looked_up():
    assert asyncio.run(Name("10.0.0.1").address()) == "10.0.0.1"
    assert asyncio.run(Name("localhost").address()) in {"127.0.0.1", "::1"}


def test_an_unknown_name():
    with pytest.raises(Unresolved, match=r"no-such-host\.invalid cannot be resolved"):
        asyncio.run(Name("no-such-host.invalid").address())


def test_a_name_server_that_is_silent_takes_one_thread(monkeypatch):
    """The resolver is the machine's own: only a stand-in can hang on demand."""
    free, calls = threading.Event(), []

    def hang(*_args, **_kwargs):
        calls.append(1)
        free.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def three_looks():
        name = Name("slow.example")
        for _ in range(3):
            with pytest.raises((Unresolved, TimeoutError)):
                async with asyncio.timeout(0.05):
                    await name.address()

    try:
        asyncio.run(three_looks())
        assert calls == [1]
    finally:
        free.set()
