"""Which of its addresses a server proposes."""

from ipaddress import ip_interface

from safekit_py.cli.join import Local, fitting, proposed

OWN = [
    Local("eth0", ip_interface("10.0.0.7/24")),
    Local("eth0", ip_interface("fd00::7/64")),
    Local("eth1", ip_interface("10.1.0.7/16")),
    Local("eth2", ip_interface("fd02::7/64")),
]


def test_each_interface_becomes_a_lan():
    assert proposed(OWN) == {"default": "10.0.0.7", "lan2": "10.1.0.7", "lan3": "fd02::7"}
    assert proposed([]) == {}


def test_the_address_in_the_network_of_the_others_fits():
    lans = {"a": ["10.1.3.4"], "b": ["fd00::1", "10.0.0.1"], "c": ["192.168.0.1"], "d": ["server9"]}
    assert fitting(OWN, lans) == {"a": "10.1.0.7", "b": "10.0.0.7"}


def test_an_address_that_is_taken_does_not_fit():
    assert fitting(OWN[:1], {"a": ["10.0.0.7"]}) == {}
