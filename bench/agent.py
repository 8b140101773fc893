"""What an idle agent costs: memory and processor, with one farm module among three servers.

    .venv/bin/python bench/agent.py [--seconds 30] [--json FILE]

Printed for each of three agents: resident memory (RSS and PSS), and processor time in percent of one core over the
period, beside that of a bare `python3 -c 'time.sleep(…)'` in the same period.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from safekit_py.lab import Lab

SERVERS = ("server1", "server2", "server3")
VIP = "10.77.0.100"


def ticks(pid):
    """Seconds of processor time, exact: the scheduler counts nanoseconds for each thread."""
    return sum(int(t.read_text().split()[0]) for t in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident(pid):
    """Megabytes resident, and the same with pages shared among processes divided by their number."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    found = {row[0]: int(row[1]) / 1024 for row in rows}
    return found["Rss:"], found["Pss:"]


def agents(root):
    """Process ids on this machine of the agents whose root is below ``root``."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            environment = (entry / "environ").read_bytes() if words else b""
        except OSError:
            continue
        if b"safekit_py" in words and b"agent" in words and f"SAFEKIT_ROOT={root}".encode() in environment:
            yield int(entry.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    seconds, rows = options.seconds, []
    with Lab.up(f"b{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        for host in SERVERS:
            while lab.run(host, ["safekit-py", "status"], capture_output=True).returncode:
                time.sleep(0.2)
            for words in (
                ["module", "install", "apache", f"--set=VIP={VIP}", "--set=PORT=80"],
                ["start", "apache", "--wait"],
            ):
                done = lab.run(host, ["safekit-py", *words], capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
        time.sleep(3)
        bare = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds + 1})"])
        found = {host: next(agents(lab.root(host))) for host in SERVERS}
        found["bare python"] = bare.pid
        before = {name: ticks(pid) for name, pid in found.items()}
        time.sleep(seconds)
        for name, pid in found.items():
            share = (ticks(pid) - before[name]) / seconds * 100
            rss, pss = resident(pid)
            rows.append({"process": name, "rss_mb": rss, "pss_mb": pss, "processor_percent": share})
            print(f"{name}: {rss:.1f} MB resident ({pss:.1f} MB with shared pages divided), {share:.2f} % of a core")
        bare.wait()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
