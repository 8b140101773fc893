"""A steady stream of numbered packets at a farm, and who took which: what the proof of a single owner counts.

The client sends UDP datagrams and bare TCP SYNs, each with a number of its own, from ports that stay the same. On each
server a program notes the datagrams that reach its socket; a SYN finds no listener, so the server that takes it answers
with a reset that names the number. Besides, each filter's own counters are read on.
"""

import collections
import json
import subprocess
import time

from support import VIP, wait_for

MODULE, SERVERS = "stream", ("server1", "server2", "server3")
UDP, TCP = 9000, 9001
ARP_GROUP, UDP_GROUP, TCP_GROUP = range(3)
PORTS = 96  # of the client, for each protocol

USERCONFIG = f"""<safe><service mode="farm" maxloop="100">
<farm><lan name="default"/></farm>
<vip><interface_list><interface check="off" arpreroute="on"><virtual_interface type="KIND">
<virtual_addr addr="{VIP}" where="alias"/></virtual_interface></interface></interface_list>
<loadbalancing_list>
<group name="arp"><rule proto="arp" filter="on_addr"/></group>
<group name="udp"><rule port="{UDP}" proto="udp" filter="on_port"/></group>
<group name="tcp"><rule port="{TCP}" proto="tcp" filter="on_port"/></group>
</loadbalancing_list></vip>
<user nicestoptimeout="10" forcestoptimeout="10"/></service></safe>"""

START = f"""#!/bin/sh
setsid python3 "$SAFEUSERBIN/sink.py" {UDP} "$SAFEUSERVAR/arrived" >/dev/null 2>&1 </dev/null &
echo $! > "$SAFEUSERVAR/pid"
"""
STOP = """#!/bin/sh
[ -f "$SAFEUSERVAR/pid" ] && kill -9 "$(cat "$SAFEUSERVAR/pid")" 2>/dev/null
rm -f "$SAFEUSERVAR/pid"
"""
SINK = """
import socket, sys, time
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sink.bind(("0.0.0.0", int(sys.argv[1])))
with open(sys.argv[2], "a", buffering=1) as out:
    while True:
        data, (_, port) = sink.recvfrom(100)
        out.write(f"{time.monotonic()} {data.decode()} {port}\\n")
"""
# Sends until it is told to end; then prints how many of each kind, and the numbers that resets have named.
SOURCE = """
import json, os, select, socket, struct, sys, time
vip, udp, tcp, count, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
raw.connect((vip, 0))
raw.setblocking(False)
pseudo = raw.getsockname()[0]
pseudo = socket.inet_aton(pseudo) + socket.inet_aton(vip) + struct.pack(">HH", 6, 20)
def total(data):
    found = sum(struct.unpack(f">{len(data) // 2}H", data))
    while found >> 16:
        found = (found & 0xffff) + (found >> 16)
    return ~found & 0xffff
def syn(port, number, check=0):
    return struct.pack(">HHIIBBHHH", port, tcp, number, 0, 0x50, 2, 1024, check, 0)
senders = []
for port in range(40000, 40000 + count):
    each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    each.bind(("", port))
    each.setblocking(False)
    senders.append(each)
os.set_blocking(0, False)
number, udps, syns, answers, lost = 0, 0, 0, [], 0
print("ready", flush=True)
ending = None
while ending is None or time.monotonic() < ending:
    if ending is None:
        number += 1
        try:
            senders[number % count].sendto(str(number).encode(), (vip, udp))
            udps += 1
        except OSError:
            lost += 1
        port = 30000 + number % count
        try:
            raw.send(syn(port, number, total(pseudo + syn(port, number))))
            syns += 1
        except OSError:
            lost += 1
        if number % 50 == 0 and os.read(0, 1) if select.select([0], [], [], 0)[0] else False:
            ending = time.monotonic() + 0.5
    time.sleep(pause)
    try:
        while True:
            data = raw.recv(200)
            at = (data[0] & 15) * 4
            if data[at + 13] & 4:
                answers.append(struct.unpack_from(">I", data, at + 8)[0] - 1)
    except BlockingIOError:
        pass
print(json.dumps({"udp": udps, "tcp": syns, "answers": answers, "unsent": lost}))
"""
# Every filter that is pinned while this runs, those that are gone since included: an agent that dies unpins its own.
METER = """
import json, sys, time
from pathlib import Path
from safekit_py.plugins.farm.loader import Filter
pin, out, seen = Path(sys.argv[1]), Path(sys.argv[2]), {}
while True:
    try:
        number = (pin / "program").stat().st_ino
        if number not in seen:
            seen[number] = Filter.reopen(pin)
    except OSError:
        pass
    total = {}
    for each in seen.values():
        for (group, verdict), count in each.counters().items():
            total[f"{group} {verdict}"] = total.get(f"{group} {verdict}", 0) + count
    new = out.with_suffix(".new")
    new.write_text(json.dumps(total))
    new.rename(out)
    time.sleep(0.05)
"""


def module(folder, kind="vmac_directed"):
    """The module's folder."""
    for name in ("conf", "bin"):
        (folder / name).mkdir(parents=True)
    text = USERCONFIG.replace("KIND", kind)
    if kind == "vmac_invisible":  # all servers have every frame: ARP needs no group of its own
        text = text.replace('<rule proto="arp" filter="on_addr"/>', '<rule port="9" proto="udp" filter="on_addr"/>')
    (folder / "conf/userconfig.xml").write_text(text)
    for name, text in (("start_both", START), ("stop_both", STOP), ("sink.py", SINK)):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder


class Stream:
    """The stream runs between ``with`` and its end; afterwards it is known who took what.

    :param pause: seconds between two numbers.
    """

    def __init__(self, farm, *, pause=0.002):
        self.farm, self.lab, self._pause = farm, farm.lab, pause
        self._meters, self._before = [], {}
        self.sent, self.answers, self.arrived, self.accepted = {}, [], [], {}
        self.others = {UDP_GROUP: 0, TCP_GROUP: 0}  # packets of either group that the test itself has sent meanwhile

    def _sink(self, host):
        return self.lab.root(host) / "var/lib/safekit/modules" / MODULE / "arrived"

    def _meter(self, host):
        return self.lab.root(host) / "meter.json"

    def __enter__(self):
        for host in SERVERS:
            path = self._meter(host)
            path.unlink(missing_ok=True)
            argv = ["python3", "-c", METER, f"/sys/fs/bpf/safekit/{MODULE}", str(path)]
            self._meters.append(self.lab.popen(host, argv))
        for host in SERVERS:
            wait_for(self._meter(host).exists)
            self._before[host] = self._counters(host), len(self._lines(host))
        argv = ["python3", "-c", SOURCE, VIP, str(UDP), str(TCP), str(PORTS), str(self._pause)]
        pipe = subprocess.PIPE
        self._source = self.lab.popen("client1", argv, stdin=pipe, stdout=pipe, text=True)
        assert self._source.stdout.readline() == "ready\n"
        return self

    def __exit__(self, kind, *_):
        try:
            text, _ = self._source.communicate("x", timeout=20)
            time.sleep(0.2)
            if kind is None:
                self._collect(json.loads(text))
        finally:
            for each in (self._source, *self._meters):
                each.kill()
                each.wait()

    def _counters(self, host):
        return collections.Counter(json.loads(self._meter(host).read_text()))

    def _lines(self, host):
        path = self._sink(host)
        return path.read_text().splitlines() if path.exists() else []

    def _collect(self, said):
        self.sent, self.answers = {UDP_GROUP: said["udp"], TCP_GROUP: said["tcp"]}, said["answers"]
        for host in SERVERS:
            before, skip = self._before[host]
            found = self._counters(host)
            found.subtract(before)
            for group in (UDP_GROUP, TCP_GROUP):
                self.accepted[host, group] = found[f"{group} accepted"]
            for line in self._lines(host)[skip:]:
                at, number, port = line.split()
                self.arrived.append((float(at), host, int(number), int(port)))
        self.arrived.sort()

    def check_single_owner(self, least=0.2):
        """Each packet was taken at most once, in sockets and by the filters' own count.

        :param least: the part of all that must have arrived, so that silence proves nothing.
        """
        numbers = collections.Counter(number for _, _, number, _ in self.arrived)
        twice = [n for n, times in numbers.items() if times > 1]
        assert twice == [], [each for each in self.arrived if each[2] in twice]
        answered = collections.Counter(self.answers)
        twice = [n for n, times in answered.items() if times > 1]
        assert twice == [], (twice, len(self.answers), len(answered), self.sent, self.others, self.accepted)
        for group in (UDP_GROUP, TCP_GROUP):
            taken = sum(self.accepted[host, group] for host in SERVERS)
            sent = self.sent[group] + self.others[group]
            assert least * sent <= taken <= sent, (self.sent, self.others, self.accepted)
        assert len(numbers) >= least * self.sent[UDP_GROUP]
        assert len(answered) >= least * self.sent[TCP_GROUP]

    def changes(self):
        """For each port of the client, its servers in the order in which they took its datagrams, without repeats."""
        found = collections.defaultdict(list)
        for _, host, _, port in self.arrived:
            if found[port][-1:] != [host]:
                found[port].append(host)
        return found

    def gap(self, host, since, until):
        """Seconds between the last datagram that a silent server took and the first that another took in its place.

        :param since: monotonic seconds: from then on it was silent.
        :param until: when it was no longer.
        """
        mine = {port for at, who, _, port in self.arrived if who == host and at < since}
        last = max((at for at, who, _, _ in self.arrived if who == host and at < until), default=since)
        first = min(at for at, who, _, port in self.arrived if who != host and port in mine and at > since)
        return first - last


def ready(farm):
    """Every server up, every cut healed, all in one view."""
    farm.lab.heal()
    for host in SERVERS:
        if not farm.lab.alive(host):
            farm.lab.boot(host)
    for host in SERVERS:
        wait_for(lambda host=host: farm.state(host, MODULE) is not None)
        if farm.state(host, MODULE) != "UP Ready":
            farm.cli(host, "start", MODULE, "--wait", check=False)
    for host in SERVERS:
        wait_for(lambda host=host: farm.state(host, MODULE) == "UP Ready")
    together(farm)


def together(farm, limit=20):
    """Wait until all three are in one view."""

    def equal():
        reports = [(farm.status(host, MODULE) or {}).get("report", {}) for host in SERVERS]
        views = {each.get("view", -1) for each in reports}
        states = {m["state"] for each in reports for m in each.get("members", ())}
        return len(views) == 1 and states == {"member"}

    wait_for(equal, limit)


__all__ = ["MODULE", "SERVERS", "TCP_GROUP", "UDP_GROUP", "Stream", "module", "ready", "together"]
