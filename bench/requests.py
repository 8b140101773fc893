"""HTTP requests a second over three servers: through the farm's virtual address, and called by their own addresses.

    .venv/bin/python bench/requests.py [--kind vmac_directed] [--rounds 9] [--seconds 2] [--json FILE]

A lab of three servers with the shipped apache module, whose Apache listens on all addresses here. The client runs three
``wrk`` at once: each calls a server by its own address, or all three call the virtual address; page, number of
connections and programs are the same. Both are measured by turns, first one and then the other first, with connections
that stay and with a connection for each request. Everything shares this machine's processors, so what the farm costs on
any server is missing in the requests a second. Printed are the medians, and the median of the rounds' ratios.

``wrk`` is a package of Debian, which only this program needs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import failover

from safekit_py.lab import Lab

WANTED = 0.95
DIRECT = ("10.77.0.11", "10.77.0.12", "10.77.0.13")
MODES = {"connections that stay": (), "a connection for each request": ("-H", "Connection: close")}


def start(lab: Lab, kind: str) -> None:
    """The farm, serving on every server."""
    for host in failover.SERVERS:
        while failover.cli(lab, host, "status", check=False).returncode:
            time.sleep(0.2)
        failover.cli(lab, host, "module", "install", "apache", f"--set=VIP={failover.VIP}", "--set=PORT=80")
        module = lab.root(host) / "opt/safekit/modules/apache"
        replace(module / "conf/userconfig.xml", 'type="vmac_directed"', f'type="{kind}"')
        replace(module / "bin/start_both", "Listen $address:$PORT", "Listen 0.0.0.0:$PORT")
        failover.cli(lab, host, "start", "apache", "--wait")
    failover.settle(lab)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{path}: expected once: {old}")
    path.write_text(text.replace(old, new))


def load(lab: Lab, targets: tuple[str, ...], seconds: int, connections: int, words: tuple[str, ...]) -> float:
    """Requests a second of one ``wrk`` for each target, together."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *words]
    began = [
        lab.popen("client1", [*argv, f"http://{each}/server-name.txt"], stdout=subprocess.PIPE, text=True)
        for each in targets
    ]
    total = 0.0
    for each in began:
        text, _ = each.communicate()
        found = re.search(r"Requests/sec:\s+([0-9.]+)", text)
        if found is None or "Socket errors" in text or "Non-2xx" in text:
            raise SystemExit(f"wrk did not get its answers:\n{text}")
        total += float(found[1])
    return total


def measure(lab: Lab, options: argparse.Namespace) -> list[dict[str, object]]:
    sides = {"direct": DIRECT, "vip": (failover.VIP,) * len(DIRECT)}
    rows: list[dict[str, object]] = []
    for mode, words in MODES.items():
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(options.rounds + 1):
            for side in sorted(sides, reverse=number % 2 == 1):
                rate = load(lab, sides[side], options.seconds, options.connections, words)
                if number:  # the first round warms caches up
                    rates[side].append(rate)
        ratios = [vip / direct for vip, direct in zip(rates["vip"], rates["direct"], strict=True)]
        rows.append(
            {
                "kind": options.kind,
                "mode": mode,
                "direct": statistics.median(rates["direct"]),
                "vip": statistics.median(rates["vip"]),
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "wanted": WANTED,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=("vmac_directed", "vmac_invisible"), default="vmac_directed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=8, help="of each wrk")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed -> apt-get install wrk")
    with Lab.up(f"r{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        start(lab, options.kind)
        rows = measure(lab, options)
    print(f"{options.kind:32}{'direct/s':>10}{'VIP/s':>10}{'ratio':>8}{'rounds':>16}{'wanted':>8}")
    for row in rows:
        span = f"{min(row['ratios']):.3f}-{max(row['ratios']):.3f}"
        print(f"{row['mode']:32}{row['direct']:10.0f}{row['vip']:10.0f}{row['ratio']:8.3f}{span:>16}{WANTED:8.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
