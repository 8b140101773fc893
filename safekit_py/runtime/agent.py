"""The agent: one process a server, with every installed module as a runner.

Flows through it: requests of the control API in; runners, configurations and archives changed. XML is read in a
short-lived child process, so that the agent stays small and a hostile file cannot stall its heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safekit_py.bundle import install as bundle
from safekit_py.errors import ConfigError, NotFoundError, Problem, SafekitError, StateError
from safekit_py.model.config import Cluster
from safekit_py.model.event import Event
from safekit_py.model.paths import Paths
from safekit_py.model.state import Severity, State
from safekit_py.runtime import configcheck, identity, plugins
from safekit_py.runtime.files import write_atomically
from safekit_py.runtime.runner import ModuleRunner, Verb

log = logging.getLogger("safekit.agent")
STOP_LIMIT = 20.0  # seconds that a stopping agent gives its modules beyond their scripts


class Agent:
    """All modules of this server."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.manager = plugins.load()
        self.cluster = Cluster()
        self.node = ""
        self.key = b""
        self.cluster_problems: tuple[Problem, ...] = ()
        self.runners: dict[str, ModuleRunner] = {}
        self.broken: dict[str, tuple[Problem, ...]] = {}
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Load everything, clean up after an earlier run, and start what should run."""
        for entry in self.manager.plugins:
            for problem in entry.problems:
                log.warning("%s", problem)
        await asyncio.to_thread(self._write_command)
        await self.load_cluster()
        await asyncio.to_thread(bundle.recover, self.paths)
        names = [m.name for m in bundle.installed(self.paths)]
        await asyncio.gather(*(self._load(name) for name in names))
        for runner in self.runners.values():
            started, _ = runner.wish.read()
            boot = runner.config.service.boot
            if boot == "on" or (started and boot != "off"):
                self._resume(runner, runner.config.service.boot_delay)

    @staticmethod
    def _resume(runner: ModuleRunner, delay: float) -> None:
        """Start a module that ran before, or that starts with the server, after ``boot_delay`` seconds."""

        def submit() -> None:
            if runner.state is State.STOP and not runner.busy:
                runner.submit(Verb.START, "it starts with the agent", person=False, run=runner.resume)

        asyncio.get_running_loop().call_later(delay, submit)

    async def stop(self) -> None:
        """Stop every module, as a server's shutdown does; each starts again with the agent."""
        runners = [r for r in self.runners.values() if r.state is not State.STOP or r.busy]
        wishes = {r.name: r.wish.read() for r in runners}
        done = [r.submit(Verb.STOP, "the agent stops", person=False) for r in runners]
        limit = max((self._stop_time(r) for r in runners), default=0.0)
        if done:
            await asyncio.wait(done, timeout=limit)
        for runner in runners:
            runner.wish.write(*wishes[runner.name])
        await asyncio.gather(*(r.shutdown() for r in self.runners.values()))

    @staticmethod
    def _stop_time(runner: ModuleRunner) -> float:
        user = runner.config.user
        return STOP_LIMIT + (user.nicestoptimeout + user.forcestoptimeout if user else 0)

    # --- cluster --------------------------------------------------------------------------------

    async def load_cluster(self) -> None:
        """Read cluster.xml, the key and this server's name; what is missing is kept as problems."""
        found: list[Problem] = []
        self.cluster, self.node, self.key = Cluster(), "", b""
        if self.paths.cluster_xml.exists():
            cluster, problems = await configcheck.check_cluster(self.paths.cluster_xml)
            found += problems
            if cluster is not None:
                self.cluster = cluster
                with _collect(found):
                    self.node = identity.node_name(self.paths, cluster)
        else:
            remedy = "safekit-py cluster config FILE on every server"
            found.append(Problem("cluster.not-configured", "this server has no cluster.xml", remedy))
        with _collect(found):
            self.key = await asyncio.to_thread(identity.cluster_key, self.paths)
        self.cluster_problems = tuple(found)

    async def configure_cluster(self, source: bytes, node: str | None) -> tuple[Problem, ...]:
        """Take a new cluster.xml; refused while a module runs.

        :return: the warnings.
        """
        async with self._changing:
            self._refuse_while_running()
            cluster, problems = await configcheck.check_cluster_bytes(source)
            if cluster is None:
                raise ConfigError(problems)
            if node is not None and node not in cluster.nodes:
                servers = ", ".join(cluster.nodes)
                problem = Problem("cluster.unknown-node", f"{node} is no server of this file", f"one of: {servers}")
                raise NotFoundError(problem)
            await asyncio.to_thread(write_atomically, self.paths.cluster_xml, source)
            if node is not None:
                await asyncio.to_thread(write_atomically, self.paths.node_name, f"{node}\n".encode())
            await self._reload_all()
            return tuple(problems)

    async def set_key(self, key: bytes) -> None:
        """Take the cluster's key; refused while a module runs."""
        async with self._changing:
            self._refuse_while_running()
            await asyncio.to_thread(write_atomically, self.paths.cluster_key, f"{key.hex()}\n".encode(), 0o600)
            await self._reload_all()

    def _refuse_while_running(self) -> None:
        running = [r.name for r in self.runners.values() if r.state is not State.STOP or r.busy]
        if running:
            names = ", ".join(running)
            raise StateError(
                Problem(
                    "cluster.in-use", f"modules run: {names}", "stop them on this server first: safekit-py stop NAME"
                )
            )

    async def _reload_all(self) -> None:
        await self.load_cluster()
        for name in list(self.runners) + list(self.broken):
            await self._load(name)

    # --- modules --------------------------------------------------------------------------------

    async def _load(self, name: str) -> None:
        """(Re)build the runner of an installed module from its files; the old one must be stopped."""
        checked = await configcheck.check_module(self.paths.userconfig(name))
        old = self.runners.pop(name, None)
        if old is not None:
            await old.shutdown()
        self.broken.pop(name, None)
        problems = [p for p in checked.problems if p.severity == "error"]
        if checked.config is not None:
            kind = self.manager.module_types().get(checked.config.service.mode)
            if kind is None:
                modes = ", ".join(sorted(self.manager.module_types()))
                problems.append(
                    Problem(
                        "config.unknown-mode",
                        f"no plugin brings the mode {checked.config.service.mode}",
                        f"one of: {modes}",
                    )
                )
            elif not self.cluster_problems:
                problems += [p for p in kind.check(checked.config, self.cluster) if p.severity == "error"]
        problems += self.cluster_problems
        if problems or checked.config is None:
            self.broken[name] = tuple(problems)
            return
        runner = ModuleRunner(
            name,
            checked.config,
            paths=self.paths,
            manager=self.manager,
            cluster=self.cluster,
            node=self.node,
            cluster_key=self.key,
            module_id=identity.module_id(self.paths, name),
            publish=self._publish,
        )
        await runner.recover()
        self.runners[name] = runner

    def runner(self, name: str) -> ModuleRunner:
        """The runner of a module that is installed and configured.

        :raises NotFoundError: it is not installed.
        :raises ConfigError: it is, and cannot run; the problems say why.
        """
        if name in self.broken:
            raise ConfigError(self.broken[name])
        if name not in self.runners:
            names = ", ".join(sorted({*self.runners, *self.broken})) or "none"
            raise NotFoundError(
                Problem(
                    "module.not-installed",
                    f"module {name} is not installed",
                    f"installed: {names}; see safekit-py module list",
                )
            )
        return self.runners[name]

    async def command(self, name: str, verb: Verb, identity_: str | None) -> asyncio.Future[None]:
        """Ask a module for something; before a start its files are read again, so that edits count."""
        async with self._changing:
            stopped = name in self.broken or (
                self.runners[name].state is State.STOP and not self.runners[name].busy
                if name in self.runners
                else False
            )
            if verb is Verb.START and stopped:
                await self._load(name)
            runner = self.runner(name)
            person = identity_ is None
            if identity_ is not None and verb in (Verb.RESTART, Verb.STOPSTART, Verb.WAIT):
                return runner.automatic(verb, identity_)
            cause = "asked by an administrator" if person else f"asked by {identity_}"
            return runner.submit(verb, cause, person=person)

    async def install(
        self, archive: Path, name: str, macros: Mapping[str, str], number: int | None
    ) -> tuple[Problem, ...]:
        """Install an archive or a folder as module ``name``; nothing changes when it is not acceptable.

        :return: the warnings of its configuration.
        """
        async with self._changing:
            running = self.runners.get(name)
            if running is not None and (running.state is not State.STOP or running.busy):
                raise StateError(
                    Problem("module.running", f"{name} is running", f"stop it first: safekit-py stop {name}")
                )
            others = [m.name for m in bundle.installed(self.paths)]
            chosen = identity.module_id(self.paths, name) if number is None else number
            identity.refuse_id_in_use(self.paths, name, chosen, others)
            result = await asyncio.to_thread(
                bundle.install, archive, name, self.paths, macros, configcheck.check_blocking
            )
            if number is not None:
                identity.set_module_id(self.paths, name, number)
            await self._load(name)
            if name in self.broken:
                return (*result.problems, *self.broken[name])
            return tuple(result.problems)

    async def uninstall(self, name: str) -> None:
        """Remove a stopped module; its log and what its application kept in $SAFEUSERVAR stay."""
        async with self._changing:
            runner = self.runners.get(name)
            if runner is not None and (runner.state is not State.STOP or runner.busy):
                raise StateError(
                    Problem("module.running", f"{name} is running", f"stop it first: safekit-py stop {name}")
                )
            if runner is None and name not in self.broken:
                self.runner(name)
            if runner is not None:
                del self.runners[name]
                await runner.shutdown()
            self.broken.pop(name, None)
            await asyncio.to_thread(bundle.uninstall, name, self.paths)

    # --- the rest -------------------------------------------------------------------------------

    def _publish(self, event: Event) -> None:
        level = logging.ERROR if event.severity in (Severity.ERROR, Severity.CRITICAL) else logging.INFO
        log.log(level, "%s %s %s: %s", event.severity.value, event.module, event.source, event.message)
        self.manager.event(event)

    def _write_command(self) -> None:
        """$SAFE/safekit: the command that module scripts call."""
        root = shlex.quote(str(self.paths.root))
        text = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m safekit_py --root {root} "$@"\n'
        (self.paths.safe / "bin").mkdir(parents=True, exist_ok=True)
        for folder in (self.paths.modules, self.paths.var, self.paths.run):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.paths.safe / "safekit", text.encode(), 0o755)


@contextlib.contextmanager
def _collect(found: list[Problem]) -> Any:
    try:
        yield
    except SafekitError as error:
        found.extend(error.problems)
