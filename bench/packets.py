"""What a client's packet costs over three servers: the farm's two ways, nft as in ClusterLabs IPaddr2, and xt_cluster.

    .venv/bin/python bench/packets.py [--rounds 9] [--packets 300000] [--json FILE]

As root. For each way three servers and a switch as network namespaces, veth and a bridge of the run's own, and the real
filter on each server. A generator in the kernel lets the client's port of the bridge receive small UDP packets of 4,096
clients; all that follows runs on one processor, so the time it takes is what the packet costs on all servers together.
Each way in turn in each round; medians. Every packet must have been accepted by exactly one server, or the run fails.

- flooded, ``vmac_invisible``: a MAC that no switch learns, so every server has every frame;
- directed, ``vmac_directed``: each client knows the MAC of the server that its address belongs to, as ARP has told it.
  With ``on_addr`` that one owns its packets, too; with ``on_port`` (the default) it sends on what is another's;
- nft: a multicast MAC, ``jhash ip saddr mod 3`` in the hook prerouting, the packet type set back to host;
- xt_cluster: the same with iptables-legacy's ``-m cluster``, which needs conntrack;
- one server: all packets to one, without a filter.
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
from shared.ways import VIP, WAYS, ways

TARGETS = {"flooded": 0.9, "directed on_addr": 0.6, "directed on_port": 0.6}  # of what nft costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--packets", type=int, default=300_000)
    parser.add_argument("--ways", default=",".join(WAYS), help="some of them")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    injector = Injector(VIP)
    found: dict[str, list[float]] = {}
    with ways(options.ways.split(",")) as all_ways:
        for number in range(options.rounds + 1):
            for way in all_ways if number % 2 else all_ways[::-1]:
                cost = way.cost(injector, options.packets)
                if number:  # the first round warms up
                    found.setdefault(way.name, []).append(cost)
        rows = []
        print(f"{'way':18}{'us per packet':>14}{'of nft':>10}{'wanted':>8}   split in %")
        for way in all_ways:
            ratio = statistics.median(
                a / b for a, b in zip(found[way.name], found.get("nft", found[way.name]), strict=True)
            )
            row = {"way": way.name, "microseconds": statistics.median(found[way.name]), "of_nft": ratio}
            rows.append({**row, "wanted": TARGETS.get(way.name), "split": way.shares, "rounds": found[way.name]})
            split = " ".join(map(str, way.shares))
            print(f"{way.name:18}{row['microseconds']:14.2f}{ratio:10.2f}{TARGETS.get(way.name, ''):>8}   {split}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
