"""What a farm notices when the process of an agent is replaced, as in an upgrade: the longest pause of its heartbeats.

    .venv/bin/python bench/renew.py [--runs 12] [--hogs 8]

Two lab servers with the module apache, and tcpdump on the second. The agent of the first is replaced again and again,
first on a quiet machine, then beside so many programs that do nothing but compute. Printed: how often it was done, the
longest times between two heartbeats of the first server, what `safekit-py renew` took, and how many views there were.
The pulse is 35 ms; the lease of the filter ends after 131 ms, and the other server takes over after 175 ms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from safekit_py.lab import Lab
from safekit_py.lab.plan import hosts

SERVERS = ("server1", "server2")
VIP = "10.77.0.100"
LONGEST = 5  # pauses that are printed


def cli(lab, host, *words):
    done = lab.run(host, ["safekit-py", *words], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def prepared(lab):
    """Both servers serve; the port of the heartbeats."""
    for host in SERVERS:
        while cli(lab, host, "status") is None:
            time.sleep(0.2)
        assert cli(lab, host, "module", "install", "apache", "--set", f"VIP={VIP}") is not None
        assert cli(lab, host, "start", "apache", "--wait") is not None
    time.sleep(10)  # the views of the start are over
    return report(lab)["port"]


def report(lab):
    return json.loads(cli(lab, "server1", "status", "apache", "--json"))["modules"][0]["report"]


def measured(lab, port, runs):
    """Milliseconds between heartbeats, the longest first, and seconds that the command took."""
    own = hosts(2, 1)[0].ports[0].address.partition("/")[0]
    words = ["tcpdump", "-n", "-tt", "-l", "-i", "eth0", f"udp and dst port {port} and src host {own}"]
    sniffer = lab.popen("server2", words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    time.sleep(1)
    took = []
    for _ in range(runs):
        began = time.monotonic()
        assert cli(lab, "server1", "renew") is not None
        took.append(time.monotonic() - began)
    lab.run("server2", ["pkill", "-x", "tcpdump"])
    times = [float(line.split()[0]) for line in sniffer.stdout if line.strip()]
    pauses = sorted((1000 * (after - before) for before, after in itertools.pairwise(times)), reverse=True)
    return pauses, took


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--hogs", type=int, default=8)
    given = parser.parse_args()
    with Lab.up("renew-bench", servers=2, owner=os.getpid()) as lab:
        port = prepared(lab)
        before = report(lab)["view"]
        for hogs in (0, given.hogs):
            busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(hogs)]
            try:
                pauses, took = measured(lab, port, given.runs)
            finally:
                for each in busy:
                    each.kill()
                    each.wait()
            shown = " ".join(f"{each:.0f}" for each in pauses[:LONGEST])
            median = statistics.median(took)
            print(f"{given.runs} replacements, {hogs} hogs: longest pauses {shown} ms; renew took {median:.1f} s")
        print(f"views that came meanwhile: {report(lab)['view'] - before}")


if __name__ == "__main__":
    main()
