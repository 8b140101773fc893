"""What the farm's filter costs for one packet, in nanoseconds above a program that does nothing.

    .venv/bin/python bench/filter.py [--rounds 15] [--repeat 500000] [--json FILE]

As root. BPF_PROG_TEST_RUN times the loaded program and the null program by turns in the same run, so that a busy or
slow machine weighs on both; printed are the medians of the rounds and of the differences, and the difference of the
fastest rounds, which is what it costs on a processor that nobody else slows down. The budget is 25 ns for an accepted
packet and 90 ns where the bucket has moved and the kernel is asked for the socket; the socket is a real one, on
loopback in a network namespace of the run's own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from safekit_py.plugins.farm import bpf, compiler
from safekit_py.plugins.farm.layout import BUCKETS, Configuration, KernelRule
from safekit_py.plugins.farm.loader import Filter

NULL = struct.pack("=BBhi", 0xB7, 0, 0, -1) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # r0 = TC_ACT_UNSPEC; exit
VIP = IPv4Address("10.0.0.100")
VIP6, CLIENT, CLIENT6 = IPv6Address("fd00::100"), IPv4Address("10.0.0.7"), IPv6Address("fd00::7")
PORTS: dict[int, int] = {}  # of the client's sockets, by version of IP


def table(*entry: int) -> bytes:
    return bytes(entry).ljust(4, b"\xff") * BUCKETS


MINE, THEIRS, MOVED = table(0), table(1), table(1, 0)
MACS = {(0, 0): b"\2\0\0\0\0\1", (0, 1): b"\2\0\0\0\0\2"}
CLONE_NEWNET = 0x40000000


def above(flags: int, port: int, source: int) -> bytes:
    return struct.pack(">HHIIBBHI", source, port, 1, 1, 0x50, flags, 512, 0)


def tcp(flags: int, target: IPv4Address = VIP, source: bytes = b"\2\0\0\0\0\x99", port: int = 40000) -> bytes:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40, 7, 0, 64, 6, 0) + CLIENT.packed + target.packed
    return bytes(6) + source + b"\x08\0" + ip + above(flags, 80, port)


def tcp6(flags: int, port: int = 40000) -> bytes:
    ip = struct.pack(">IHBB", 6 << 28, 20, 6, 64) + CLIENT6.packed + VIP6.packed
    return bytes(6) + b"\2\0\0\0\0\x99\x86\xdd" + ip + above(flags, 80, port)


def udp() -> bytes:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0, 64, 17, 0) + CLIENT.packed + VIP.packed
    return bytes(12) + b"\x08\0" + ip + struct.pack(">HHI", 40000, 53, 0)


@contextlib.contextmanager
def sockets():
    """A connection of each version of IP from the client to the VIP, on loopback in a namespace of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise SystemExit("needs root and network namespaces")
    for words in (f"addr add {VIP}/32", f"addr add {CLIENT}/32", f"addr add {VIP6}/128", f"addr add {CLIENT6}/128"):
        subprocess.run(["ip", *words.split(), "dev", "lo"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with contextlib.ExitStack() as stack:
        for target, source, family in ((VIP, CLIENT, socket.AF_INET), (VIP6, CLIENT6, socket.AF_INET6)):
            listener = stack.enter_context(socket.create_server((str(target), 80), family=family))
            client = socket.create_connection((str(target), 80), source_address=(str(source), 0))
            PORTS[target.version] = stack.enter_context(client).getsockname()[1]
            stack.enter_context(listener.accept()[0])
        yield


def rules(count: int) -> list[KernelRule]:
    others = [KernelRule("tcp", "on_addr", 0, 10000 + port) for port in range(count - 2)]
    return [*others, KernelRule("tcp", "on_port", 0, 80), KernelRule("udp", "on_addr", 0, 53)]


def cases() -> tuple[tuple[str, bytes, int, int, bytes, int], ...]:
    """Name, packet, number of rules, number of VIPs, owners, budget in ns (0: none)."""
    return (
        ("tcp segment, accepted", tcp(0x10), 2, 1, MINE, 25),
        ("tcp SYN, accepted", tcp(0x02), 2, 1, MINE, 25),
        ("udp, accepted", udp(), 2, 1, MINE, 25),
        ("tcp segment of IPv6, accepted", tcp6(0x10), 2, 1, MINE, 0),
        ("tcp segment, accepted, 16th rule, 4th VIP", tcp(0x10), 17, 4, MINE, 0),
        ("moved bucket, socket here: accepted", tcp(0x10, port=PORTS[4]), 2, 1, MOVED, 90),
        ("moved bucket, IPv6, socket here: accepted", tcp6(0x10, PORTS[6]), 2, 1, MOVED, 0),
        ("moved bucket, no socket here: dropped", tcp(0x10, source=MACS[0, 1]), 2, 1, MOVED, 90),
        ("another's, from a server: dropped", tcp(0x10, source=MACS[0, 1]), 2, 1, THEIRS, 0),
        ("other traffic", tcp(0x10, IPv4Address("10.0.0.1")), 2, 1, MINE, 0),
    )


def measure(filter_: Filter, null: int, rounds: int, repeat: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, packet, count, vips, owners, budget in cases():
        filter_.set_open(False)
        spare = [(IPv4Address(int(VIP) + 1 + i), 0) for i in range(vips - 1)]
        filter_.configure(Configuration(0, 7, [*spare, (VIP, 0), (VIP6, 0)], rules(count)))
        filter_.install([owners], MACS)
        filter_.set_open(True)
        filter_.renew(time.monotonic_ns() + 10**12)
        took, idle = [], []
        for _ in range(rounds):
            idle.append(bpf.run_program(null, packet, repeat).nanoseconds)
            took.append(filter_.run(packet, repeat).nanoseconds)
        extra = statistics.median(a - b for a, b in zip(took, idle, strict=True))
        rows.append(
            {
                "case": name,
                "budget_ns": budget,
                "null_ns": statistics.median(idle),
                "ns": statistics.median(took),
                "extra_ns": extra,
                "least_extra_ns": min(took) - min(idle),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=500_000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "bpf")
        pins.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", str(pins)], check=True)
        try:
            loaded = Filter.load(compiler.object_for(Path(folder)), pins / "bench")
            null = bpf.load_program(NULL, "null", "GPL")
            with sockets():
                rows = measure(loaded, null, options.rounds, options.repeat)
            loaded.unpin()
            loaded.close()
            os.close(null)
        finally:
            subprocess.run(["umount", "--lazy", str(pins)], check=True)
    print(f"{'case':44}{'null':>8}{'filter':>8}{'extra':>8}{'least':>8}{'budget':>8}  ns per packet")
    for row in rows:
        figures = "".join(f"{row[key]:8.0f}" for key in ("null_ns", "ns", "extra_ns", "least_extra_ns"))
        print(f"{row['case']:44}{figures}{row['budget_ns'] or '':>8}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
