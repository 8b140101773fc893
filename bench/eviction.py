"""Is a healthy server thrown out of its farm while others use up the processor?

    .venv/bin/python bench/eviction.py [--minutes 10] [--hogs 4] [--json FILE]

Three servers of a lab with one farm module at the default pulse, and as many processes that never rest. Counted are the
views that lost a server, and the leases that a filter found to be over (verdict ``expired``) while a client sends a
request every 50 ms; wanted are none.
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

from safekit_py.lab import Lab


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--hogs", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    hogs = []
    with Lab.up(f"e{os.getpid()}", servers=3, owner=os.getpid()) as lab:
        for host in failover.SERVERS:
            while failover.cli(lab, host, "status", check=False).returncode:
                time.sleep(0.2)
            failover.cli(lab, host, "module", "install", "apache", f"--set=VIP={failover.VIP}", "--set=PORT=80")
            failover.cli(lab, host, "start", "apache", "--wait")
        failover.settle(lab)
        time.sleep(5)  # the trail of the start ends with views of its own
        before = {host: reports(lab, host) for host in failover.SERVERS}
        try:
            hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.hogs)]
            argv = ["python3", "-c", failover.CLIENT.replace("0.005", "0.05"), failover.VIP, str(60 * options.minutes)]
            client = lab.popen("client1", argv, stdout=subprocess.PIPE, text=True)
            answers = json.loads(client.communicate()[0])
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        after = {host: reports(lab, host) for host in failover.SERVERS}
        lost = sum(text.count("lost ") for text in (failover.cli(lab, h, "log", "apache").stdout for h in before))
    row = {
        "minutes": options.minutes,
        "hogs": options.hogs,
        "views": max(after[host]["view"] - before[host]["view"] for host in before),
        "lost": lost,
        "expired": sum(after[h]["packets"].get("expired", 0) - before[h]["packets"].get("expired", 0) for h in before),
        "requests": len(answers),
        "failed": len([each for each in answers if not each[2]]),
    }
    print(f"{row['minutes']:g} minutes with {row['hogs']} processor hogs: {row['lost']} servers lost, "
          f"{row['views']} views, {row['expired']} packets after the end of a lease; "
          f"{row['failed']} of {row['requests']} requests failed")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps([row], indent=1))


def reports(lab: Lab, host: str) -> dict:
    return dict(json.loads(failover.cli(lab, host, "status", "apache", "--json").stdout)["modules"][0]["report"])


if __name__ == "__main__":
    main()
