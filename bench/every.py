"""How long a command for every server of a cluster takes, beside the same for one server.

    .venv/bin/python bench/every.py [--servers 16] [--rounds 10] [--json FILE]

A lab with that many real agents, each with its web process and certificates of one authority; on the first server
``safekit-py -H "*" status``, from its start to its end, by turns with ``safekit-py status``. All servers share this
machine's processors; on servers of their own each would answer on its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from safekit_py.lab import Lab
from safekit_py.web import certificates

WANTED = 1.0


def timed(lab: Lab, *words: str) -> float:
    began = time.perf_counter()
    done = lab.run("server1", ["safekit-py", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with Lab.up(f"e{os.getpid()}", servers=options.servers, owner=os.getpid()) as lab:
        hosts = [f"server{number + 1}" for number in range(options.servers)]
        first = lab.root(hosts[0]) / "var/lib/safekit/tls"
        certificates.make_authority(first)
        for host in hosts:
            certificates.issue(first, host, [], lab.root(host) / "var/lib/safekit/tls")
        end = time.monotonic() + 120
        while not all((lab.root(host) / "run/safekit/web.sock").exists() for host in hosts):
            if time.monotonic() > end:
                raise SystemExit("the web processes did not start in 120 s")
            time.sleep(0.5)
        time.sleep(5)
        timed(lab, "-H", "*", "status")  # connections are opened
        one, all_ = [], []
        for _ in range(options.rounds):
            one.append(timed(lab, "status"))
            all_.append(timed(lab, "-H", "*", "status"))
    row = {
        "servers": options.servers,
        "one_s": statistics.median(one),
        "all_s": statistics.median(all_),
        "most_s": max(all_),
        "wanted_s": WANTED,
    }
    print(f"{options.servers} servers: median {row['all_s']:.2f} s, at most {row['most_s']:.2f} (wanted {WANTED}); "
          f"one server: {row['one_s']:.2f} s")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps([row], indent=1))


if __name__ == "__main__":
    main()
