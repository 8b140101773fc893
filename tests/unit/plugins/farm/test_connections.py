"""Connections as the kernel tells them: real sockets on loopback, and bytes that lie."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.farm import connections

pytestmark = pytest.mark.lab


@pytest.fixture
def pair(new_network, request):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    address, family, listen = request.param
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::"))
        client = stack.enter_context(socket.create_connection((address, listener.getsockname()[1])))
        served, _ = listener.accept()
        stack.enter_context(served)
        yield ip_address(address), client, served


PAIRS = [
    ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
    ("::1", socket.AF_INET6, "::1"),
    ("127.0.0.1", socket.AF_INET6, "::"),
]


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_a_connection_is_told_and_can_be_reset(pair):
    address, client, served = pair
    port = served.getsockname()[1]
    mine = [each for each in connections.held([address]) if each.port == port]
    assert [(each.client, each.client_port) for each in mine] == [(address, client.getsockname()[1])]
    assert not connections.held([ip_address("10.0.0.1")])
    assert connections.reset(mine) == 1
    client.settimeout(2)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert connections.reset(mine) == 0, "it is gone"


@pytest.mark.parametrize("pair", PAIRS[:1], indirect=True)
def test_what_has_ended_is_not_held(pair):
    address, client, served = pair
    client.close()
    served.close()
    time.sleep(0.05)
    assert not connections.held([address])


@given(st.binary(max_size=300))
def test_bytes_that_lie_end(data):
    list(connections.parse(data))
