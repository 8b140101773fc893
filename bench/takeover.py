"""How long a mirror's clients are without a commit: a power cut, a swap, a lost link, a volume process that is killed.

    .venv/bin/python bench/takeover.py [--rounds 5] [--detection 300ms] [--only power,swap]

A lab of two servers and a client; PostgreSQL in a mirror, as `make demo-mirror` has it, with the default detection of
3 s unless another is given. Four connections commit all the time, and the client notes the longest time between two
commits that were acknowledged. After each fault both servers must become PRIM and SECOND again by themselves. In the
end every acknowledged commit must be in the table; the exit code is 1 when one is missing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table
from shared import mirrored

from safekit_py.lab import Lab
from safekit_py.lab.demo_mirror import MODULE, MirrorDemo

WANTED = {"power": "8, with 300 ms 3", "swap": "3", "link": "4", "worker": "0.2"}
KILLS = 20
PULSE = "30ms"  # of the heart, where the detection is given


class Faults:
    """What is done to the servers while the client commits."""

    def __init__(self, lab: Lab, demo: MirrorDemo) -> None:
        self.lab, self.demo = lab, demo

    def roles(self) -> tuple[str, str]:
        """Primary and secondary, once both are Ready."""
        end = time.monotonic() + 90
        while time.monotonic() < end:
            seen = {host: self.demo.state(host) for host in self.demo.servers}
            if sorted(seen.values()) == ["PRIM Ready", "SECOND Ready"]:
                primary, secondary = sorted(seen, key=lambda host: seen[host])
                return primary, secondary
            time.sleep(0.1)
        raise SystemExit(f"not PRIM and SECOND: {seen}")

    def workers(self, host: str) -> list[str]:
        return self.lab.run(host, ["pgrep", "skvol-"], capture_output=True, text=True).stdout.split()

    def power(self, primary: str, secondary: str) -> None:
        self.lab.kill(primary)
        self.demo.wait("the other server", "ALONE Ready", lambda: self.demo.state(secondary))
        time.sleep(1)
        self.lab.boot(primary)

    def swap(self, primary: str, secondary: str) -> None:
        self.demo.command(primary, "swap", MODULE)
        self.demo.roles(secondary, primary)

    def link(self, primary: str, secondary: str) -> None:
        self.lab.cut(secondary)
        self.demo.wait("the primary", "ALONE Ready", lambda: self.demo.state(primary))
        time.sleep(0.5)
        self.lab.heal()

    def worker(self, primary: str, secondary: str) -> None:
        self.lab.run(primary, ["kill", "-KILL", *self.workers(primary)], capture_output=True)
        time.sleep(2)  # one that dies more than five times within 10 s is given up, and the other server takes over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help=f"of each; the volume process is killed {KILLS} times")
    parser.add_argument("--detection", default="", help=f"the heart's timeout, as 300ms; its pulse is {PULSE} then")
    parser.add_argument("--only", default=",".join(WANTED))
    given = parser.parse_args()
    console = Console()
    found: dict[str, list[float]] = {each: [] for each in given.only.split(",")}
    with Lab.up("takeover", 2, owner=os.getpid()) as lab:
        demo = MirrorDemo(lab, console)
        changes = {'maxloop="3"': 'maxloop="1000"'}
        if given.detection:
            changes["<heart>"] = f'<heart pulse="{PULSE}" timeout="{given.detection}">'
        mirrored.install(lab, demo, changes)
        mirrored.start(demo)
        faults = Faults(lab, demo)
        calls: dict[str, Callable[[str, str], None]] = {
            "power": faults.power, "swap": faults.swap, "link": faults.link, "worker": faults.worker,
        }  # fmt: skip
        for what, values in found.items():
            for number in range(KILLS if what == "worker" else given.rounds):
                roles = faults.roles()
                writer = demo.ledger("write")
                calls[what](*roles)
                faults.roles()
                seen = demo.end(writer)
                values.append(seen["longest"])
                troubles = f", troubles: {seen['troubles']}" if what == "worker" and seen["troubles"] else ""
                console.print(f"{what} {number + 1}: {seen['longest']:.2f} s{troubles}", highlight=False)
        resident = max(memory(lab, host, pid) for host in demo.servers for pid in faults.workers(host))
        demo.check("in the end")
    detection = f"detection {given.detection}" if given.detection else "default detection"
    table = Table("fault", "times", "median", "longest", "wanted", title=f"seconds without a commit, {detection}")
    for what, values in found.items():
        cells = [f"{value:.2f}" for value in (statistics.median(values), max(values))]
        table.add_row(what, str(len(values)), *cells, WANTED[what])
    console.print(table)
    console.print(f"the larger volume process has {resident:.0f} MB resident", highlight=False)


def memory(lab: Lab, host: str, pid: str) -> float:
    """MB resident of a process of a host."""
    text = lab.run(host, ["cat", f"/proc/{pid}/status"], capture_output=True, text=True).stdout
    return next(int(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
