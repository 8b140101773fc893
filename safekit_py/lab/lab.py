"""``Lab``: make a cluster on this machine, run programs on its hosts, and break it on purpose.

    with Lab.up("trial", servers=3, owner=os.getpid()) as lab:
        lab.run("server1", ["safekit-py", "status"])
        lab.kill("server1")

What flows: a plan (values) -> one init process for each host and for the switch -> the registry on disk, from which any
later command finds them again.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import safekit_py
from safekit_py.errors import NotFoundError, Problem, StateError, SystemProblem
from safekit_py.lab import plan, registry, switch
from safekit_py.lab.identity import Process
from safekit_py.lab.registry import SWITCH, Record
from safekit_py.model.paths import Paths

TOOLS = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "setpriv": "util-linux"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Lab:
    """A lab that is up. As a context manager it is taken down at the end."""

    def __init__(self, record: Record) -> None:
        self._record = record

    @classmethod
    def up(
        cls,
        name: str = "lab",
        servers: int = 3,
        *,
        lans: int = 1,
        agent: bool = True,
        restart: float = 1.0,
        owner: int | None = None,
    ) -> Lab:
        """Make a lab: ``server1`` … ``serverN`` and ``client1``, configured as one cluster.

        :param name: a-z, 0-9 and ``-``; several labs can be up at once.
        :param servers: 1 to 32.
        :param lans: 1 to 4 separate networks.
        :param agent: run the agent on every server.
        :param restart: seconds after which an agent that ended is started again; 0: never.
        :param owner: a process id; when that process ends, the lab ends with it and its files are removed.
        :raises StateError: a lab of this name is up.
        :raises SystemProblem: no root, or a program is missing.
        """
        require()
        record = registry.claim(plan.check_name(name), plan.hosts(servers, lans))
        record.owner, record.agent, record.restart = owner or 0, agent, restart
        lab = cls(record)
        try:
            lab._make()
        except BaseException:
            record.remove()
            raise
        record.maker = None
        record.save()
        return lab

    @classmethod
    def open(cls, name: str = "lab") -> Lab:
        """A lab that an earlier command made.

        :raises NotFoundError: there is none of this name.
        """
        require()
        return cls(registry.find(plan.check_name(name)))

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def hosts(self) -> tuple[plan.Host, ...]:
        """The servers, then the client."""
        return self._record.hosts

    def root(self, host: str) -> Path:
        """The folder below which the host's files stand; ``kill`` and ``boot`` leave it as it is."""
        return self._record.folder / self._host(host).name

    def alive(self, host: str) -> bool:
        """Whether the host runs."""
        init = self._record.inits.get(self._host(host).name)
        return bool(init and init.alive)

    def run(self, host: str, argv: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a program on a host and wait for its end.

        :param options: those of ``subprocess.run``; ``env`` is added to the host's environment.
        :raises StateError: the host is off.
        """
        options.setdefault("check", False)
        return subprocess.run(self._command(host, argv), **self._options(host, options))  # noqa: PLW1510 - given above

    def popen(self, host: str, argv: list[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host; it is killed when the returned process is."""
        return subprocess.Popen(self._command(host, argv), **self._options(host, options))

    def kill(self, host: str) -> None:
        """A power cut: nothing more leaves the host, not even the ends of its connections."""
        found = self._host(host)
        if not self.alive(host):
            raise StateError(Problem("lab.host-off", f"{host} is off already", f"safekit-py lab boot {host}"))
        switch.unplug(self._switch(), found)
        self._record.inits.pop(host).kill()
        self._record.save()

    def boot(self, host: str) -> None:
        """Switch a host on again, with its files, addresses and MACs.

        :raises StateError: it is on.
        """
        found = self._host(host)
        if self.alive(host):
            raise StateError(Problem("lab.host-on", f"{host} is on already", f"safekit-py lab kill {host}"))
        # When only its init was killed, the ports of the host may still stand on the switch.
        switch.unplug(self._switch(), found)
        shutil.rmtree(Paths(self.root(host)).run.parent, ignore_errors=True)
        self._boot(found)

    def cut(self, host: str, peer: str | None = None, *, one_way: bool = False) -> None:
        """Lose every frame between a host and the others, or one ``peer``; ``one_way``: only what the host sends."""
        switch.cut(self._switch(), self._host(host), self._host(peer) if peer else None, one_way=one_way)

    def heal(self) -> None:
        """Undo every cut."""
        switch.heal(self._switch())

    def down(self) -> None:
        """Remove the lab and its files; without effect on a lab that is gone."""
        self._record.remove()

    def _make(self) -> None:
        record = self._record
        for path in (record.folder / "bin", record.folder / "filter-cache"):
            path.mkdir()
        command = record.folder / "bin/safekit-py"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m safekit_py "$@"\n')
        command.chmod(0o755)
        key = secrets.token_hex(32)
        for host in record.hosts:
            root = record.folder / host.name
            (root / "var/log").mkdir(parents=True)
            if host.server:
                _configure(Paths(root), host.name, plan.cluster_xml(record.hosts), key)
        self._spawn(SWITCH, lambda init: switch.make(init, len(record.hosts[0].ports)))
        for host in record.hosts:
            self._boot(host)

    def _boot(self, host: plan.Host) -> None:
        self._spawn(host.name, lambda init: switch.plug(self._switch(), init, host))

    def _spawn(self, name: str, connect: Any) -> None:
        """Start an init; it lets the agent run only after ``connect`` has given it its network."""
        record = self._record
        root = record.folder / name
        server = name not in {SWITCH, plan.CLIENT}
        values = {
            "host": name,
            "switch": name == SWITCH,
            "base": str(registry.BASE),
            "folder": str(record.folder),
            "owner": record.owner,
            "restart": record.restart,
            "agent": [sys.executable, "-m", "safekit_py", "agent"] if server and record.agent else [],
            "env": {"HOME": "/root", "LANG": "C.UTF-8", **self._environment(name)},
            "log": str(root / "var/log/agent.log"),
        }
        program = Path(__file__).with_name("init.py")
        with (record.folder / f"{name}.log").open("ab") as log:
            maker = subprocess.Popen(
                [sys.executable, "-I", "-S", str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with maker:
            assert maker.stdin
            assert maker.stdout
            maker.stdin.write(json.dumps(values) + "\n")
            maker.stdin.flush()
            init = self._greeted(name, maker)
            connect(init)
            maker.stdin.write("go\n")

    def _greeted(self, name: str, maker: subprocess.Popen[str]) -> Process:
        """The init, once it has said its id and that it is ready; it is recorded before anything else can fail."""
        assert maker.stdout
        init, ready = None, False
        while not (init and ready):
            word, _, rest = maker.stdout.readline().strip().partition(" ")
            if word == "pid" and (init := Process.of(int(rest))):
                self._record.inits[name] = init
                self._record.save()
            elif word == "ready":
                ready = True
            else:
                said = rest or (self._record.folder / f"{name}.log").read_text().strip().rpartition("\n")[2]
                remedy = "the lab needs root and a kernel with network, process, mount and UTS namespaces"
                raise SystemProblem(Problem("lab.no-host", f"{name} could not be made: {said}", remedy))
        return init

    def _switch(self) -> Process:
        found = self._record.inits.get(SWITCH)
        if not (found and found.alive):
            problem = Problem(
                "lab.crashed", f"The lab {self.name} has crashed", f"safekit-py lab down --name {self.name}"
            )
            raise StateError(problem)
        return found

    def _host(self, name: str) -> plan.Host:
        found = next((each for each in self.hosts if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in self.hosts)
            raise NotFoundError(
                Problem("lab.no-such-host", f"The lab {self.name} has no host {name}", f"it has: {known}")
            )
        return found

    def _environment(self, host: str) -> dict[str, str]:
        """What a program on a host finds: its files, this very version of the command, and its programs first."""
        folder = self._record.folder
        package = Path(safekit_py.__file__).parent.parent
        return {
            "SAFEKIT_ROOT": str(folder / host),
            "SAFEKIT_FILTER_CACHE": str(folder / "filter-cache"),
            "SAFEKIT_LAB": self.name,
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "PYTHONPATH": str(package),
        }

    def _command(self, host: str, argv: list[str]) -> list[str]:
        init = self._record.inits.get(self._host(host).name)
        if not (init and init.alive):
            raise StateError(Problem("lab.host-off", f"{host} is off", f"safekit-py lab boot {host}"))
        enter = ["nsenter", f"--target={init.pid}", "--net", "--pid", "--mount", "--uts", "--"]
        # Without it, a caller that is killed would leave its program behind on the host.
        return [*enter, "setpriv", "--pdeathsig=KILL", "--", "env", f"--chdir={Path.cwd()}", "--", *argv]

    def _options(self, host: str, options: dict[str, Any]) -> dict[str, Any]:
        env = {**os.environ, **self._environment(host), **(options.get("env") or {})}
        return {**options, "env": env}


def _configure(paths: Paths, name: str, cluster: str, key: str) -> None:
    paths.cluster_xml.parent.mkdir(parents=True)
    paths.cluster_xml.write_text(cluster)
    paths.node_name.write_text(f"{name}\n")
    paths.cluster_key.touch(mode=0o600)
    paths.cluster_key.write_text(f"{key}\n")


def require() -> None:
    """Check what a lab needs.

    :raises SystemProblem: what is missing, and how to get it.
    """
    problems = []
    if os.geteuid():
        problems.append(Problem("lab.not-root", "A lab needs root", "run it with sudo"))
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}") is None:
            problems.append(Problem("lab.no-tool", f"The program {tool} is missing", f"apt-get install {package}"))
    if problems:
        raise SystemProblem(problems)
