"""What a table of devices and addresses means for a watched device."""

from ipaddress import ip_address

import pytest
from safekit_py.plugins.checkers.intf import IntfChecker, find, trouble
from safekit_py.plugins.checkers.intf_element import IntfCheck
from safekit_py.plugins.checkers.netlink import Address, Link, Table

MAC = bytes.fromhex("020000000001")


def table(*, up=True, running=True, address="10.0.0.1", device="eth0"):
    made = Table()
    if device:
        made.links[2] = Link(2, device, up, running, True, MAC)
    if address:
        made.addresses[2, ip_address(address), 24] = Address(2, ip_address(address), 24)
    return made


BY_ADDRESS, BY_DEVICE = IntfCheck("i", local_addr="10.0.0.1"), IntfCheck("i", device="eth0")
BY_NETWORK = IntfCheck("i", network="10.0.0.100")


def judged(made, check, last=""):
    link, failure = find(made, check, check.local_addr or check.network, last)
    return failure or trouble(link)


@pytest.mark.parametrize("check", [BY_ADDRESS, BY_DEVICE, BY_NETWORK])
def test_up(check):
    assert judged(table(), check) == ""


@pytest.mark.parametrize("check", [BY_ADDRESS, BY_DEVICE, BY_NETWORK])
@pytest.mark.parametrize(
    ("state", "failure"), [({"up": False}, "eth0 is set down"), ({"running": False}, "eth0 has no carrier")]
)
def test_down(check, state, failure):
    assert judged(table(**state), check) == failure


@pytest.mark.parametrize(
    ("check", "made", "last", "failure"),
    [
        (BY_ADDRESS, table(address=""), "eth0", "10.0.0.1 is on no device, it was on eth0"),
        (BY_ADDRESS, table(address=""), "", "10.0.0.1 is on no device"),
        (BY_ADDRESS, table(address="", up=False), "eth0", "eth0 is set down"),  # which took the address along
        (BY_ADDRESS, table(device="", address=""), "eth0", "eth0 is gone"),
        (BY_DEVICE, table(device="eth1"), "", "there is no device eth0"),
        (BY_NETWORK, table(address="10.0.0.100"), "", "no device is in the network of 10.0.0.100"),
        (BY_NETWORK, table(address="192.168.0.1"), "", "no device is in the network of 10.0.0.100"),
    ],
)
def test_gone(check, made, last, failure):
    assert judged(made, check, last) == failure


def test_what_the_engine_reads():
    made = IntfChecker(BY_ADDRESS)
    assert (made.resource, made.rule, made.when, made.action) == ("intf.i", "interface_failure", "pre", "wait")
    assert made.limit > 0
