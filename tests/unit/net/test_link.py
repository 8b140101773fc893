"""One LAN: its socket is there before the address is, and what fails once is tried again."""

import socket

import pytest

from safekit_py.net.link import Link, is_literal, resolve


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_addresses_and_names():
    assert is_literal("10.0.0.1")
    assert is_literal("fe80::1%lo")
    assert not is_literal("server1")
    assert resolve("127.0.0.1", 7) == (socket.AF_INET, ("127.0.0.1", 7))
    assert resolve("::1", 7) == (socket.AF_INET6, ("::1", 7, 0, 0))
    with pytest.raises(OSError, match=r"."):
        resolve("no.such.host.invalid", 7)


@pytest.mark.parametrize(("local", "other"), [("127.3.0.1", "127.3.0.2"), ("::1", "::1")])
def test_what_one_sends_the_other_receives(local, other):
    port = free_port()
    link = Link(0, "a", resolve(local, port), resolve(other, port), 1)
    peer = socket.socket(link.socket.family, socket.SOCK_DGRAM)
    try:
        if other != local:
            peer.bind((other, port))
            link.send(b"hello", 1)
            assert peer.recv(10) == b"hello"
            peer.sendto(b"answer", link.socket.getsockname())
            assert link.receive() == b"answer"
            with pytest.raises(BlockingIOError):
                link.receive()
        else:
            link.send(b"hello", 1)
            assert link.receive() == b"hello", "its own"
        assert (link.sent, link.send_errors) == (1, 0)
    finally:
        link.close()
        peer.close()


def test_an_address_that_is_not_there_yet_is_no_error_and_counts_what_was_not_sent():
    port = free_port()
    link = Link(0, "a", resolve("192.0.2.77", port), resolve("240.0.0.1", port), 1)  # of no machine, and no route
    try:
        link.send(b"x", 1)
        assert (link.sent, link.send_errors) in {(0, 1), (1, 0)}, "some machines have a route to everywhere"
    finally:
        link.close()


def test_a_port_that_is_taken_is_an_error():
    port = free_port()
    link = Link(0, "a", resolve("127.3.0.1", port), resolve("127.3.0.2", port), 1)
    try:
        with pytest.raises(OSError, match="in use"):
            Link(1, "b", resolve("127.3.0.1", port), resolve("127.3.0.2", port), 1)
    finally:
        link.close()
