"""The agent: one process a server, with every installed module as a runner.

Flows through it: requests of the control API in; runners, configurations and archives changed. XML is read in a
short-lived child process, so that the agent stays small and a hostile file cannot stall its heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from safekit_py.bundle import install as bundle
from safekit_py.config.checked import Checked
from safekit_py.core import boot
from safekit_py.errors import ConfigError, NotFoundError, Problem, SafekitError, StateError
from safekit_py.model.config import Cluster, ModuleConfig
from safekit_py.model.event import Event
from safekit_py.model.paths import Paths
from safekit_py.model.state import Severity
from safekit_py.model.text import set_in
from safekit_py.runtime import configcheck, identity, journal, plugins
from safekit_py.runtime.clusterkeys import ClusterKeys
from safekit_py.runtime.configurations import Configurations
from safekit_py.runtime.files import write_atomically
from safekit_py.runtime.installation import Installation
from safekit_py.runtime.membership import Membership
from safekit_py.runtime.memory import boot_id
from safekit_py.runtime.operations import Operations
from safekit_py.runtime.runner import ModuleRunner, Verb

if TYPE_CHECKING:
    from safekit_py.runtime.handover import Predecessor

log = logging.getLogger("safekit.agent")
STOP_LIMIT = 20.0  # seconds that a stopping agent gives its modules beyond their scripts
REBOOT = "SAFEKIT_REBOOT"  # environment: the command that reboots this server


class Agent:
    """All modules of this server."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.manager = plugins.load(paths)
        self.cluster = Cluster()
        self.node = ""
        self.keys = ClusterKeys(paths, self._other_servers)
        self.cluster_problems: tuple[Problem, ...] = ()
        self.runners: dict[str, ModuleRunner] = {}
        self.broken: dict[str, tuple[Problem, ...]] = {}
        self.listeners: set[Callable[[Event], None]] = set()  # told of every event, in the event loop
        self.notified: dict[str, Mapping[str, Any]] = {}  # what became of notifications, by target
        self._inherited: Mapping[str, Mapping[str, Any]] = {}  # modules that go on from an earlier process
        self.renew: Callable[[], Awaitable[int]] | None = None  # replaces this process; the id of the next one
        self.operations = Operations()
        self.ending = False  # modules that stop now do so with the agent
        self._changing = asyncio.Lock()
        self._journal = journal.sink()
        self.configurations = Configurations(self)
        self.installation = Installation(self, self.configurations)

    async def start(self, before: Predecessor | None = None) -> None:
        """Load everything, clean up after an earlier run, and start what should run.

        :param before: the process that this one replaces; its modules go on.
        """
        self.manager.guard.start()
        for entry in self.manager.plugins:
            for problem in entry.problems:
                log.warning("%s", problem)
        if before is not None:
            self._inherited = await before.modules(self)
        await asyncio.to_thread(self._write_command)
        await self.load_cluster()
        await asyncio.to_thread(bundle.recover, self.paths)
        await self._load_all(await self.configurations.known(), before)
        same_boot = await asyncio.to_thread(self._same_boot)
        for runner in self.runners.values():
            if runner.name in self._inherited:
                continue
            decided = boot.effective(runner.config.service.boot, runner.memory.now.boot)
            if boot.starts(decided, started=runner.memory.now.started, same_boot=same_boot):
                self._resume(runner, 0.0 if same_boot else runner.config.service.boot_delay)
            elif runner.mark.there:
                # A stop that the crash cut short: something of the application may still run.
                runner.submit(Verb.STOP, "the earlier run was being stopped", person=False)
        self._inherited = {}
        self.configurations.reload.start()
        self.keys.start()

    def _same_boot(self) -> bool:
        """Whether an agent has run before in the present boot of the server; from now on, one has."""
        path, now = self.paths.var / "boot", boot_id()
        before = path.read_text() if path.exists() else ""
        if before != now:
            with contextlib.suppress(OSError):
                write_atomically(path, now.encode())
        return before == now

    @staticmethod
    def _resume(runner: ModuleRunner, delay: float) -> None:
        """Start a module that ran before, or that starts with the server, after ``boot_delay`` seconds."""

        def submit() -> None:
            if runner.stopped:
                runner.submit(Verb.START, "it starts with the agent", person=False, run=runner.deeds.resume)

        asyncio.get_running_loop().call_later(delay, submit)

    async def stop(self) -> None:
        """Stop every module, as a server's shutdown does; each starts again with the agent."""
        self.ending = True
        await self.keys.stop()
        await self.configurations.reload.stop()
        before = {r: r.memory.now for r in self.runners.values()}
        await self.stop_all("the agent stops", person=False)
        for runner, memory in before.items():
            runner.memory.write(started=memory.started, reason=memory.reason)
        await asyncio.gather(*(r.shutdown() for r in self.runners.values()))
        self.manager.guard.stop()

    async def stop_all(self, cause: str, *, person: bool) -> None:
        """Stop every module that runs; returns when all are stopped, or after the time that their scripts may take."""
        runners = [r for r in self.runners.values() if not r.stopped]
        done = [waiting for r in runners if (waiting := _stop(r, cause, person=person)) is not None]
        limit = max((self._stop_time(r) for r in runners), default=0.0)
        if done:
            await asyncio.wait(done, timeout=limit)

    @staticmethod
    def _stop_time(runner: ModuleRunner) -> float:
        user = runner.config.user
        return STOP_LIMIT + (user.nicestoptimeout + user.forcestoptimeout if user else 0)

    # --- cluster --------------------------------------------------------------------------------

    async def load_cluster(self) -> None:
        """Read cluster.xml, the key and this server's name; what is missing is kept as problems."""
        found: list[Problem] = []
        self.cluster, self.node = Cluster(), ""
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
            await asyncio.to_thread(self.keys.load)
        self.cluster_problems = tuple(found)

    def cluster_source(self) -> str:
        """The text of cluster.xml; empty when there is none."""
        path = self.paths.cluster_xml
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    async def configure_cluster(
        self, source: bytes, node: str | None, *, check: bool = False, expect: str = ""
    ) -> tuple[Problem, ...]:
        """Take a new cluster.xml; refused while a module runs.

        :param check: change nothing, and raise what taking it would raise.
        :param expect: the SHA-256 that the present one must have, so that two who change it at once both notice.
        :return: the warnings.
        """
        async with self._changing:
            self._refuse_locked()
            self._refuse_while_running()
            if expect and hashlib.sha256(self.cluster_source().encode()).hexdigest() != expect:
                text = "cluster.xml of this server is another one than expected"
                raise StateError(Problem("cluster.changed", text, 'make them equal first: safekit-py -H "*" -G'))
            cluster, problems = await configcheck.check_cluster_bytes(source)
            if cluster is None:
                raise ConfigError(problems)
            if node is not None and node not in cluster.nodes:
                servers = ", ".join(cluster.nodes)
                problem = Problem("cluster.unknown-node", f"{node} is no server of this file", f"one of: {servers}")
                raise NotFoundError(problem)
            if check:
                return tuple(problems)
            await asyncio.to_thread(write_atomically, self.paths.cluster_xml, source)
            if node is not None:
                await asyncio.to_thread(write_atomically, self.paths.node_name, f"{node}\n".encode())
            await self._reload_all()
            return tuple(problems)

    async def become_member(self, found: Membership, *, replace: bool) -> tuple[Problem, ...]:
        """Take all that makes this server one of a cluster, or nothing; refused while a module runs.

        :param replace: also where it is one of a cluster already.
        :return: the warnings.
        """
        async with self._changing:
            self._refuse_locked()
            self._refuse_while_running()
            if self.paths.cluster_xml.exists() and not replace:
                text, remedy = "this server is one of a cluster already", "--replace leaves that one"
                raise StateError(Problem("cluster.exists", text, remedy, str(self.paths.cluster_xml)))
            cluster, problems = await configcheck.check_cluster_bytes(found.cluster)
            if cluster is None or found.node not in cluster.nodes:
                problem = Problem("cluster.unknown-node", f"{found.node} is no server of this cluster.xml", "")
                raise ConfigError(problems if cluster is None else problem)
            self.keys.check(found.key)
            await asyncio.to_thread(found.write, self.paths)
            await self._reload_all()
            return tuple(problems)

    async def deconfigure_cluster(self) -> None:
        """Forget cluster.xml and this server's name in it; refused while a module runs."""
        async with self._changing:
            self._refuse_locked()
            self._refuse_while_running()
            for path in (self.paths.cluster_xml, self.paths.node_name):
                path.unlink(missing_ok=True)
            await self._reload_all()

    async def set_key(self, text: str | None) -> None:
        """Take the content of a key file, or forget the key; refused while a module runs."""
        async with self._changing:
            self._refuse_locked()
            self._refuse_while_running()
            await asyncio.to_thread(self.keys.delete if text is None else partial(self.keys.replace, text))
            await self._reload_all()

    async def change_keys(self, change: Callable[[], None]) -> None:
        """Change the keys while modules run; see :class:`ClusterKeys`."""
        async with self._changing:
            self._refuse_locked()
            await asyncio.to_thread(change)

    def _other_servers(self) -> dict[int, str]:
        return {number: name for number, name in enumerate(self.cluster.nodes) if name != self.node}

    @property
    def cluster_lock(self) -> str:
        """Why the cluster's configuration must not be changed, or empty."""
        try:
            return self.paths.cluster_lock.read_text() or "locked"
        except OSError:
            return ""

    def lock_cluster(self, reason: str | None) -> None:
        """Refuse changes of cluster.xml and key for this reason, or allow them again with None."""
        if reason is None:
            self.paths.cluster_lock.unlink(missing_ok=True)
        else:
            write_atomically(self.paths.cluster_lock, (reason or "locked").encode())

    def _refuse_locked(self) -> None:
        if why := self.cluster_lock:
            raise StateError(
                Problem("cluster.locked", f"the cluster's configuration is locked: {why}", "safekit-py cluster unlock")
            )

    def _refuse_while_running(self) -> None:
        running = [r.name for r in self.runners.values() if not r.stopped]
        if running:
            names = ", ".join(running)
            raise StateError(
                Problem(
                    "cluster.in-use", f"modules run: {names}", "stop them on this server first: safekit-py stop NAME"
                )
            )

    async def _reload_all(self) -> None:
        await self.load_cluster()
        await self._load_all(dict.fromkeys((*await self.configurations.known(), *self.runners)))

    # --- modules --------------------------------------------------------------------------------

    async def _load_all(self, names: Iterable[str], before: Predecessor | None = None) -> None:
        """(Re)build the runners of these modules; their configurations are read in one child process.

        :param before: the process that lets go of its modules once this one has made their runners.
        """
        checked = await self.configurations.activation.load(names)
        made = [(name, await self._make(name, each)) for name, each in checked]
        remains = {} if before is None else await before.remains()
        await asyncio.gather(*(self._enter(name, runner, remains.get(name)) for name, runner in made))
        if before is not None:
            before.done()

    async def load(self, name: str) -> None:
        """(Re)build the runner of a module that does not run, from what was active."""
        async with self._changing:
            if self.running(name) is None:
                await self._load_all([name])

    async def build(self, name: str, checked: Checked) -> ModuleRunner:
        """(Re)build the runner of a module that does not run, with this configuration.

        :raises ConfigError: it cannot run with it.
        :raises StateError: it runs.
        """
        async with self._changing:
            if self.running(name) is not None:
                raise StateError(
                    Problem("module.running", f"{name} was started meanwhile", f"safekit-py status {name}")
                )
            await self._build(name, checked)
            return self.runner(name)

    async def unconfigure(self, name: str, problems: tuple[Problem, ...]) -> None:
        """A stopped module cannot run, for these reasons."""
        async with self._changing:
            runner = self.runners.pop(name, None)
            self.broken[name] = problems
            if runner is not None:
                await runner.shutdown()

    async def forget(self, name: str) -> None:
        """A stopped module is not there any more."""
        await self.unconfigure(name, ())
        del self.broken[name]

    def running(self, name: str) -> ModuleRunner | None:
        """The runner of a module that is not stopped."""
        runner = self.runners.get(name)
        return None if runner is None or runner.stopped else runner

    async def _build(self, name: str, checked: Checked) -> None:
        await self._enter(name, await self._make(name, checked))

    async def _make(self, name: str, checked: Checked) -> ModuleRunner | None:
        """A module's runner, with which nothing has happened yet; None when it cannot run."""
        old = self.runners.pop(name, None)
        if old is not None:
            await old.shutdown()
        self.broken.pop(name, None)
        problems = self.unfit(checked)
        if problems or checked.config is None:
            self.broken[name] = tuple(problems)
            return None
        try:
            return self._runner_of(name, checked.config)
        except Exception as error:  # a plugin's fault is its module's, and the other modules go on
            self._broken_by(name, error)
            return None

    async def _enter(self, name: str, runner: ModuleRunner | None, remains: bytes | None = None) -> None:
        """Let a runner take requests, after what an earlier run left is removed, or taken over."""
        if runner is None:
            return
        try:
            if remains is None:
                await runner.recover()
            else:
                await runner.take_over(self._inherited[name], remains)
        except Exception as error:
            self._broken_by(name, error)
            await runner.shutdown()
        else:
            self.runners[name] = runner

    def _broken_by(self, name: str, error: Exception) -> None:
        text = f"{name} cannot be set up: {type(error).__name__}: {error}"
        own = (Problem("agent.internal", text, "safekit-py plugins may tell more"),)
        self.broken[name] = error.problems if isinstance(error, SafekitError) else own

    def _runner_of(self, name: str, config: ModuleConfig) -> ModuleRunner:
        return ModuleRunner(
            name,
            config,
            paths=self.paths,
            manager=self.manager,
            cluster=self.cluster,
            node=self.name,
            keys=self.keys.live,
            module_id=identity.module_id(self.paths, name),
            publish=self.publish,
            ask=self.ask,
            reboot=self._reboot,
        )

    def summary(self) -> str:
        """What the modules do, in one line."""
        said = [f"{r.name} {r.state} {r.readiness}".rstrip() for _, r in sorted(self.runners.items())]
        said += [f"{name} cannot run" for name in sorted(self.broken)]
        return ", ".join(said) or "no modules"

    @property
    def name(self) -> str:
        """This server's name: in the cluster, or its host name while it is in none."""
        return self.node or platform.node()

    def unfit(self, checked: Checked) -> list[Problem]:
        """Why a module of this configuration cannot run on this server."""
        problems = [p for p in checked.problems if p.severity == "error"]
        if checked.config is None:
            return [*problems, *self.cluster_problems]
        kind = self.manager.module_types().get(checked.config.service.mode)
        if kind is None:
            modes = ", ".join(sorted(self.manager.module_types()))
            mode = checked.config.service.mode
            problems.append(Problem("config.unknown-mode", f"no plugin brings the mode {mode}", f"one of: {modes}"))
        elif not getattr(kind, "clustered", True):
            return problems
        elif not self.cluster_problems:
            problems += [p for p in kind.check(checked.config, self.cluster) if p.severity == "error"]
        return [*problems, *self.cluster_problems]

    def ask(self, name: str) -> Mapping[str, Any]:
        """What a module of this server does; see ``ModuleContext.ask``."""
        runner = self.runners.get(name)
        if runner is None:
            return {}
        return {"state": runner.state.value, "readiness": runner.readiness.value, "starts": runner.starts}

    @staticmethod
    def _reboot() -> None:
        subprocess.Popen(shlex.split(os.environ.get(REBOOT, "systemctl reboot")), start_new_session=True)

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

    async def command(
        self, name: str, verb: Verb, identity_: str | None, drain: float | None = None
    ) -> asyncio.Future[None]:
        """Ask a module for something; before a start its files are read again, so that edits count.

        :param drain: seconds that a stop waits for the module's clients to leave; None: it does not wait.
        """
        if verb is Verb.START:
            await self.configurations.before_start(name)
        async with self._changing:
            runner = self.runner(name)
            person = identity_ is None
            if identity_ is not None and verb in (Verb.RESTART, Verb.STOPSTART, Verb.WAIT):
                return runner.automatic(verb, identity_)
            cause = "asked by an administrator" if person else f"asked by {identity_}"
            run = None if drain is None else runner.deeds.drained(drain)
            return runner.submit(verb, cause, person=person, run=run)

    # --- the rest -------------------------------------------------------------------------------

    def publish(self, event: Event) -> None:
        """Tell the agent's log and the plugins of an event."""
        level = logging.ERROR if event.severity in (Severity.ERROR, Severity.CRITICAL) else logging.INFO
        if not self._journal(event):
            text = set_in(f"{event.source}: {event.message}")
            log.log(level, "%s %s %s", event.severity.value, event.module, text)
        self.manager.event(event)
        for each in tuple(self.listeners):
            each(event)

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


def _stop(runner: ModuleRunner, cause: str, *, person: bool) -> asyncio.Future[None] | None:
    """Ask a module to stop; None when it is being stopped by force already."""
    try:
        return runner.submit(Verb.STOP, cause, person=person)
    except StateError:
        waiting = runner.desk.waiting or runner.desk.current
        return waiting.done if waiting is not None else None
