"""The demonstration of the mirror: PostgreSQL under steady commits loses its primary's power, and loses no commit.

What flows: a lab with two servers -> the module postgresql installed and started by the commands that an administrator
would type -> commits from the client host (``ledger``) -> what was acknowledged against what is there, after a power
cut of the primary, after the resynchronisation, and after an exchange of roles. The lab goes down at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from safekit_py.errors import Problem, SystemProblem
from safekit_py.lab import client
from safekit_py.lab.demo import PATIENCE, VIP, Demo, Unexpected
from safekit_py.lab.lab import SYSTEM_PATH, Lab

MODULE = "postgresql"
OUTAGE = 8.0  # seconds from the last commit before a power cut to the first one after it, at most
EXCHANGE = 3.0  # seconds without a commit during a planned exchange of roles, at most
TRUST = "host all all 10.77.0.0/24 trust"  # the lab's own network, which nobody else is on
RELOAD = "select pg_reload_conf()"


class MirrorDemo(Demo):
    """One run over a lab that is up."""

    def __init__(self, lab: Lab, console: Console) -> None:
        super().__init__(lab, console)
        self.record = lab.root("client1") / "commits"

    def folder(self, host: str) -> Path:
        """The database's directory of a host."""
        return self.lab.root(host) / "database"

    def status(self, host: str) -> dict[str, Any]:
        """What ``status`` says of the module; empty while the agent does not answer."""
        done = self.lab.run(host, ["safekit-py", "status", MODULE, "--json"], capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout)["modules"][0] if done.returncode == 0 else {}
        return found

    def state(self, host: str) -> str:
        """The module's state on a host."""
        found = self.status(host)
        return f"{found['state']} {found['readiness']}" if found else ""

    def set_up(self, module: str = MODULE) -> None:
        """Install the module, by its name or its folder, on both servers.

        Each has a directory of its own, since both are on one machine.
        """
        for host in self.servers:
            self.wait(f"{host}: its agent answers", 0, partial(self._status, host))
            self.folder(host).mkdir()
            values = {"VIP": VIP, "DATADIR": str(self.folder(host)), "INITDB": "yes"}
            sets = [f"--set={name}={value}" for name, value in values.items()]
            self.command(host, "module", "install", module, *sets)

    def open_to_clients(self, host: str) -> None:
        """Let the lab's network in."""
        file = self.folder(host) / "pg_hba.conf"
        # What is not synced may go with the power that is cut next, as on any disk.
        script = f"echo '{TRUST}' >>{file} && sync {file} && runuser -u postgres -- psql -qAtc '{RELOAD}'"
        done = self.lab.run(host, ["sh", "-c", script], capture_output=True, text=True)
        if done.returncode:
            raise Unexpected(f"{host}: {script}", "exit code 0", done.stderr)

    def ledger(self, what: str) -> subprocess.Popen[str]:
        """Start the client that commits, or the one that checks."""
        argv = ["python3", "-m", "safekit_py.lab.ledger", what, VIP, "5432", str(self.record)]
        process = self.lab.popen("client1", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if what == "write":
            end = client.seconds() + PATIENCE
            before = self._acknowledged()
            while self._acknowledged() < before + 20 and client.seconds() < end:
                time.sleep(0.05)
        return process

    def _acknowledged(self) -> int:
        return self.record.read_text().count("+") if self.record.exists() else 0

    def end(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """End the commits, and take what was seen."""
        text, _ = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise Unexpected("the client", "exit code 0", process.returncode)
        found: dict[str, Any] = json.loads(text)
        return found

    def check(self, after: str) -> None:
        """Every acknowledged commit is there, once."""
        text, _ = (process := self.ledger("check")).communicate(timeout=PATIENCE)
        if not text:
            raise Unexpected(f"{after}: the ledger can be read", "exit code 0", process.returncode)
        found = json.loads(text)
        broken = {each: found[each][:5] for each in ("lost", "twice", "strange") if found[each]}
        if broken:
            raise Unexpected(after, f"all {found['acknowledged']} acknowledged commits, once", broken)
        self.console.print(f"  {after}: all [bold]{found['acknowledged']}[/] acknowledged commits are there, once")

    def roles(self, primary: str, secondary: str) -> None:
        """Wait until both are Ready in these roles; show a resynchronisation's progress."""
        self.wait(
            f"{primary} PRIM, {secondary} SECOND",
            ("PRIM Ready", "SECOND Ready"),
            lambda: (self.state(primary), self.state(secondary)),
        )

    def show(self, archive: Path) -> None:
        """All of it, in order."""
        one, two = self.servers
        with self.step(f"Install the module {MODULE} on both servers"):
            self.set_up()
        with self.step(f"{one}: prim; an empty database is made in the replicated directory"):
            self.command(one, "prim", MODULE, "--yes")
            self.wait(f"{one}: {MODULE}", "ALONE Ready", lambda: self.state(one))
            self.open_to_clients(one)
        with self.step(f"{two}: second; it takes all data while PostgreSQL runs"):
            self.command(two, "second", MODULE, "--yes")
            self.roles(one, two)
        self._power_cut(one, two)
        with self.step(f"Boot {one}; it takes only what differs, under commits, and is the secondary"):
            process = self.ledger("write")
            self.lab.boot(one)
            self.roles(two, one)
            self.end(process)
        self.check("after the resynchronisation")
        self._exchange(two, one)
        with self.step("Compare the two servers' data block by block (rfsverify)"):
            said = self.command(one, "rfsverify", MODULE).strip()
        self.console.print(f"  {said}")

    def _power_cut(self, primary: str, secondary: str) -> None:
        with self.step(f"Cut the power of {primary} under commits; {secondary} takes address, data and database"):
            process = self.ledger("write")
            time.sleep(3)
            self.lab.kill(primary)
            self.wait(f"{secondary}: {MODULE}", "ALONE Ready", lambda: self.state(secondary))
            time.sleep(2)
            seen = self.end(process)
        self.console.print(f"  [bold]{seen['longest']:.2f} s[/] without a commit; {seen['acknowledged']} acknowledged")
        if seen["longest"] > OUTAGE:
            raise Unexpected("the time without a commit", f"at most {OUTAGE:.0f} s", f"{seen['longest']:.2f} s")
        self.check("after the power cut")

    def _exchange(self, primary: str, secondary: str) -> None:
        with self.step(f"swap: {secondary} is primary again, under commits"):
            process = self.ledger("write")
            time.sleep(1)
            self.command(primary, "swap", MODULE)
            self.roles(secondary, primary)
            time.sleep(1)
            seen = self.end(process)
        self.console.print(f"  [bold]{seen['longest']:.2f} s[/] without a commit")
        self.check("after the exchange of roles")


def demo(name: str = "demo-mirror") -> bool:
    """Run it.

    :param name: the lab's name.
    :return: whether everything was as promised.
    :raises SafekitError: the lab could not be made.
    """
    console = Console()
    if shutil.which("psql", path=SYSTEM_PATH) is None:
        raise SystemProblem(Problem("lab.no-tool", "The program psql is missing", "apt-get install postgresql"))
    console.print("[bold]A mirror of two servers and a client, each with a network of its own on this machine[/]")
    begin = client.seconds()
    with Lab.up(name, 2, owner=os.getpid()) as lab:
        console.print(f"[green]✓[/] two servers and a client are up [dim]{client.seconds() - begin:.1f} s[/]")
        try:
            MirrorDemo(lab, console).show(lab.root("client1"))
        except Unexpected as error:
            console.print(f"[red]✗ {escape(str(error))}[/]", highlight=False)
            return False
        except KeyboardInterrupt:
            console.print("[yellow]interrupted[/]")
            return False
    console.print("[green]✓[/] [bold]All as promised: no acknowledged commit was lost.[/]")
    return True
