"""What packets of ever new flows cost (a flood from random sources) beside as many of flows that are known.

    .venv/bin/python bench/flood.py [--rounds 9] [--packets 300000] [--json FILE]

As root; servers, generator and ways to share are those of bench/packets.py. In each round each way takes packets of
4,096 clients, and then as many of which each begins another flow, of 4 million sources. Medians, and the median of the
rounds' ratios. Entries: what conntrack holds on the first server afterwards; slab: the growth of the kernel's memory in
that way's rounds of the flood. A server without a filter shows what the network stack itself makes of new flows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/support"))

from shared.injector import Injector
from shared.ways import CLIENTS, VIP, Way, ways

NAMES = ("flooded", "directed on_port", "xt_cluster", "one server")
WANTED = 1.05
CONNTRACK = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def slab() -> int:
    """Kilobytes of the kernel's objects."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Slab:"))


def entries(way: Way) -> int:
    """What conntrack holds on the first server."""
    with way.servers[0].inside():
        return int(CONNTRACK.read_text(encoding="ascii"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--packets", type=int, default=300_000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    injector = Injector(VIP)
    known: dict[str, list[float]] = {name: [] for name in NAMES}
    new: dict[str, list[float]] = {name: [] for name in NAMES}
    grown = dict.fromkeys(NAMES, 0)
    rows = []
    with ways(list(NAMES)) as all_ways:
        for number in range(options.rounds + 1):
            for way in all_ways if number % 2 else all_ways[::-1]:
                before = way.cost(injector, options.packets, CLIENTS)
                size = slab()
                flooded = way.cost(injector, options.packets, 0)
                if number:  # the first round warms up
                    known[way.name].append(before)
                    new[way.name].append(flooded)
                    grown[way.name] += slab() - size
        print(f"{'way':18}{'known flows':>14}{'new flows':>12}{'ratio':>8}{'wanted':>8}{'entries':>9}{'slab kB':>9}")
        for way in all_ways:
            name = way.name
            row = {
                "way": name,
                "known_us": statistics.median(known[name]),
                "new_us": statistics.median(new[name]),
                "ratio": statistics.median(b / a for a, b in zip(known[name], new[name], strict=True)),
                "wanted": WANTED if way.filters else None,
                "conntrack": entries(way),
                "slab_kb": grown[name],
            }
            rows.append(row)
            cost = f"{row['known_us']:11.2f} us{row['new_us']:9.2f} us{row['ratio']:8.2f}{row['wanted'] or '':>8}"
            print(f"{name:18}{cost}{row['conntrack']:9}{row['slab_kb']:9}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
