"""How long clients are disturbed when a server dies.

    .venv/bin/python bench/failover.py [--runs 20] [--fault agent|link|power]

A lab of three servers, default settings. A client sends a request every 5 ms on a new connection with a limit of
250 ms.
Each run kills server3's agent (SIGKILL), cuts its link, or cuts its power, and measures from the fault to the start
of the last request that failed or took more than 100 ms. Printed: median, p99 (of so few runs: the largest) and
maximum, and the largest time to the end of such a request.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from safekit_py.lab import Lab

VIP = "10.77.0.100"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--fault", choices=("agent", "link", "power"), default="agent")
    options = parser.parse_args()
    with Lab.up(f"b{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        for host in SERVERS:
            while cli(lab, host, "status", check=False).returncode:
                time.sleep(0.2)
            cli(lab, host, "module", "install", "apache", f"--set=VIP={VIP}", "--set=PORT=80")
            cli(lab, host, "start", "apache", "--wait")
        settle(lab)
        starts, ends = [], []
        for number in range(options.runs):
            argv = ["python3", "-c", CLIENT, VIP, "3"]
            client = lab.popen("client1", argv, stdout=subprocess.PIPE, text=True)
            time.sleep(1.0)
            moment = fault(lab, options.fault)
            text, _ = client.communicate()
            found = json.loads(text)
            early = [f for f in found if f[0] < moment - 0.3 and not f[2]]
            bad = [f for f in found if f[0] >= moment - 0.3 and (not f[2] or f[1] - f[0] > 0.1)]
            starts.append(max((f[0] - moment for f in bad), default=0.0))
            ends.append(max((f[1] - moment for f in bad), default=0.0))
            print(f"run {number + 1}: {len(found)} requests, {len(bad)} disturbed, last began at "
                  f"{starts[-1] * 1000:.0f} ms, before the fault {len(early)} failed", flush=True)  # fmt: skip
            repair(lab, options.fault)
    starts.sort()
    print(f"{options.fault}: from the fault to the start of the last disturbed request, {len(starts)} runs: "
          f"median {statistics.median(starts) * 1000:.0f} ms, p99 {starts[-1] * 1000:.0f} ms; "
          f"to its end: max {max(ends) * 1000:.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
