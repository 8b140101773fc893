"""Connections as the kernel tells them: real sockets on loopback, and bytes that lie."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
import time
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.vip import connections
from safekit_py.plugins.vip.connections import ESTABLISHED, FIN_WAIT2, HELD, LEAVING, LIVING

ELSEWHERE = ip_address("10.9.8.7")


@pytest.fixture
def pair(request):
    address, family, listen = request.param
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::"))
        client = stack.enter_context(socket.create_connection((address, listener.getsockname()[1])))
        served, _ = listener.accept()
        stack.enter_context(served)
        yield ip_address(address), client, served


PAIRS = [
    ("127.0.9.1", socket.AF_INET, "127.0.9.1"),
    ("::1", socket.AF_INET6, "::1"),
    ("127.0.9.2", socket.AF_INET6, "::"),
]


def of(port, address, states=HELD):
    return [row for row in connections.held([ELSEWHERE, address, ip_address("fd00::9")], states) if row.port == port]


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_a_connection_is_told_by_its_local_address_alone(pair):
    address, client, served = pair
    port = served.getsockname()[1]
    (row,) = of(port, address)
    assert (row.local, row.client, row.client_port) == (
        address,
        ip_address(client.getsockname()[0]),
        client.getsockname()[1],
    )
    assert row.state == ESTABLISHED
    assert row.inode
    assert row.alive
    assert list(connections.held([ELSEWHERE])) == []
    assert of(port, address, LEAVING) == []


@pytest.mark.lab
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_a_connection_is_reset(pair):
    address, client, served = pair
    found = of(served.getsockname()[1], address)
    assert connections.end(found) == connections.Ended(1, 0)
    client.settimeout(2)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert connections.end(found) == connections.Ended(0, 0), "it is gone, which is no fault"


@pytest.mark.lab
def test_many_are_reset_in_batches():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.9.3", 0), backlog=300))
        port = listener.getsockname()[1]
        clients = [stack.enter_context(socket.create_connection(("127.0.9.3", port))) for _ in range(200)]
        found = of(port, ip_address("127.0.9.3"))
        assert len(found) == 200
        assert connections.end(found).count == 200
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_what_only_waits_for_the_other_side_is_not_alive():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.9.4", 0)))
        port = listener.getsockname()[1]
        stack.enter_context(socket.create_connection(("127.0.9.4", port)))
        served, _ = listener.accept()
        served.shutdown(socket.SHUT_WR)
        end = time.monotonic() + 5
        while [row.state for row in of(port, ip_address("127.0.9.4"))] != [
            FIN_WAIT2
        ]:  # until the other side has said so
            assert time.monotonic() < end
        assert [row.alive for row in of(port, ip_address("127.0.9.4"))] == [True], "the application may still read"
        served.close()
        assert [row.alive for row in of(port, ip_address("127.0.9.4"), LIVING)] == [False]


def test_time_wait_is_held_and_not_living():
    with socket.create_server(("127.0.9.5", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.9.5", port)):
            served, _ = listener.accept()
            served.close()
        time.sleep(0.05)
        assert len(of(port, ip_address("127.0.9.5"))) == 1
        assert of(port, ip_address("127.0.9.5"), LIVING) == []


def test_a_look_may_be_left_before_its_end():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.9.6", 0), backlog=50))
        for _ in range(20):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        assert len(list(itertools.islice(connections.held([ip_address("127.0.9.6")]), 3))) == 3


@given(st.binary(max_size=300))
def test_bytes_that_lie_end(data):
    with contextlib.suppress(OSError):
        for row in connections.rows(data):
            assert row is None or (row.port, row.client_port) >= (0, 0)


@pytest.mark.parametrize("cut", [3, 15])
def test_a_message_that_is_cut_is_refused(cut):
    with pytest.raises(OSError, match="unexpected"):
        list(connections.rows(struct.pack("=IHHII", 16, 3, 0, 1, 0)[:cut]))


def test_an_error_of_the_kernel_is_raised():
    with pytest.raises(PermissionError):
        list(connections.rows(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -errno.EPERM)))
