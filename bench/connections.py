"""How many established TCP connections break when a farm changes, and what the clients of a server that dies see.

    .venv/bin/python bench/connections.py [--count 3400] [--kind vmac_directed] [--json FILE]

Four servers and a client with 100 addresses in a lab; the client holds COUNT connections to an echo server, the farm
changes, and each connection sends a byte: broken are those that are reset or say nothing for 5 s. Beside it two farms
of the kernel's own means on the same hosts: iptables with ``-m cluster`` and nftables with jhash of the client's
address. Changes: a server joins; one is drained (its application goes on); one joins while another is drained. Then
(ours only) a server's power is cut.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from safekit_py.lab import Lab, echo

VIP, PORT, MODULE = "10.77.0.200", 9100, "echo"
SERVERS = ("server1", "server2", "server3", "server4")
SOURCES = [f"10.77.1.{n}" for n in range(1, 101)]
MULTICAST = "01:00:5e:00:01:c8"
XML = f"""<safe><service mode="farm" maxloop="100"><farm><lan name="default"/></farm>
<vip><interface_list><interface check="off" arpreroute="on" name="eth0"><virtual_interface type="KIND">
<virtual_addr addr="{VIP}" check="off" netmask="16" where="alias"/></virtual_interface></interface></interface_list>
<loadbalancing_list><group name="all"><rule port="{PORT}" proto="tcp" filter="on_port"/></group></loadbalancing_list>
</vip><user nicestoptimeout="10" forcestoptimeout="10"/></service></safe>"""
# The application stays when a server is drained: what breaks is then the farm's doing.
START = f"""#!/bin/sh
[ -f /run/echo.pid ] && kill -0 "$(cat /run/echo.pid)" 2>/dev/null && exit 0
setsid {sys.executable} {echo.__file__} serve {PORT} >/dev/null 2>&1 </dev/null &
echo $! > /run/echo.pid
"""


def sh(lab: Lab, host: str, text: str, *, check: bool = True) -> str:
    done = lab.run(host, ["sh", "-c", text], capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{host}: {text}: {done.stdout}{done.stderr}")
    return str(done.stdout)


class Ours:
    """Agents and the farm's filter."""

    name = "safekit_py"

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lab = Lab.up(f"c{os.getpid()}", servers=4, owner=os.getpid())
        self.lab = self._lab.__enter__()
        self._folder = tempfile.TemporaryDirectory()
        module = Path(self._folder.name, MODULE)
        for part in ("conf", "bin"):
            (module / part).mkdir(parents=True)
        (module / "conf/userconfig.xml").write_text(XML.replace("KIND", kind))
        for script, text in (("start_both", START), ("stop_both", "#!/bin/sh\n")):
            (module / "bin" / script).write_text(text)
            (module / "bin" / script).chmod(0o755)
        network(self.lab)
        for host in SERVERS:
            while self._cli(host, "status", check=False).returncode:
                time.sleep(0.2)
            self._cli(host, "module", "install", str(module))

    def _cli(self, host: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.lab.run(host, ["safekit-py", *words], capture_output=True, text=True)
        if check and done.returncode:
            raise SystemExit(f"{host}: safekit-py {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def shares(self, host: str) -> dict[str, float]:
        done = self._cli(host, "status", MODULE, "--json", check=False)
        report = json.loads(done.stdout)["modules"][0]["report"] if done.returncode == 0 else {}
        return {m["name"]: m["shares"][0] for m in report.get("members", ()) if m["shares"][0]}

    def change(self, hosts: tuple[str, ...]) -> None:
        """Have these servers and no others take new connections."""
        present = [host for host in SERVERS if self.lab.alive(host)]
        began = [
            self.lab.popen(host, ["safekit-py", *self._words(host, hosts)], stdout=subprocess.DEVNULL)
            for host in present
            if (host in self.shares(host)) != (host in hosts)
        ]
        end = time.monotonic() + 60
        while any(set(self.shares(host)) != set(hosts) for host in hosts):
            if time.monotonic() > end:
                raise SystemExit(f"the farm did not become {hosts}: {[self.shares(host) for host in hosts]}")
            time.sleep(0.2)
        self._under_way = began

    @staticmethod
    def _words(host: str, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return ("start", MODULE) if host in hosts else ("stop", MODULE, "--drain", "600")

    def settle(self) -> None:
        """End the drains that are under way, and wait until no bucket counts as moved."""
        for host in SERVERS:
            if self.lab.alive(host) and not self.shares(host):
                self._cli(host, "stop", MODULE, "--wait", check=False)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            hosts = [host for host in SERVERS if self.lab.alive(host) and self.shares(host)]
            reports = [json.loads(self._cli(h, "status", MODULE, "--json").stdout)["modules"][0] for h in hosts]
            if not any(report["report"]["moved"] for report in reports):
                return
            time.sleep(0.5)

    def down(self) -> None:
        self._lab.__exit__(None, None, None)
        self._folder.cleanup()


class Peer:
    """Servers that take what their packet filter gives them; the client sends to a multicast MAC."""

    def __init__(self) -> None:
        self._lab = Lab.up(f"c{os.getpid()}", servers=4, agent=False, owner=os.getpid())
        self.lab = self._lab.__enter__()
        network(self.lab)
        for host in SERVERS:
            sh(self.lab, host, f"ip addr add {VIP}/32 dev eth0; ip maddr add {MULTICAST} dev eth0")
            sh(self.lab, host, START)
        sh(self.lab, "client1", f"ip neigh replace {VIP} lladdr {MULTICAST} dev eth0 nud permanent")

    def change(self, hosts: tuple[str, ...]) -> None:
        for host in SERVERS:
            place = hosts.index(host) + 1 if host in hosts else 0
            sh(self.lab, host, self.rules(place, len(hosts)))

    def rules(self, place: int, total: int) -> str:
        raise NotImplementedError

    def settle(self) -> None:
        pass

    def down(self) -> None:
        self._lab.__exit__(None, None, None)


class Cluster(Peer):
    """xt_cluster."""

    name = "iptables -m cluster"

    def rules(self, place: int, total: int) -> str:
        table = "iptables-legacy -t mangle"
        match = f"-m cluster --cluster-total-nodes {total} --cluster-local-node {place} --cluster-hash-seed 7"
        mine = f"{table} -A PREROUTING -i eth0 -d {VIP} {match} -j ACCEPT; " if place else ""
        return f"{table} -F PREROUTING; {mine}{table} -A PREROUTING -i eth0 -d {VIP} -j DROP"


class Jhash(Peer):
    """The recipe of ClusterLabs' IPaddr2."""

    name = "nftables jhash"

    def rules(self, place: int, total: int) -> str:
        match = f'iifname "eth0" ip daddr {VIP}'
        mine = (
            f"{match} jhash ip saddr mod {total} seed 7 offset 1 == {place} meta pkttype set host accept; "
            if place
            else ""
        )
        chain = f"type filter hook prerouting priority mangle; {mine}{match} drop;"
        return f"nft delete table ip farm 2>/dev/null; nft 'table ip farm {{ chain pre {{ {chain} }}; }}'"


def network(lab: Lab) -> None:
    """The client's 100 addresses, and the way back to them."""
    for host in SERVERS:
        sh(lab, host, "ip route add 10.77.1.0/24 dev eth0")
    sh(lab, "client1", "; ".join(f"ip addr add {source}/32 dev eth0" for source in SOURCES))


class Clients:
    """The connections."""

    def __init__(self, lab: Lab, count: int) -> None:
        argv = [sys.executable, str(echo.__file__), "hold", VIP, str(PORT), str(count), *SOURCES]
        self._process = lab.popen("client1", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = json.loads(self._process.stdout.readline())["opened"]

    def check(self) -> dict[str, object]:
        self._process.stdin.write("check\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


CHANGES = (
    ("join", SERVERS[:3], SERVERS),
    ("drain", SERVERS, SERVERS[:3]),
    ("join and drain at once", SERVERS[:3], (*SERVERS[:2], SERVERS[3])),
)


def measure(farm: Ours | Peer, count: int) -> list[dict[str, object]]:
    rows = []
    for name, before, after in CHANGES:
        farm.change(before)
        farm.settle()
        clients = Clients(farm.lab, count)
        farm.change(after)
        time.sleep(0.5)
        found = clients.check()
        broken = clients.opened - found["alive"]
        row = {"farm": farm.name, "change": name, "opened": clients.opened, "broken": broken, **found}
        print(f"{farm.name:22}{name:26}{clients.opened:8}{broken:8}{100 * broken / max(clients.opened, 1):8.1f} %")
        rows.append(row)
        clients.close()
        farm.settle()
    return rows


def crash(farm: Ours, count: int) -> dict[str, object]:
    farm.change(SERVERS)
    farm.settle()
    clients = Clients(farm.lab, count)
    before = clients.check()["servers"]
    farm.lab.kill("server4")
    end = time.monotonic() + 20
    while "server4" in farm.shares("server1") and time.monotonic() < end:
        time.sleep(0.05)
    found = clients.check()
    survivors = sum(before[h] - found["servers"].get(h, 0) for h in SERVERS[:3])
    told = 100 * found["reset"] / max(before["server4"], 1)
    print(f"{farm.name:22}power cut of one of four: of the survivors {survivors} broken; of the dead server's "
          f"{before['server4']} clients {told:.1f} % got an RST")  # fmt: skip
    clients.close()
    return {"farm": farm.name, "change": "crash", "survivors_broken": survivors, "dead": before["server4"], **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3400)
    parser.add_argument("--kind", choices=("vmac_directed", "vmac_invisible"), default="vmac_directed")
    parser.add_argument("--only", choices=("ours", "peers"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    print(f"{'farm':22}{'change':26}{'opened':>8}{'broken':>8}")
    kinds = [lambda: Ours(options.kind)] if options.only != "peers" else []
    kinds += [Cluster, Jhash] if options.only != "ours" else []
    for kind in kinds:
        farm = kind()
        try:
            rows += measure(farm, options.count)
            if isinstance(farm, Ours):
                rows.append(crash(farm, options.count))
        finally:
            farm.down()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
