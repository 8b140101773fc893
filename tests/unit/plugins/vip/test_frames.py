"""What an announcement claims, and to whom it goes."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.checkers.dad import checksum, claimant
from safekit_py.plugins.vip.frames import announcement

MACS = st.binary(min_size=6, max_size=6)


@given(ip=st.ip_addresses(), mac=MACS)
def test_an_announcement_is_a_claim_of_the_address_by_that_mac(ip, mac):
    assert claimant(announcement(ip, mac), ip) == mac


@given(ip=st.ip_addresses(), other=st.ip_addresses(), mac=MACS)
def test_and_of_no_other_address(ip, other, mac):
    if other != ip:
        assert claimant(announcement(ip, mac), other) is None


def test_it_goes_to_everybody():
    mac = bytes.fromhex("020000000001")
    four, six = (announcement(ip_address(each), mac) for each in ("10.0.0.5", "fd00::5"))
    assert four[:6] == b"\xff" * 6
    assert len(four) == 60
    assert six[:6] == bytes.fromhex("333300000001")
    body = six[54:]
    pseudo = six[22:54] + len(body).to_bytes(4, "big") + (58).to_bytes(4, "big")
    assert checksum(pseudo + body) == 0
    assert body[4] == 0x20  # the override flag, and not "solicited"
    assert body[-8:] == b"\x02\x01" + mac
