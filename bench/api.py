"""What reading states over HTTPS costs a server of a farm, and whether its heartbeats and lease notice.

    .venv/bin/python bench/api.py [--rate 200] [--seconds 10] [--json FILE]

A lab of three servers with the shipped apache module. A client reads ``/api/v1/status`` of server1 over one TLS
connection, so many times a second; before, the same seconds without it. Printed: processor time of agent and
web process in % of a core, the client's waiting time, views of the farm that began meanwhile, and packets refused for
want of a lease.
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

import failover
import psutil

from safekit_py.lab import Lab

WANTED = 10.0
READER = """
import http.client, json, ssl, sys, time
authority, token, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
context = ssl.create_default_context(cafile=authority)
connection = http.client.HTTPSConnection("10.77.0.11", 9453, context=context, timeout=10)
heads, waits = {"Authorization": f"Bearer {token}"}, []
began = due = time.monotonic()
while due - began < seconds:
    time.sleep(max(0.0, due - time.monotonic()))
    asked = time.monotonic()
    connection.request("GET", "/api/v1/status", headers=heads)
    answer = connection.getresponse()
    size = len(answer.read())
    assert answer.status == 200, answer.status
    waits.append(time.monotonic() - asked)
    due += 1 / rate
took = time.monotonic() - began
print(json.dumps({"rate": len(waits) / took, "median": sorted(waits)[len(waits) // 2], "size": size}))
"""


def processes(lab: Lab) -> dict[str, psutil.Process]:
    """Agent and web process of server1."""
    found = {}
    for each in psutil.process_iter(["cmdline", "environ"]):
        mine = (each.info["environ"] or {}).get("SAFEKIT_ROOT") == str(lab.root("server1"))
        for word in ("agent", "web"):
            if mine and word in (each.info["cmdline"] or []):
                found[word] = each
    return found


def seen(lab: Lab) -> tuple[dict[str, float], dict[str, object]]:
    times = {name: sum(each.cpu_times()[:2]) for name, each in processes(lab).items()}
    report = json.loads(failover.cli(lab, "server1", "status", "apache", "--json").stdout)
    return times, (report["modules"][0] if "modules" in report else report)["report"]


def quiet(lab: Lab) -> None:
    """Wait until no view has begun for 5 s: those after a start close what the servers owed each other."""
    last, since, end = None, 0.0, time.monotonic() + 60
    while last is None or time.monotonic() - since < 5:
        now = seen(lab)[1]["view"]
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() > end:
            raise SystemExit("the farm did not come to rest in 60 s")
        time.sleep(0.5)


def side(lab: Lab, name: str, seconds: float, reader: list[str]) -> dict[str, object]:
    times, before = seen(lab)
    began = time.monotonic()
    told: dict[str, object] = {}
    if reader:
        done = lab.run("client1", reader, stdout=subprocess.PIPE, text=True, check=True)
        told = json.loads(done.stdout)
    else:
        time.sleep(seconds)
    took = time.monotonic() - began
    after_times, after = seen(lab)
    used = {f"{each}%": 100 * (after_times[each] - times[each]) / took for each in times}
    expired = after["packets"].get("expired", 0) - before["packets"].get("expired", 0)
    views = after["view"] - before["view"]
    return {"side": name, **used, **told, "views": views, "without lease": expired}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with Lab.up(f"a{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        for host in failover.SERVERS:
            while failover.cli(lab, host, "status", check=False).returncode:
                time.sleep(0.2)
            failover.cli(lab, host, "module", "install", "apache", f"--set=VIP={failover.VIP}", "--set=PORT=80")
            failover.cli(lab, host, "start", "apache", "--wait")
        failover.settle(lab)
        token = failover.cli(lab, "server1", "token", "create", "bench", "--role", "monitor").stdout.strip()
        end = time.monotonic() + 30
        while "web" not in processes(lab):
            if time.monotonic() > end:
                raise SystemExit("the web process did not start in 30 s")
            time.sleep(0.2)
        quiet(lab)
        authority = str(lab.root("server1") / "var/lib/safekit/tls/ca.crt")
        reader = [sys.executable, "-c", READER, authority, token, str(options.rate), str(options.seconds)]
        rows = [side(lab, "idle", options.seconds, []), side(lab, "reading", options.seconds, reader)]
    for row in rows:
        print(", ".join(f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in row.items()))
    total = rows[1]["agent%"] + rows[1]["web%"] - rows[0]["agent%"] - rows[0]["web%"]
    print(f"the readings cost {total:.1f} % of a core; wanted: at most {WANTED:.0f} %")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "cost": total, "wanted": WANTED}, indent=1))


if __name__ == "__main__":
    main()
