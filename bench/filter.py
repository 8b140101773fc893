"""What the farm's filter costs for one packet, in nanoseconds above a program that does nothing.

Command, as root: ``python bench/filter.py [--rounds 15] [--repeat 500000] [--json]``

BPF_PROG_TEST_RUN times the loaded program and the null program by turns in the same run, so that a busy or slow
machine weighs on both; printed are the medians of the rounds and of the differences, and the difference of the fastest
rounds, which is what it costs on a processor that nobody else slows down. The budget is 25 ns for an
accepted TCP segment. What could open a connection costs one reading of the clock more, for the lease: about 30 ns in a
virtual machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from ipaddress import IPv4Address
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from safekit_py.plugins.farm import bpf, compiler
from safekit_py.plugins.farm.layout import BUCKETS, KernelRule
from safekit_py.plugins.farm.loader import Filter

NULL = struct.pack("=BBhi", 0xB7, 0, 0, -1) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # r0 = TC_ACT_UNSPEC; exit
VIP = IPv4Address("10.0.0.100")
MINE, THEIRS = bytes([0]) * BUCKETS, bytes([1]) * BUCKETS
MACS = {(0, 0): b"\2\0\0\0\0\1", (0, 1): b"\2\0\0\0\0\2"}


def tcp(flags: int, target: IPv4Address = VIP, port: int = 80, source: bytes = b"\2\0\0\0\0\x99") -> bytes:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40, 7, 0, 64, 6, 0) + IPv4Address("10.0.0.7").packed + target.packed
    return bytes(6) + source + b"\x08\0" + ip + struct.pack(">HHIIBBHI", 40000, port, 1, 1, 0x50, flags, 512, 0)


def udp() -> bytes:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0, 64, 17, 0) + IPv4Address("10.0.0.7").packed + VIP.packed
    return bytes(12) + b"\x08\0" + ip + struct.pack(">HHI", 40000, 53, 0)


def rules(count: int) -> list[KernelRule]:
    others = [KernelRule("tcp", "on_addr", 0, 10000 + port) for port in range(count - 2)]
    return [*others, KernelRule("tcp", "on_port", 0, 80), KernelRule("udp", "on_addr", 0, 53)]


# name, packet, number of rules, number of VIPs, owners
CASES = (
    ("tcp segment, accepted", tcp(0x10), 2, 1, MINE),
    ("tcp SYN, accepted (lease looked at)", tcp(0x02), 2, 1, MINE),
    ("udp, accepted (lease looked at)", udp(), 2, 1, MINE),
    ("tcp segment, accepted, 16th rule, 4th VIP", tcp(0x10), 17, 4, MINE),
    ("tcp segment, forwarded once: looped", tcp(0x10, source=MACS[0, 1]), 2, 1, THEIRS),
    ("tcp segment, forwarded", tcp(0x10), 2, 1, THEIRS),
    ("other traffic", tcp(0x10, IPv4Address("10.0.0.1")), 2, 1, MINE),
)


def measure(filter_: Filter, null: int, rounds: int, repeat: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, packet, count, vips, owners in CASES:
        filter_.set_open(False)
        spare = [(IPv4Address(int(VIP) + 1 + i), 0) for i in range(vips - 1)]
        filter_.configure(0, 7, [*spare, (VIP, 0)], rules(count), 0)
        filter_.install([owners], MACS)
        filter_.set_open(True)
        filter_.renew(2**63)
        took, idle = [], []
        for _ in range(rounds):
            idle.append(bpf.run_program(null, packet, repeat).nanoseconds)
            took.append(filter_.run(packet, repeat).nanoseconds)
        extra = statistics.median(a - b for a, b in zip(took, idle, strict=True))
        rows.append(
            {
                "case": name,
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
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "bpf")
        pins.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", str(pins)], check=True)
        try:
            loaded = Filter.load(compiler.object_for(Path(folder)), pins / "bench")
            null = bpf.load_program(NULL, "null", "GPL")
            rows = measure(loaded, null, options.rounds, options.repeat)
            loaded.unpin()
            loaded.close()
            os.close(null)
        finally:
            subprocess.run(["umount", "--lazy", str(pins)], check=True)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'case':44}{'null':>8}{'filter':>8}{'extra':>8}{'least':>8}  ns per packet")
    for row in rows:
        print(
            f"{row['case']:44}{row['null_ns']:8.0f}{row['ns']:8.0f}{row['extra_ns']:8.0f}{row['least_extra_ns']:8.0f}"
        )


if __name__ == "__main__":
    main()
