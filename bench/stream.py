"""What the filter takes from one TCP stream through the virtual address.

    .venv/bin/python bench/stream.py [--rounds 60] [--seconds 0.3] [--json FILE]

As root. A client and a server in network namespaces, joined by veth and a bridge; ``iperf3`` sends one stream to the
virtual address as fast as it goes, and the filter, whose server owns every bucket, is attached to the server's device
and detached again while it runs. A round has three slices of time in random order: with the filter, without, and
without once more, as a control. Compared are the bytes that the server received in each; printed are the medians of the
rounds' ratios, with the interval that holds the median with 95 % probability (by order statistics).

``iperf3`` is a package of Debian, which only this program needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/support"))

from hosts import Host, join
from safekit_py.plugins.farm import attach, compiler
from safekit_py.plugins.farm.layout import BUCKETS, NOBODY, Configuration, KernelRule
from safekit_py.plugins.farm.loader import Filter

VIP, WANTED, SETTLE = "10.9.0.100", 0.97, 0.05
SLICES = ("filter", "none", "control")


@contextlib.contextmanager
def stream(server: Host, client: Host, seconds: float) -> Iterator[None]:
    """One TCP stream from the client to the server's virtual address."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with server.inside():
        serving = subprocess.Popen(["iperf3", "-s", "-B", VIP, "-1"], **quiet)
    try:
        time.sleep(0.5)
        with client.inside():
            sending = subprocess.Popen(["iperf3", "-c", VIP, "-t", str(int(seconds) + 60)], **quiet)
        try:
            time.sleep(2)  # slow start is over
            yield
            if sending.poll() is not None:
                raise SystemExit("iperf3 ended too soon")
        finally:
            sending.kill()
            sending.wait()
    finally:
        serving.kill()
        serving.wait()


def measure(server: Host, program: int, folder: Path, options: argparse.Namespace) -> list[dict[str, float]]:
    rows = []
    order = list(SLICES)
    with server.inside() as netlink:
        index = netlink.link_lookup(ifname="e0")[0]
        received = Path("/sys/class/net/e0/statistics/rx_bytes")
        mount = subprocess.run(["mount", "-t", "sysfs", "sysfs", str(folder / "sys")], check=False)
        if mount.returncode:
            raise SystemExit("sysfs cannot be mounted")
        try:
            received = folder / "sys/class/net/e0/statistics/rx_bytes"
            for _ in range(options.rounds):
                random.shuffle(order)
                row = {}
                for which in order:
                    if which == "filter":
                        attach.attach(netlink, index, "bench", program, folder)
                    time.sleep(SETTLE)
                    began, before = time.perf_counter(), int(received.read_text())
                    time.sleep(options.seconds)
                    row[which] = (int(received.read_text()) - before) / (time.perf_counter() - began)
                    if which == "filter":
                        attach.detach(netlink, "bench", folder)
                rows.append(row)
        finally:
            subprocess.run(["umount", str(folder / "sys")], check=True)
    return rows


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and the interval of the order statistics that holds it in 95 of 100 cases."""
    ordered = sorted(values)
    away = int(0.98 * len(ordered) ** 0.5)
    middle = len(ordered) // 2
    return statistics.median(ordered), ordered[max(0, middle - away)], ordered[min(len(ordered) - 1, middle + away)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if shutil.which("iperf3") is None:
        raise SystemExit("iperf3 is not installed -> apt-get install iperf3")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for part in ("bpf", "sys"):
            (folder / part).mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", str(folder / "bpf")], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(folder / "bpf")], check=True)
        switch, server, client = Host(), Host(), Host()
        for host in (switch, server, client):
            stack.callback(host.close)
        join(switch, {"10.9.0.1": server, "10.9.0.9": client})
        with server.inside() as netlink:
            index = netlink.link_lookup(ifname="e0")[0]
            netlink.addr("add", index=index, address=VIP, prefixlen=32)
            mac = bytes.fromhex(dict(netlink.get_links(index)[0]["attrs"])["IFLA_ADDRESS"].replace(":", ""))
        one = Filter.load(compiler.object_for(folder), folder / "bpf/stream")
        stack.callback(one.close)
        one.configure(Configuration(0, 7, [(IPv4Address(VIP), 0)], [KernelRule("tcp", "on_port", 0)]))
        one.install([bytes((0, NOBODY, NOBODY, NOBODY)) * BUCKETS], {(0, 0): mac})
        one.renew(time.monotonic_ns() + 10**13)
        one.set_open(True)
        with stream(server, client, options.rounds * len(SLICES) * (options.seconds + SETTLE)):
            rows = measure(server, one.program, folder, options)
        accepted = sum(count for (_, verdict), count in one.counters().items() if verdict == "accepted")
        if not accepted:
            raise SystemExit("the filter saw no packet of the stream")
    made = []
    for which in ("filter", "control"):
        middle, low, high = interval([row[which] / row["none"] for row in rows])
        rate = statistics.median(row[which] for row in rows) * 8e-9
        made.append({"slice": which, "gbit_s": rate, "ratio": middle, "low": low, "high": high, "wanted": WANTED})
        print(f"{which:10}{rate:8.1f} Gbit/s{middle:8.3f} of none ({low:.3f} to {high:.3f}), {len(rows)} rounds")
    if options.json:
        options.json.write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
