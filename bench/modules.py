"""What an agent costs that has many modules: time until it answers with all of them, and memory.

    .venv/bin/python bench/modules.py [--modules 32] [--runs 3]

Printed for one installed module and for many, half of them light and half farms, on one server of a lab: the median of
the time from the agent's start to an answer that lists every module as configured, its resident memory then, and again
when every module is UP Ready.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent import agents, resident

from safekit_py.bundle.history import History
from safekit_py.lab import Lab
from safekit_py.model.paths import Paths

HOST = "server1"
LIGHT = """<safe><service mode="light">
<check><tcp ident="Check" when="both" action="noaction"><to addr="127.0.0.1" port="9"/></tcp></check><user/>
</service></safe>
"""
FARM = """<safe><service mode="farm"><farm><lan name="default"/></farm>
<vip><interface_list><interface><virtual_interface type="vmac_directed">
<virtual_addr addr="10.77.0.%d" where="alias"/></virtual_interface></interface></interface_list>
<loadbalancing_list><group name="G"><rule port="80" proto="tcp" filter="on_addr"/></group></loadbalancing_list></vip>
<check><tcp ident="Check" when="both" action="noaction"><to addr="127.0.0.1" port="9"/></tcp></check><user/>
</service></safe>
"""


def prepare(paths: Paths, count: int) -> list[str]:
    """So many modules, as their installation leaves them; their names."""
    names = [f"{'farm' if number % 2 else 'light'}{number}" for number in range(count)]
    for number, name in enumerate(names):
        for folder in ("conf", "bin"):
            (paths.module(name) / folder).mkdir(parents=True)
        paths.userconfig(name).write_text(FARM % (110 + number) if number % 2 else LIGHT)
        History(paths, name).admit()
    return names


def ask(path: Path, request: str) -> dict:
    """One request to the agent, without a client that would have to be loaded first; empty while it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        try:
            connection.connect(str(path))
            connection.sendall(f"{request} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return {}
    return json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")


def until(path: Path, count: int, *states: str) -> None:
    """Return when so many modules are in one of these states."""
    end = time.monotonic() + 60
    while True:
        modules = ask(path, "GET /api/v1/status").get("modules", [])
        if sum(f"{each['state']} {each['readiness']}" in states for each in modules) == count:
            return
        if time.monotonic() > end:
            raise SystemExit(f"not {count} modules in {states}: {modules}")
        time.sleep(0.01)


def measure(count: int) -> tuple[float, float, float]:
    """Seconds to the first whole answer, MB then, and MB with every module running."""
    with Lab.up(f"b{os.getpid()}", servers=1, agent=False, owner=os.getpid()) as lab:
        paths = Paths(lab.root(HOST))
        names = prepare(paths, count)
        began = time.monotonic()
        started = lab.popen(HOST, ["safekit-py", "agent"], stderr=(paths.root / "agent.log").open("ab"))
        until(paths.socket, count, "STOP NotReady")
        took = time.monotonic() - began
        (pid,) = agents(paths.root)
        idle = resident(pid)
        for name in names:
            ask(paths.socket, f"POST /api/v1/modules/{name}/start")
        until(paths.socket, count, "UP Ready")
        time.sleep(2)
        busy = resident(pid)
        os.kill(pid, signal.SIGTERM)
        started.wait(60)
        return took, idle, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    for count in (1, arguments.modules):
        runs = [measure(count) for _ in range(arguments.runs)]
        took, idle, busy = (statistics.median(values) for values in zip(*runs, strict=True))
        worst = max(run[0] for run in runs)
        print(
            f"{count} modules: answers in {took:.2f} s (at most {worst:.2f} s), {idle:.1f} MB resident, "
            f"{busy:.1f} MB with all of them running"
        )


if __name__ == "__main__":
    main()
