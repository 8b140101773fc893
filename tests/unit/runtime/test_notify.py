"""The datagram that systemd expects."""

import socket

import pytest

from safekit_py.runtime.notify import notify


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
