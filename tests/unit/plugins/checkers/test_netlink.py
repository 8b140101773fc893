"""Netlink messages to a table; the messages of the tests are put together by hand, as the kernel lays them out."""

import socket
from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.checkers import netlink as n
from safekit_py.plugins.checkers.netlink import Address, Link, Table

MAC = bytes.fromhex("020000000001")


def attribute(kind, data):
    return (n.ATTRIBUTE.pack(4 + len(data), kind) + data).ljust((len(data) + 7) & ~3, b"\0")


def message(kind, body, flags=0):
    return (n.HEADER.pack(16 + len(body), kind, flags, 0, 0) + body).ljust((len(body) + 19) & ~3, b"\0")


def link(index=2, name="eth0", flags=n.IFF_UP | n.IFF_RUNNING, family=socket.AF_UNSPEC, kind=n.NEW_LINK, mac=MAC):
    more = attribute(n.IFLA_IFNAME, name.encode() + b"\0") + attribute(n.IFLA_ADDRESS, mac)
    return message(kind, n.LINK.pack(family, 1, index, flags, 0) + more)


def address(text="10.0.0.1", prefix=24, index=2, kind=n.NEW_ADDR, flags=0):
    ip = ip_address(text)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    more = attribute(n.IFA_LOCAL if ip.version == 4 else n.IFA_ADDRESS, ip.packed)
    more += attribute(n.IFA_FLAGS, flags.to_bytes(4, "little"))
    return message(kind, n.ADDRESS.pack(family, prefix, 0, 0, index) + more)


def table(*parts):
    made = Table()
    for each in n.messages(b"".join(parts)):
        made.take(each)
    return made


def test_a_device_and_its_addresses():
    made = table(link(), address(), address("fd00::1", 64))
    assert made.named("eth0") == Link(2, "eth0", True, True, True, MAC)
    assert made.holder(ip_address("10.0.0.1")) == Address(2, ip_address("10.0.0.1"), 24)
    assert made.holder(ip_address("fd00::1")).prefix == 64
    assert made.macs() == {MAC}


@pytest.mark.parametrize(
    ("flags", "up", "running", "asks"),
    [
        (0, False, False, True),
        (n.IFF_UP, True, False, True),
        (n.IFF_UP | n.IFF_RUNNING | n.IFF_LOOPBACK, True, True, False),
        (n.IFF_UP | n.IFF_RUNNING | n.IFF_NOARP, True, True, False),
    ],
)
def test_flags_of_a_device(flags, up, running, asks):
    found = table(link(flags=flags)).links[2]
    assert (found.up, found.running, found.asks) == (up, running, asks)


def test_what_is_gone_is_forgotten():
    made = table(link(), address(), address("10.0.0.2"), address(kind=n.DEL_ADDR))
    assert made.holder(ip_address("10.0.0.1")) is None
    assert made.holder(ip_address("10.0.0.2"))
    made = table(link(), address(), link(kind=n.DEL_LINK))
    assert not made.links
    assert not made.addresses


def test_a_device_that_leaves_a_bridge_is_still_there():
    made = table(link(), address(), link(family=socket.AF_BRIDGE, kind=n.DEL_LINK, flags=0))
    assert made.named("eth0").up
    assert made.addresses


def test_a_new_name_replaces_the_old():
    made = table(link(), link(name="lan0"))
    assert made.named("eth0") is None
    assert made.named("lan0").index == 2


def test_an_address_that_the_kernel_found_twice():
    made = table(link(), address("fd00::1", 64, flags=n.DAD_FAILED))
    assert made.holder(ip_address("fd00::1")).duplicate


def test_the_network_around_an_address():
    made = table(
        address("10.0.0.1", 8), address("10.0.0.11", 24, 3), address("10.0.0.100", 24, 4), address("10.0.0.7", 32)
    )
    assert made.around(ip_address("10.0.0.100")).index == 3
    assert made.around(ip_address("10.9.0.1")).index == 2
    assert made.around(ip_address("192.168.0.1")) is None
    assert made.around(ip_address("fd00::1")) is None


def test_neighbours():
    def body(mac):
        more = attribute(n.NDA_DST, ip_address("10.0.0.2").packed) + attribute(n.NDA_LLADDR, mac)
        return n.NEIGHBOUR.pack(socket.AF_INET, 2, 0, 0, 0) + more

    assert n.neighbour_of(body(MAC)) == (ip_address("10.0.0.2"), MAC)
    assert n.neighbour_of(body(bytes(6))) is None
    assert n.neighbour_of(body(b"")) is None


PARTS = st.lists(
    st.sampled_from(
        [link(), link(flags=0), link(kind=n.DEL_LINK), address(), address(kind=n.DEL_ADDR), link(3, "eth1")]
    ),
    max_size=12,
)


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data):
    """Whatever bytes come in, parsing ends, and a message that cannot be read changes nothing."""
    for body in [data, *(m.body for m in n.messages(data))]:
        n.neighbour_of(body)
        for kind in (n.NEW_LINK, n.DEL_LINK, n.NEW_ADDR, n.DEL_ADDR):
            made = table(link(), address())
            before = dict(made.links), dict(made.addresses)
            made.take(n.Message(kind, 0, body))
            if n.link_of(body) is None and n.address_of(body) is None:
                assert (made.links, made.addresses) == before


@given(PARTS, st.sets(st.integers(0, 12)))
def test_the_cut_into_datagrams_makes_no_difference(parts, cuts):
    """After the same messages the table is the same, however they were cut into datagrams."""
    whole, cut = table(*parts), Table()
    edges = [0, *sorted(c for c in cuts if c <= len(parts)), len(parts)]
    for begin, end in pairwise(edges):
        for each in n.messages(b"".join(parts[begin:end])):
            cut.take(each)
    assert (cut.links, cut.addresses) == (whole.links, whole.addresses)
