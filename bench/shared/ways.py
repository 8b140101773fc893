"""Ways to share a client's packets over three servers, each with servers, a switch and a client's port of its own.

Network namespaces, veth and a bridge; the farm's ways have the real filter on each server. ``bench/packets.py`` says
what the ways are.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from hosts import Host, join
from safekit_py.plugins.farm import attach, compiler
from safekit_py.plugins.farm.hashing import bucket_of
from safekit_py.plugins.farm.layout import BUCKETS, NOBODY, Configuration, KernelRule
from safekit_py.plugins.farm.loader import Filter

from .injector import FIRST_CLIENT, Injector

VIP, SERVERS, CLIENTS, SEED = "10.9.0.100", 3, 4096, 7
VMAC, MULTICAST = bytes.fromhex("5afe0a090064"), bytes.fromhex("030a09000064")
OWNERS = b"".join(bytes((n % SERVERS, NOBODY, NOBODY, NOBODY)) for n in range(BUCKETS))
FARM = ("flooded", "directed on_addr", "directed on_port")
WAYS = (*FARM, "nft", "xt_cluster", "one server")


class Way:
    """One way to share packets: its servers, its switch, and where its packets go to."""

    def __init__(self, name: str, stack: contextlib.ExitStack, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.switch = Host()
        stack.callback(self.switch.close)
        self.servers = [Host() for _ in range(1 if name == "one server" else SERVERS)]
        client = Host()
        hosts = {f"10.9.0.{n + 1}": host for n, host in enumerate(self.servers)} | {"10.9.0.9": client}
        for host in hosts.values():
            stack.callback(host.close)
        join(self.switch, hosts)
        with self.switch.inside() as netlink:
            # It stands for a switch, which does not ask a firewall for each frame.
            for which in ("arp", "ip", "ip6"):
                Path(f"/proc/sys/net/bridge/bridge-nf-call-{which}tables").write_text("0", encoding="ascii")
            self.port = netlink.link_lookup(ifname=f"p{len(self.servers)}")[0]
        self.own = [self._prepare(host, stack) for host in self.servers]
        self.filters: list[Filter] = []
        self.macs, self.knows = self.own, b""
        if name in FARM:
            self._farm(stack)
        elif name in ("nft", "xt_cluster"):
            self.macs = [MULTICAST]
            for number, host in enumerate(self.servers):
                self._run(host, self._nft(number) if name == "nft" else self._xt_cluster(number))
        if name == "flooded":
            self.macs = [VMAC]
        elif name in FARM:
            self.knows = bytes(bucket_of(FIRST_CLIENT + n, SEED) % SERVERS for n in range(CLIENTS))

    def _prepare(self, host: Host, stack: contextlib.ExitStack) -> bytes:
        with host.inside() as netlink:
            index = netlink.link_lookup(ifname="e0")[0]
            netlink.addr("add", index=index, address=VIP, prefixlen=32)
            netlink.route("add", dst="10.0.0.0/8", oif=index)
            sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sink.bind((VIP, 53))
            return bytes.fromhex(dict(netlink.get_links(index)[0]["attrs"])["IFLA_ADDRESS"].replace(":", ""))

    def _farm(self, stack: contextlib.ExitStack) -> None:
        macs = {(0, number): mac for number, mac in enumerate(self.own)}
        for number, host in enumerate(self.servers):
            one = Filter.load(compiler.object_for(self.folder), self.folder / f"bpf/{self.name[-6:]}{number}")
            stack.callback(one.close)
            vmacs = {0: VMAC} if self.name == "flooded" else {}
            rules = [KernelRule("udp", "on_addr" if self.name.endswith("on_addr") else "on_port", 0)]
            one.configure(Configuration(number, SEED, [(IPv4Address(VIP), 0)], rules, 0, vmacs))
            one.install([OWNERS], macs)
            one.renew(time.monotonic_ns() + 10**13)
            one.set_open(True)
            with host.inside() as netlink:
                attach.attach(netlink, netlink.link_lookup(ifname="e0")[0], "bench", one.program, self.folder)
            self.filters.append(one)

    def _nft(self, number: int) -> str:
        match = f"iif e0 ip daddr {VIP} jhash ip saddr mod {SERVERS} seed 0xdeadbeef offset 1 == {number + 1}"
        lines = (
            "add table ip farm",
            "add chain ip farm share { type filter hook prerouting priority mangle; }",
            f"add rule ip farm share {match} meta pkttype set host accept",
            f"add rule ip farm share iif e0 ip daddr {VIP} drop",
        )
        return "nft -f - <<E\n" + "\n".join(lines) + "\nE\n"

    def _xt_cluster(self, number: int) -> str:
        cluster = f"-m cluster --cluster-total-nodes {SERVERS} --cluster-local-node {number + 1}"
        return (
            f"iptables-legacy -t mangle -A PREROUTING -d {VIP} {cluster} --cluster-hash-seed 0xdeadbeef -j ACCEPT\n"
            f"iptables-legacy -t mangle -A PREROUTING -d {VIP} -j DROP\n"
        )

    def _run(self, host: Host, script: str) -> None:
        with host.inside():
            done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.name}: {done.stderr.strip()}")

    def accepted(self) -> list[int]:
        """Packets that each server's stack has taken."""
        found = []
        for host in self.servers:
            with host.inside():
                text = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii")
            head, values = (line.split() for line in text.splitlines() if line.startswith("Ip:"))
            found.append(int(dict(zip(head, values, strict=True))["InDelivers"]))
        return found

    def cost(self, injector: Injector, packets: int, clients: int = CLIENTS) -> float:
        """Microseconds for a packet; ``clients`` 0: each is another's."""
        before = self.accepted()
        injector.aim(self.macs, clients, self.knows)
        with self.switch.inside():
            began = time.perf_counter()
            injector.send(self.port, packets)
            took = time.perf_counter() - began
        shares = [now - then for now, then in zip(self.accepted(), before, strict=True)]
        if sum(shares) != packets:
            raise SystemExit(f"{self.name}: {packets} packets sent, {shares} accepted")
        self.shares = [round(100 * share / packets, 1) for share in shares]
        return took / packets * 1e6


@contextlib.contextmanager
def ways(names: list[str]) -> Iterator[list[Way]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pins = folder / "bpf"
        pins.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", str(pins)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(pins)], check=True)
        yield [Way(name, stack, folder) for name in names]
