"""Announcements: their bytes, and that a Linux neighbour believes them."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from safekit_py.plugins.farm import announce

VIP, MAC, CLIENT = IPv4Address("10.0.0.100"), bytes.fromhex("020000000001"), bytes.fromhex("02aa00000001")


def test_the_bytes_of_a_broadcast():
    frame = announce.to_all(VIP, MAC)
    head = "ffffffffffff" + "020000000001" + "0806" + "0001" + "0800" + "06" + "04" + "0001"
    assert frame.hex().startswith(head + "020000000001" + "0a000064" + "000000000000" + "0a000064")
    assert len(frame) == announce.SHORTEST


def test_the_bytes_to_one_client():
    frame = announce.to_client(VIP, MAC, CLIENT)
    head = "02aa00000001" + "020000000001" + "0806" + "0001" + "0800" + "06" + "04" + "0002"
    assert frame.hex().startswith(head + ("020000000001" + "0a000064") * 2)


@pytest.mark.lab
def test_a_device_that_is_gone_is_an_os_error(new_network):
    with pytest.raises(OSError, match="No such device"):
        announce.announce("nic7", VIP, MAC, [], broadcast=True)
