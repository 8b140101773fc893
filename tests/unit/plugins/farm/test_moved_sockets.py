"""Moved buckets and the kernel's real sockets: established, half open, in TIME_WAIT, and known by a SYN cookie only."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from safekit_py.plugins.farm.layout import ACT_DROP, ACT_UNSPEC, BUCKETS, Configuration, KernelRule

pytestmark = pytest.mark.lab
SYN, RST, ACK = 0x02, 0x04, 0x10
OWNED = bytes([0, 1, 255, 255]) * BUCKETS  # server 0 owns all, server 1 did before
HELD = bytes([1, 0, 255, 255]) * BUCKETS
GATE = bytes.fromhex("0200000000fe")
MINE, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ENDS = [(ip_address("10.0.0.100"), ip_address("10.0.0.7")), (ip_address("fd00::100"), ip_address("fd00::7"))]


class Client:
    """Segments of one client, made by hand, and what it gets."""

    def __init__(self, vip, client, port=40000):
        self.vip, self.client, self.port = vip, client, port
        self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._raw.bind(("client", 0))
        self._raw.settimeout(2)

    def segment(self, flags, sequence=1000, acknowledged=0, data=b""):
        header = struct.pack(">HHIIBBHHH", self.port, 80, sequence, acknowledged, 0x50, flags, 512, 0, 0)
        ends = self.client.packed + self.vip.packed
        pseudo = ends + struct.pack(">HH" if self.vip.version == 4 else ">II", *self._tail(len(header) + len(data)))
        check = checksum(pseudo + header + data)
        above = header[:16] + struct.pack(">H", check) + header[18:] + data
        if self.vip.version == 6:
            head = struct.pack(">IHBB", 6 << 28, len(above), 6, 64) + ends
            return bytes(6) + THEIRS + b"\x86\xdd" + head + above
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(above), 7, 0, 64, 6, 0) + ends
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
        return bytes(6) + THEIRS + b"\x08\0" + head + above

    def _tail(self, length):
        return (6, length) if self.vip.version == 4 else (length, 6)

    def send(self, *words, **named):
        self._raw.send(GATE + self.segment(*words, **named)[6:])

    def answer(self):
        """Flags, sequence and acknowledged number of the next segment from the VIP to this client's port."""
        while True:
            frame = self._raw.recv(2000)
            at = 34 if frame[12:14] == b"\x08\0" else 54
            if frame[at : at + 4] == struct.pack(">HH", 80, self.port):
                sequence, acknowledged = struct.unpack_from(">II", frame, at + 4)
                return frame[at + 13], sequence, acknowledged

    def close(self):
        self._raw.close()


def checksum(data):
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@pytest.fixture(params=ENDS, ids=["IPv4", "IPv6"])
def host(request, new_network, farm_filter):
    """A server with the VIP, a client at the other end of a cable, the server's filter, and a listener."""
    vip, client = request.param
    bits = vip.max_prefixlen
    for words in (
        "link set lo up",
        f"addr add {vip}/{bits} dev lo",
        f"link add gate address {GATE.hex(':')} type veth peer name client",
        "link set gate up",
        "link set client up",
        f"-{vip.version} route add {client}/{bits} dev gate",
        f"neigh replace {client} lladdr {THEIRS.hex(':')} dev gate nud permanent",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    for device in ("all", "gate"):
        Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("0")
    farm_filter.configure(Configuration(0, 7, [(vip, 0)], [KernelRule("tcp", "on_port", 0, 80)]))
    farm_filter.set_open(True)
    farm_filter.renew(time.monotonic_ns() + 10**12)
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
        listener = stack.enter_context(socket.create_server((str(vip), 80), family=family))
        made = Client(vip, client)
        stack.callback(made.close)
        yield made, farm_filter, listener


def judged(loaded, frame, table):
    """The verdict with this table, and whether the stack gets the frame."""
    loaded.install([table], {(0, 0): MINE, (0, 1): THEIRS})
    before = loaded.counters()
    code = loaded.run(frame).code
    ((_, verdict),) = [key for key, count in loaded.counters().items() if count != before.get(key, 0)]
    assert code == (ACT_UNSPEC if verdict == "accepted" else ACT_DROP)
    return verdict


def half_open(client):
    client.send(SYN)
    flags, sequence, _ = client.answer()
    assert flags == SYN | ACK
    return sequence + 1


def test_half_open_and_established_stay_where_they_are(host):
    client, loaded, listener = host
    unknown = client.segment(ACK, 1001, 5)
    assert judged(loaded, unknown, HELD) == "looped"
    assert judged(loaded, unknown, OWNED) == "held"
    number = half_open(client)
    final = client.segment(ACK, 1001, number)
    assert judged(loaded, final, HELD) == "accepted", "the handshake ends where it began"
    client.send(ACK, 1001, number)
    served, _ = listener.accept()
    with served:
        assert judged(loaded, final, HELD) == "accepted"
        assert judged(loaded, final, OWNED) == "accepted"
        assert judged(loaded, client.segment(SYN, 5000), HELD) == "looped", "a SYN is the owner's"
        assert judged(loaded, final, HELD) == "accepted", "whoever sends one in a client's name ends no connection"


def test_a_handshake_that_began_anew_elsewhere_is_left_alone(host):
    client, loaded, _ = host
    final = client.segment(ACK, 1001, half_open(client))
    assert judged(loaded, client.segment(SYN, 1000), HELD) == "looped"
    assert judged(loaded, final, HELD) == "looped", "the owner has begun another handshake"
    assert judged(loaded, final, OWNED) == "accepted", "unless this server is the owner"


def test_time_wait_is_a_socket_until_the_port_is_used_again(host):
    client, loaded, listener = host
    number = half_open(client)
    client.send(ACK, 1001, number)
    served, _ = listener.accept()
    served.close()
    fin = 0x01
    while client.answer()[0] & fin == 0:
        pass
    client.send(ACK | fin, 1001, number + 1)
    time.sleep(0.05)
    last = client.segment(ACK | fin, 1001, number + 1)
    assert judged(loaded, last, HELD) == "accepted"
    assert judged(loaded, client.segment(SYN, 900000), HELD) == "looped"
    assert judged(loaded, last, HELD) == "looped"


def test_a_syn_cookie_is_known_by_who_gave_it(host):
    client, loaded, listener = host
    Path("/proc/sys/net/ipv4/tcp_syncookies").write_text("2")  # always
    number = half_open(client)
    right, wrong = client.segment(ACK, 1001, number), client.segment(ACK, 1001, number + 7)
    for table, otherwise in ((HELD, "looped"), (OWNED, "held")):
        assert judged(loaded, right, table) == "accepted"
        assert judged(loaded, wrong, table) == otherwise
        assert judged(loaded, client.segment(RST, 1001, number), table) == otherwise
    client.send(ACK, 1001, number)
    listener.settimeout(2)
    listener.accept()[0].close()
