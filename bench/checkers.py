"""What 50 checkers of the network cost an agent at default intervals, beside the same agent without any.

Repeat it with:  python bench/checkers.py --idle 60     (as root; a lab server with one light module)
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from safekit_py.lab import Lab

HOST, PEER, PORT = "server1", "10.77.0.101", 8099
TCP = PING = 17
INTF = IP = 8


def cli(lab, *words):
    done = lab.run(HOST, ["safekit-py", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"safekit-py {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def virtual(number):
    return f"10.77.0.{150 + number}"


def checks():
    """The 50, of all kinds."""
    yield from (f'<tcp ident="t{n}" when="both"><to addr="{PEER}" port="{PORT}"/></tcp>' for n in range(TCP))
    yield from (f'<ping ident="p{n}"><to addr="{PEER}"/></ping>' for n in range(PING))
    yield from (f'<intf ident="i{n}"><to local_addr="{virtual(n)}"/></intf>' for n in range(INTF))
    yield from (f'<ip ident="a{n}"><to addr="{virtual(n)}"/></ip>' for n in range(IP))


def module(folder, inside):
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    text = f'<safe><service mode="light"><check>{"".join(inside)}</check></service></safe>'
    (folder / "conf/userconfig.xml").write_text(text)
    return folder


def asked(lab):
    """Connections opened and echo requests sent on the server so far."""
    text = lab.run(HOST, ["cat", "/proc/net/snmp"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    counts = {(head[0], name): int(value) for head, row in zip(rows[::2], rows[1::2], strict=True)
              for name, value in zip(head[1:], row[1:], strict=True)}  # fmt: skip
    return counts["Tcp:", "ActiveOpens"], counts["Icmp:", "OutEchos"]


def used(lab):
    """Seconds of processor time of the agent, exact: the scheduler counts nanoseconds for each thread."""
    script = 'cat /proc/$(pgrep -o -f "safekit_py agent")/task/*/schedstat'
    done = lab.run(HOST, ["sh", "-c", script], capture_output=True, text=True, check=True)
    return sum(int(line.split()[0]) for line in done.stdout.splitlines()) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which the CPU is measured")
    options = parser.parse_args()
    with Lab.up(f"c{os.getpid()}", servers=1, owner=os.getpid()) as lab, tempfile.TemporaryDirectory() as folder:
        while lab.run(HOST, ["safekit-py", "status"], capture_output=True).returncode:
            time.sleep(0.2)
        listener = lab.popen(
            "client1", ["python3", "-m", "http.server", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for number in range(IP):
            lab.run(HOST, ["ip", "addr", "add", f"{virtual(number)}/24", "dev", "eth0"], check=True)
        shares = []
        for name, inside in (("idle", []), ("watched", list(checks()))):
            cli(lab, "module", "install", str(module(Path(folder) / name, inside)))
            cli(lab, "start", name, "--wait")
            time.sleep(5)
            found = json.loads(cli(lab, "status", name, "--json"))["modules"][0]["resources"]
            assert [r["value"] for r in found] == ["up"] * len(inside), found
            before, looks = used(lab), asked(lab)
            time.sleep(options.idle)
            shares.append(100 * (used(lab) - before) / options.idle)
            made = [now - then for now, then in zip(asked(lab), looks, strict=True)]
            print(
                f"{len(inside)} checkers at default intervals: {shares[-1]:.2f} % of a core; "
                f"{made[0]} connections, {made[1]} echo requests",
                flush=True,
            )
        print(f"the checkers alone: {shares[1] - shares[0]:.2f} % of a core")
        listener.kill()
        listener.wait()


if __name__ == "__main__":
    main()
