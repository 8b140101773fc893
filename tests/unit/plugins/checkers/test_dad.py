"""Questions and claims as bytes; the frames to compare with are written out by the RFCs' layouts."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.checkers import dad

MINE, THEIRS = bytes.fromhex("02000a4d000b"), bytes.fromhex("02000a4d0065")
V4, V6 = IPv4Address("10.77.0.100"), IPv6Address("fd00::1:2:3")


def answer4(ip=V4, mac=THEIRS, op=2):
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + mac + ip.packed + MINE + bytes(4)
    return MINE + mac + b"\x08\x06" + arp + bytes(18)


def answer6(ip=V6, mac=THEIRS, kind=136, hops=255):
    body = struct.pack("!BBHI", kind, 0, 0, 0x20000000) + ip.packed + b"\x02\x01" + mac
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, hops) + ip.packed + IPv6Address("ff02::1").packed
    return bytes.fromhex("333300000001") + mac + b"\x86\xdd" + head + body


def test_the_arp_probe_names_no_sender():
    assert dad.question(V4, MINE).hex() == (
        "ffffffffffff02000a4d000b0806"  # to everybody, from mine, ARP
        "0001080006040001"  # Ethernet, IPv4, request
        "02000a4d000b" + "00000000" + "000000000000" + "0a4d0064" + "00" * 18
    )


def test_the_solicitation_comes_from_nobody():
    assert (
        dad.question(V6, MINE).hex()
        == (
            "3333ff02000302000a4d000b86dd"  # to the group of the address's last 24 bits
            "60000000" + "0018" + "3a" + "ff"  # 24 bytes of ICMPv6, never routed
            "00000000000000000000000000000000" + "ff0200000000000000000001ff020003"
            "8700" + checksum_of_solicitation() + "00000000" + "fd000000000000000000000100020003"
        )
    )


def checksum_of_solicitation():
    """The one's complement sum of pseudo header and message, added up another way than the code does."""
    group = IPv6Address("ff02::1:ff02:3").packed
    data = bytes(16) + group + struct.pack("!II", 24, 58) + bytes.fromhex("8700000000000000") + V6.packed
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)) % 0xFFFF
    return f"{0xFFFF - total:04x}"


@pytest.mark.parametrize("op", [1, 2])
def test_who_speaks_in_arp_with_the_address_claims_it(op):
    assert dad.claimant(answer4(op=op), V4) == THEIRS


def test_who_advertises_the_address_claims_it():
    assert dad.claimant(answer6(), V6) == THEIRS


@pytest.mark.parametrize(
    "frame",
    [
        answer4(IPv4Address("10.77.0.101")),
        answer4(op=3),
        answer4()[:40],
        dad.question(V4, THEIRS),  # a probe claims nothing
        answer6(),
        b"",
    ],
)
def test_no_claim_of_an_ipv4_address(frame):
    assert dad.claimant(frame, V4) is None


@pytest.mark.parametrize(
    "frame",
    [answer6(IPv6Address("fd00::1")), answer6(kind=135), answer6(hops=64), answer6()[:77], answer4(), b""],
)
def test_no_claim_of_an_ipv6_address(frame):
    assert dad.claimant(frame, V6) is None


def accepts(program, frame):
    """What the kernel's interpreter of classic BPF would say, for the instructions that are used."""
    at, value = 0, 0
    while True:
        code, yes, no, k = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == dad.RETURN:
            return k > 0
        if code == dad.IF_EQUAL:
            at += yes if value == k else no
            continue
        size = {dad.LOAD_BYTE: 1, dad.LOAD_HALF: 2, dad.LOAD_WORD: 4}[code]
        if k + size > len(frame):
            return False
        value = int.from_bytes(frame[k : k + size], "big")


FRAMES = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda frame, at, value: frame[:at] + bytes([value]) + frame[at + 1 :],
        st.sampled_from([answer4(), answer4(op=1), answer6()]),
        st.integers(0, 59),
        st.integers(0, 255),
    ),
)


@given(FRAMES, st.sampled_from([V4, V6]))
def test_the_filter_keeps_no_claim_away(frame, ip):
    """A frame is a claim only when it says so in the right fields; the kernel's filter lets every claim through."""
    mac = dad.claimant(frame, ip)
    if mac is not None:
        assert ip.packed in frame
        assert mac in frame
        assert accepts(dad.filter_for(ip), frame)


@pytest.mark.parametrize(("ip", "frame"), [(V4, answer4(IPv4Address("10.77.0.1"))), (V6, answer4()), (V4, answer6())])
def test_the_filter_keeps_the_rest_away(ip, frame):
    assert not accepts(dad.filter_for(ip), frame)
