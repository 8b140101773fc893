"""How long a change of a farm's whole table takes, and whether a packet is lost meanwhile.

    .venv/bin/python bench/table.py [--changes 1000] [--json FILE]

As root. A server with the real filter, in a network namespace; a generator in the kernel (bench/packets.py) lets it
receive packets of 4,096 clients without a pause, on a processor of its own. Meanwhile the table of all its buckets is
replaced, as the agent does it, by another in which every entry differs and every bucket is still this server's. So each
packet must be accepted: one that saw a table half written would be dropped. The time is that of the call, at whose
end the new table is in force.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/support"))

from safekit_py.plugins.farm.layout import BUCKETS, NOBODY
from shared.injector import Injector
from shared.ways import CLIENTS, VIP, Way, ways

WANTED_MS, CHUNK = 2.0, 20_000
TABLES = [bytes((0, holder, NOBODY, NOBODY)) * BUCKETS for holder in (NOBODY, 1)]


class Stream(threading.Thread):
    """Packets for the server, until it is ended."""

    def __init__(self, way: Way) -> None:
        super().__init__(daemon=True)
        self._way, self._over, self.sent = way, threading.Event(), 0
        self._injector = Injector(VIP)
        self._injector.aim(way.macs, CLIENTS)

    def run(self) -> None:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        with self._way.switch.inside():
            while not self._over.is_set():
                self._injector.send(self._way.port, CHUNK)
                self.sent += CHUNK

    def end(self) -> None:
        self._over.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("needs two processors")
    with ways(["flooded"]) as (way,):
        for one in way.filters[1:]:
            one.set_open(False)
        mine, macs = way.filters[0], {(0, number): mac for number, mac in enumerate(way.own)}
        mine.install([TABLES[0]], macs)
        before, stream = way.accepted()[0], Stream(way)
        stream.start()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        while not stream.sent:
            time.sleep(0.01)
        took = []
        for table in itertools.islice(itertools.cycle(reversed(TABLES)), options.changes):
            began = time.perf_counter()
            mine.install([table], macs)
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(0.002)  # each table sees packets
        stream.end()
        lost = stream.sent - (way.accepted()[0] - before)
    row = {
        "changes": options.changes,
        "median_ms": statistics.median(took),
        "p99_ms": sorted(took)[len(took) * 99 // 100],
        "most_ms": max(took),
        "packets": stream.sent,
        "lost": lost,
        "wanted_ms": WANTED_MS,
        "times_ms": sorted(round(each, 3) for each in took),
    }
    times = f"median {row['median_ms']:.2f} ms, p99 {row['p99_ms']:.2f}, at most {row['most_ms']:.2f}"
    print(f"{options.changes} changes of the whole table: {times} (wanted {WANTED_MS})")
    print(f"{stream.sent} packets meanwhile, {lost} lost")
    if options.json:
        options.json.write_text(json.dumps([row], indent=1))
    if lost:
        raise SystemExit("packets were lost")


if __name__ == "__main__":
    main()
