"""The datagram that systemd expects."""

import asyncio
import socket
import time

import pytest

from safekit_py.runtime.notify import notify, signs_of_life, watchdog


def test_it_is_sent(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1", "STATUS=fine")
        assert receiver.recv(100) == b"READY=1\nSTATUS=fine"


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket"])
def test_without_systemd_nothing_happens(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


@pytest.mark.parametrize(("told", "meant"), [("20000000", 20.0), ("", None), ("0", None), ("x", None)])
def test_what_systemd_wants_of_the_watchdog(monkeypatch, told, meant):
    monkeypatch.setenv("WATCHDOG_USEC", told)
    assert watchdog() == meant


def test_signs_of_life_come_in_half_the_time_and_end_when_the_loop_hangs(tmp_path, monkeypatch):
    said = iter(["one UP", "one UP", "one STOP"])

    async def agent():
        until = asyncio.Event()
        signs = asyncio.create_task(signs_of_life(lambda: next(said, "one STOP"), until))
        await asyncio.sleep(0.55)
        time.sleep(0.5)  # noqa: ASYNC251 - the loop hangs: this is what the watchdog is there for
        until.set()
        await signs

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        asyncio.run(agent())
        got = []
        while True:
            try:
                got.append(receiver.recv(100))
            except BlockingIOError:
                break
    assert got[:3] == [b"WATCHDOG=1\nSTATUS=one UP", b"WATCHDOG=1", b"WATCHDOG=1\nSTATUS=one STOP"]
    assert 4 <= len(got) <= 7, "one each 0.1 s, and none of the half second in which the loop hung"


def test_without_systemd_nobody_is_told(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    asyncio.run(signs_of_life(lambda: "", asyncio.Event()))
