"""The demonstration: an Apache farm under steady traffic loses a server and takes it back; each claim is checked.

What flows: a lab with three servers -> the module packaged, installed and started by the commands that a user would
type -> requests from the client host (``client``) -> what was expected against what was seen. The lab goes down at
the end, however it ends.

The disturbance is the time from the power cut to the begin of the last request that failed or took longer than
SLOW. A request has TIMEOUT seconds in all: one whose first packet is lost would be sent again by its kernel after
one second, so it counts as failed here although a patient user would still be served.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safekit_py.bundle.install import shipped
from safekit_py.errors import Problem, SystemProblem
from safekit_py.lab import client
from safekit_py.lab.lab import SYSTEM_PATH, Lab

VIP = "10.77.0.100"
PAGE = f"http://{VIP}/server-name.txt"
REQUESTS = 300  # for one picture of the spread
RATE = 100  # requests a second under steady traffic
TIMEOUT = 1.0  # seconds for one request
SLOW = 0.25  # seconds from which an answer counts as disturbed
LIMIT = 1.0  # seconds of disturbance that a power cut may cause
PATIENCE = 60.0  # seconds for a server to boot and start


class Unexpected(Exception):
    """What was seen is not what was promised."""

    def __init__(self, what: str, expected: str, seen: object) -> None:
        super().__init__(f"{what}\n  expected: {expected}\n  seen:     {seen}")


class Demo:
    """One run over a lab that is up."""

    def __init__(self, lab: Lab, console: Console) -> None:
        self.lab = lab
        self.console = console
        self.servers = [each.name for each in lab.hosts if each.server]

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Say what is being done, and how long it took."""
        begin = client.seconds()
        with self.console.status(f"{title} …"):
            yield
        self.console.print(f"[green]✓[/] {title} [dim]{client.seconds() - begin:.1f} s[/]")

    def command(self, host: str, *words: str) -> str:
        """A ``safekit-py`` command as an administrator of this host would type it."""
        done = self.lab.run(host, ["safekit-py", *words], capture_output=True, text=True)
        if done.returncode:
            raise Unexpected(
                f"{host}: safekit-py {' '.join(words)}", "exit code 0", f"{done.returncode}\n{done.stdout}{done.stderr}"
            )
        return str(done.stdout)

    def state(self, host: str) -> str:
        """The module's state on a host, ``UP Ready``; empty while its agent does not answer."""
        done = self.lab.run(host, ["safekit-py", "status", "apache", "--json"], capture_output=True, text=True)
        if done.returncode:
            return ""
        module = json.loads(done.stdout)["modules"][0]
        return f"{module['state']} {module['readiness']}"

    def wait(self, what: str, expected: Any, seen: Callable[[], Any]) -> None:
        """Look again until it is as expected."""
        end = client.seconds() + PATIENCE
        while (value := seen()) != expected:
            if client.seconds() > end:
                raise Unexpected(f"{what}, within {PATIENCE:.0f} s", str(expected), value)
            time.sleep(0.1)

    def install(self, archive: Path) -> None:
        """Package the module once and install it everywhere."""
        folder = next(each.folder for each in shipped() if each.name == "apache")
        for host in self.servers:
            self.wait(f"{host}: its agent answers", 0, partial(self._status, host))
        self.command(self.servers[0], "module", "package", str(folder), "--output", str(archive))
        for host in self.servers:
            self.command(host, "module", "install", str(archive), "--set", f"VIP={VIP}", "--set", "PORT=80")

    def _status(self, host: str) -> int:
        return int(self.lab.run(host, ["safekit-py", "status"], capture_output=True).returncode)

    def request(self, *options: str) -> subprocess.Popen[str]:
        """Start the client."""
        argv = ["python3", "-m", "safekit_py.lab.client", PAGE, f"--timeout={TIMEOUT}", f"--slow={SLOW}", *options]
        return self.lab.popen("client1", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def result(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """What the client saw."""
        text, _ = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise Unexpected("the client", "exit code 0", process.returncode)
        found: dict[str, Any] = json.loads(text)
        return found

    def spread(self, living: list[str]) -> None:
        """Show how many requests each server answers, and check that it is about its share."""
        self.wait("the servers that answer", living, lambda: list(self.result(self.request("--count=60"))["servers"]))
        seen = self.result(self.request(f"--count={REQUESTS}"))
        fair = REQUESTS / len(living)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("server")
        table.add_column("requests", justify="right")
        table.add_column("share", justify="right")
        table.add_column("")
        for host in self.servers:
            number = seen["servers"].get(host, 0)
            bar = f"[cyan]{'█' * (40 * number // REQUESTS)}[/]"
            table.add_row(host, str(number), f"{100 * number / REQUESTS:.0f} %", bar)
        self.console.print(table)
        if sum(seen["servers"].values()) != REQUESTS:
            raise Unexpected("every request is answered", f"{REQUESTS} answers", seen)
        if list(seen["servers"]) != living or not all(fair / 2 <= n <= fair * 3 / 2 for n in seen["servers"].values()):
            raise Unexpected(
                "the spread", f"{fair / 2:.0f} to {fair * 3 / 2:.0f} requests for each of {living}", seen["servers"]
            )

    def power_cut(self, victim: str) -> None:
        """Cut the power of a server under steady traffic, and measure what the clients notice of it."""
        traffic = self.request(f"--rate={RATE}", "--count=100000", "--until-eof")
        try:
            time.sleep(2)
            begin = client.seconds()
            self.lab.kill(victim)
            time.sleep(4)
            seen = self.result(traffic)
        finally:
            traffic.kill()
            traffic.wait()
        trouble = seen["trouble"]
        early = [each for each in trouble if each["at"] + each["took"] < begin]
        if early:
            raise Unexpected("the traffic before the power cut", "no failure", early)
        if seen["requests"] < RATE * 4:
            raise Unexpected("the traffic", f"about {RATE * 6} requests", seen["requests"])
        last = max((each["at"] - begin for each in trouble), default=0.0)
        failed = sum(1 for each in trouble if each["what"])
        self.console.print(
            f"  [bold]{max(last, 0.0):.2f} s[/] disturbed: of {seen['requests']} requests {failed} failed "
            f"and {len(trouble) - failed} took longer than {SLOW * 1000:.0f} ms"
        )
        if last >= LIMIT:
            raise Unexpected(
                "the disturbance by the power cut", f"less than {LIMIT:.0f} s", f"{last:.2f} s: {trouble[-5:]}"
            )

    def show(self, archive: Path) -> None:
        """All of it, in order."""
        with self.step("Install the module apache on every server"):
            self.install(archive)
        with self.step("Start it on every server"):
            for host in self.servers:
                self.command(host, "start", "apache", "--wait")
        self.console.print(f"{REQUESTS} requests to http://{VIP}/, each a connection of its own:")
        self.spread(self.servers)
        victim, living = self.servers[-1], self.servers[:-1]
        with self.step(f"Cut the power of {victim} under {RATE} requests a second"):
            self.power_cut(victim)
        self.spread(living)
        with self.step(f"Boot {victim}; it starts the module by itself"):
            self.lab.boot(victim)
            self.wait(f"{victim}: apache", "UP Ready", lambda: self.state(victim))
        self.spread(self.servers)


def demo(name: str = "demo", servers: int = 3) -> bool:
    """Run it.

    :param name: the lab's name.
    :param servers: 2 to 8.
    :return: whether everything was as promised.
    :raises SafekitError: the lab could not be made.
    """
    console = Console()
    if shutil.which("apache2", path=SYSTEM_PATH) is None:
        raise SystemProblem(Problem("lab.no-tool", "The program apache2 is missing", "apt-get install apache2"))
    console.print(f"[bold]A farm of {servers} servers and a client, each with a network of its own on this machine[/]")
    begin = client.seconds()
    with Lab.up(name, servers, owner=os.getpid()) as lab:
        console.print(f"[green]✓[/] {servers} servers and a client are up [dim]{client.seconds() - begin:.1f} s[/]")
        try:
            Demo(lab, console).show(lab.root("client1") / "apache.zip")
        except Unexpected as error:
            console.print(f"[red]✗ {escape(str(error))}[/]", highlight=False)
            return False
        except KeyboardInterrupt:
            console.print("[yellow]interrupted[/]")
            return False
    console.print(
        "[green]✓[/] [bold]All as promised.[/] The lab is down again; make one of your own: safekit-py lab up"
    )
    return True
