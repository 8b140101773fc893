"""How many acknowledged commits random faults cost, and whether two servers are ever primary at one instant.

    .venv/bin/python bench/chaos.py [--faults 20] [--seed 1] [--only power]

A lab of two servers and a client, which is the witness too; PostgreSQL in a mirror, detection after 1 s, leases of
2 s. Four connections commit all the time. Each fault is one of FAULTS, chosen at random and ended after a random time;
then the two servers must become PRIM and SECOND Ready again by themselves, and every commit that was acknowledged is
looked for in the table. Meanwhile it is noted every 5 ms which servers have the virtual address; those that are
stopped (SIGSTOP) at that instant do not count, since nothing on them answers. Printed: by fault, how often, the
longest times without a commit; commits acknowledged and lost; instants with the address on two servers. The exit code
is 1 when a commit was lost or the address was on two servers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table
from shared import mirrored

from safekit_py.lab import Lab
from safekit_py.lab.demo import VIP
from safekit_py.lab.demo_mirror import MODULE, MirrorDemo

WITNESS = "10.77.0.101:4850"
BESIDE = '<heartbeat name="default"/>'
HEART = '<heart pulse="100ms" timeout="1s">'
PROCESSES = {
    "agent": ("-f", "safekit_py agent"),
    "worker": ("skvol-",),
    "keeper": ("skkeep-",),
    "database": ("-o", "-x", "postgres"),
}
FAULTS = (
    "power of the primary", "power of the secondary", "power of both",
    "link of the primary", "link of the secondary", "link between the two",
    "one way from the primary", "one way from the secondary",
    *(f"kill -9 of the primary's {each}" for each in PROCESSES),
    "kill -9 of the secondary's agent", "kill -9 of the secondary's worker",
    "SIGSTOP of the primary's agent", "SIGSTOP of all of the primary", "swap",
)  # fmt: skip


class Watch(threading.Thread):
    """Notes the servers that have the virtual address."""

    def __init__(self, lab: Lab, servers: list[str]) -> None:
        super().__init__(daemon=True)
        self._lab, self._servers = lab, servers
        self.asleep: set[str] = set()
        self.looks = 0
        self.two: list[float] = []
        self.ends = threading.Event()

    def run(self) -> None:
        while not self.ends.wait(0.005):
            has = [each for each in self._servers if each not in self.asleep and self._has(each)]
            self.looks += 1
            # The second look tells an address that is moving from one that is on both.
            if len(has) > 1 and all(each not in self.asleep and self._has(each) for each in has):
                self.two.append(time.monotonic())

    def _has(self, host: str) -> bool:
        init = self._lab._record.inits.get(host)
        if init is None:
            return False
        with suppress(OSError):
            return f"-- {VIP}\n" in Path(f"/proc/{init.pid}/net/fib_trie").read_text()
        return False


class Chaos:
    """One run."""

    def __init__(self, lab: Lab, demo: MirrorDemo, watch: Watch, dice: random.Random) -> None:
        self.lab, self.demo, self.watch, self.dice = lab, demo, watch, dice
        self.servers = demo.servers

    def processes(self, host: str, what: tuple[str, ...]) -> list[int]:
        found = self.lab.run(host, ["pgrep", *what], capture_output=True, text=True).stdout.split()
        return [int(each) for each in found]

    def signal(self, host: str, name: str, numbers: list[int]) -> None:
        self.lab.run(host, ["kill", f"-{name}", *map(str, numbers)], capture_output=True)

    def settle(self, limit: float) -> tuple[str, str]:
        """Wait for PRIM and SECOND; who is which."""
        end = time.monotonic() + limit
        seen: dict[str, str] = {}
        while time.monotonic() < end:
            seen = {host: self.demo.state(host) for host in self.servers}
            if sorted(seen.values()) == ["PRIM Ready", "SECOND Ready"]:
                primary, secondary = sorted(self.servers, key=lambda host: seen[host])
                return primary, secondary
            time.sleep(0.2)
        logs = [self.demo.command(h, "log", MODULE, "-n", "60") for h in self.servers if self.lab.alive(h)]
        raise SystemExit(f"not PRIM and SECOND after {limit:.0f} s: {seen}\n" + "\n".join(logs))

    def inflict(self, fault: str, primary: str, secondary: str) -> None:
        """One fault, for a while, and its end."""
        host = secondary if "of the secondary" in fault or fault.endswith("from the secondary") else primary
        while_it_lasts = self.dice.uniform(0.2, 6.0)
        if fault.startswith("power"):
            hosts = [primary, secondary] if fault.endswith("both") else [host]
            self.dice.shuffle(hosts)
            for each in hosts:
                self.lab.kill(each)
            time.sleep(while_it_lasts)
            self.dice.shuffle(hosts)
            for each in hosts:
                self.lab.boot(each)
        elif fault.startswith(("link", "one way")):
            if fault.startswith("one way"):
                self.lab.cut(host, one_way=True)
            else:
                self.lab.cut(host, secondary if "between" in fault else None)
            time.sleep(while_it_lasts)
            self.lab.heal()
        elif fault.startswith("kill"):
            self.signal(host, "KILL", self.processes(host, PROCESSES[fault.rsplit(maxsplit=1)[-1]]))
            time.sleep(while_it_lasts)
        elif fault.startswith("SIGSTOP"):
            self._sleep(host, while_it_lasts, everything="all" in fault)
        else:
            self.demo.command(primary, "swap", MODULE)

    def _sleep(self, host: str, seconds: float, *, everything: bool) -> None:
        numbers = self.processes(host, PROCESSES["agent"])
        if everything:
            numbers = [each for each in self.processes(host, (".",)) if each != 1]
            self.watch.asleep.add(host)
        self.signal(host, "STOP", numbers)
        time.sleep(seconds)
        self.signal(host, "CONT", numbers)
        if everything:
            # The processes that take the address away have just been woken up themselves.
            time.sleep(0.1)
            self.watch.asleep.discard(host)


def set_up(lab: Lab, demo: MirrorDemo) -> subprocess.Popen[bytes]:
    """The module on both servers, with the witness on the client host; primary and secondary are there."""
    added = f'{BESIDE}\n<witness kind="safekit" addr="{WITNESS}" lease="2s"/>'
    mirrored.install(lab, demo, {"<heart>": HEART, BESIDE: added, 'maxloop="3"': 'maxloop="1000"'})
    key = lab.root(demo.servers[0]) / "var/lib/safekit/cluster/cluster.key"
    argv = ["safekit-py", "witness", "--listen", WITNESS, "--key", str(key), "--state", str(lab.root("client1") / "w")]
    witness = lab.popen("client1", argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mirrored.start(demo)
    return witness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="faults with this in their name")
    given = parser.parse_args()
    dice, console = random.Random(given.seed), Console()
    faults = [each for each in FAULTS if given.only in each]
    outages: dict[str, list[float]] = defaultdict(list)
    lost, acknowledged = 0, 0
    with Lab.up("chaos", 2, owner=os.getpid()) as lab:
        demo = MirrorDemo(lab, console)
        witness = set_up(lab, demo)
        watch = Watch(lab, demo.servers)
        watch.start()
        chaos = Chaos(lab, demo, watch, dice)
        try:
            for number in range(1, given.faults + 1):
                primary, secondary = chaos.settle(90)
                fault = faults[number - 1] if number <= len(faults) else dice.choice(faults)
                writer = demo.ledger("write")
                chaos.inflict(fault, primary, secondary)
                chaos.settle(90)
                seen = demo.end(writer)
                found = json.loads(demo.ledger("check").communicate(timeout=90)[0])
                outages[fault].append(seen["longest"])
                acknowledged = found["acknowledged"]
                lost += len(found["lost"]) + len(found["twice"]) + len(found["strange"])
                console.print(
                    f"{number:4} {fault}: {seen['longest']:.2f} s without a commit; {acknowledged} acknowledged,"
                    f" {lost} lost; address on two servers {len(watch.two)} times",
                    highlight=False,
                )
        finally:
            watch.ends.set()
            witness.kill()
            witness.wait()
    table = Table("fault", "times", "median s without a commit", "longest", title=f"{given.faults} faults")
    for fault in FAULTS:
        if found_ := outages.get(fault):
            table.add_row(fault, str(len(found_)), f"{statistics.median(found_):.2f}", f"{max(found_):.2f}")
    console.print(table)
    console.print(
        f"{acknowledged} commits acknowledged, {lost} lost; address on two servers in {len(watch.two)} of"
        f" {watch.looks} looks",
        highlight=False,
    )
    sys.exit(1 if lost or watch.two else 0)


if __name__ == "__main__":
    main()
