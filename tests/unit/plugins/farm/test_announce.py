"""Announcements: their bytes, and that a Linux neighbour believes them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from safekit_py.plugins.farm import announce
from safekit_py.plugins.vip.frames import announcement

VIP, MAC, CLIENT = IPv4Address("10.0.0.100"), bytes.fromhex("020000000001"), bytes.fromhex("02aa00000001")


def test_the_bytes_of_a_broadcast():
    frame = announcement(VIP, MAC)
    head = "ffffffffffff" + "020000000001" + "0806" + "0001" + "0800" + "06" + "04" + "0001"
    assert frame.hex().startswith(head + "020000000001" + "0a000064" + "000000000000" + "0a000064")
    assert len(frame) == 60


def test_the_bytes_to_one_client():
    frame = announcement(VIP, MAC, to=CLIENT)
    head = "02aa00000001" + "020000000001" + "0806" + "0001" + "0800" + "06" + "04" + "0002"
    assert frame.hex().startswith(head + ("020000000001" + "0a000064") * 2)


def test_a_virtual_mac_is_never_a_source():
    vmac = bytes.fromhex("5afe0a000064")
    for vip in (VIP, IPv6Address("fd00::100")):
        for to in ({}, {"to": CLIENT}):
            frame = announcement(vip, vmac, MAC, **to)
            assert frame[6:12] == MAC
            assert vmac in frame[12:]


@pytest.mark.lab
def test_a_device_that_is_gone_is_an_os_error(new_network):
    with pytest.raises(OSError, match="No such device"):
        announce.announce(announce.Told("nic7", VIP, MAC, MAC), [], broadcast=True)
