"""How long clients are disturbed when a server dies, beside keepalived on the same servers.

    .venv/bin/python bench/failover.py [--runs 30] [--fault agent|link|power] [--profile default|fast] [--json FILE]

A lab of three servers. A client sends a request every 5 ms on a new connection with a limit of 250 ms. Each run kills
server3's agent (SIGKILL), cuts its link, or cuts its power, and measures from the fault to the start of the last
request that failed or took more than 100 ms. What is disturbed half a second after a SIGKILL, when the agent has been
started again and joins, is counted apart. Profiles: default (a pulse of 35 ms, lost after 5; keepalived with adverts
every second) and fast (a pulse of 10 ms, lost after 3; keepalived with adverts every 10 ms). Of keepalived server3 has
the address, and it is killed with its web server (which would go on answering, for the address stays), or its link is
cut. Printed: median, p99 (of so few runs: the largest), and the largest time to the end of such a request.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shared import keepalived

from safekit_py.lab import Lab

VIP, REJOIN = "10.77.0.100", 0.5  # seconds
SERVERS = ("server1", "server2", "server3")
CLIENT = """
import http.client, json, sys, threading, time
vip, seconds = sys.argv[1], float(sys.argv[2])
found, lock = [], threading.Lock()
def one():
    began = time.monotonic()
    good = True
    connection = http.client.HTTPConnection(vip, 80, timeout=0.25)
    try:
        connection.request("GET", "/server-name.txt")
        connection.getresponse().read()
    except OSError:
        good = False
    finally:
        connection.close()
    with lock:
        found.append((began, time.monotonic(), good))
end, following, threads = time.monotonic() + seconds, time.monotonic(), []
while time.monotonic() < end:
    thread = threading.Thread(target=one)
    thread.start()
    threads.append(thread)
    following += 0.005
    time.sleep(max(0, following - time.monotonic()))
for thread in threads:
    thread.join()
print(json.dumps(found))
"""


def cli(lab, host, *words, check=True):
    done = lab.run(host, ["safekit-py", *words], capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{host}: safekit-py {' '.join(words)}: {done.stdout}{done.stderr}")
    return done


def ready(lab, host):
    done = cli(lab, host, "status", "apache", "--json", check=False)
    if done.returncode:
        return False
    module = json.loads(done.stdout)["modules"][0]
    members = module["report"].get("members", [])
    return module["readiness"] == "Ready" and len(members) == 3 and all(m["shares"][0] > 30 for m in members)


def settle(lab):
    end = time.monotonic() + 60
    while not all(ready(lab, host) for host in SERVERS):
        if time.monotonic() > end:
            raise SystemExit("the farm did not come back in 60 s")
        time.sleep(0.3)


def fault(lab, kind):
    if kind == "agent":
        found = lab.run("server3", ["pgrep", "-f", "safekit_py agent"], capture_output=True, text=True).stdout.split()
        moment = time.monotonic()
        lab.run("server3", ["kill", "-KILL", *found])
    elif kind == "link":
        moment = time.monotonic()
        lab.cut("server3")
    else:
        moment = time.monotonic()
        lab.kill("server3")
    return moment


def repair(lab, kind):
    if kind == "link":
        lab.heal()
    elif kind == "power":
        lab.boot("server3")
    settle(lab)


PROFILES = {
    "default": {"advert": 1.0, "seconds": 8.0, "attributes": ""},
    "fast": {"advert": 0.01, "seconds": 3.0, "attributes": 'pulse="10" slost_count="3" mlost_count="3"'},
}


def one_run(
    lab: Lab, vip: str, seconds: float, break_it: Callable[[], float], limit: float = math.inf
) -> dict[str, float]:
    """The fault a second after the client began.

    :param limit: seconds after the fault from which on a disturbed request is of another change.
    """
    client = lab.popen("client1", ["python3", "-c", CLIENT, vip, str(seconds)], stdout=subprocess.PIPE, text=True)
    time.sleep(1.0)
    moment = break_it()
    text, _ = client.communicate()
    found = json.loads(text)
    disturbed = [f for f in found if f[0] >= moment - 0.3 and (not f[2] or f[1] - f[0] > 0.1)]
    # An agent that was killed is started again, and joins after half a second: that is another change.
    bad = [f for f in disturbed if f[0] < moment + limit]
    return {
        "requests": len(found),
        "later": len(disturbed) - len(bad),
        "before": len([f for f in found if f[0] < moment - 0.3 and not f[2]]),
        "disturbed": len(bad),
        "began": max((f[0] - moment for f in bad), default=0.0) * 1000,
        "ended": max((f[1] - moment for f in bad), default=0.0) * 1000,
    }


def ours(options: argparse.Namespace, profile: dict) -> list[dict[str, float]]:
    rows = []
    with Lab.up(f"b{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        for host in SERVERS:
            while cli(lab, host, "status", check=False).returncode:
                time.sleep(0.2)
            cli(lab, host, "module", "install", "apache", f"--set=VIP={VIP}", "--set=PORT=80")
            config = lab.root(host) / "opt/safekit/modules/apache/conf/userconfig.xml"
            config.write_text(config.read_text().replace("<farm>", f"<farm {profile['attributes']}>"))
            cli(lab, host, "start", "apache", "--wait")
        settle(lab)
        for number in range(options.runs):
            limit = REJOIN if options.fault == "agent" else math.inf
            row = one_run(lab, VIP, 3.0, lambda: fault(lab, options.fault), limit)
            print(f"run {number + 1}: {row['requests']} requests, {row['disturbed']} disturbed, last began at "
                  f"{row['began']:.0f} ms, before the fault {row['before']} failed, at the rejoin {row['later']}",
                  flush=True)  # fmt: skip
            rows.append(row)
            repair(lab, options.fault)
    return rows


def peer(options: argparse.Namespace, profile: dict) -> list[dict[str, float]]:
    rows = []
    with (
        Lab.up(f"k{os.getpid()}", servers=3, agent=False, owner=os.getpid()) as lab,
        tempfile.TemporaryDirectory() as folder,
    ):
        farm = keepalived.Keepalived(lab, Path(folder), profile["advert"])
        try:
            farm.settle()

            def break_it() -> float:
                if options.fault == "link":
                    moment = time.monotonic()
                    lab.cut("server3")
                    return moment
                return farm.kill("server3")

            for number in range(options.runs):
                row = one_run(lab, keepalived.VIP, profile["seconds"], break_it)
                print(f"keepalived, run {number + 1}: {row['disturbed']} of {row['requests']} disturbed, last began at "
                      f"{row['began']:.0f} ms", flush=True)  # fmt: skip
                rows.append(row)
                lab.heal()
                farm.settle()
        finally:
            farm.stop()
    return rows


def summary(name: str, fault: str, rows: list[dict[str, float]]) -> dict[str, object]:
    starts = sorted(row["began"] for row in rows)
    made = {
        "farm": name,
        "fault": fault,
        "runs": len(rows),
        "median_ms": statistics.median(starts),
        "p99_ms": starts[-1],
        "ended_ms": max(row["ended"] for row in rows),
        "starts_ms": starts,
        "later": sum(row["later"] for row in rows),
    }
    said = f"from the fault to the start of the last disturbed request: median {made['median_ms']:.0f} ms"
    print(f"{name}, {fault}, {len(rows)} runs: {said}, p99 {made['p99_ms']:.0f} ms; "
          f"to its end: max {made['ended_ms']:.0f} ms; disturbed when it joined again: {made['later']}")  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--peer-runs", type=int, help="of keepalived; the same number if not given, 0: none")
    parser.add_argument("--fault", choices=("agent", "link", "power"), default="agent")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="default")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    profile = PROFILES[options.profile]
    made = [summary(f"safekit_py, {options.profile}", options.fault, ours(options, profile))]
    if options.peer_runs is not None:
        options.runs = options.peer_runs
    if options.runs and options.fault != "power" and keepalived.available():
        name = f"keepalived, adverts of {profile['advert']:g} s"
        made.append(summary(name, options.fault, peer(options, profile)))
    if options.json:
        options.json.write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
