"""The keeper: a small process that outlives the agent and, above all, the worker, so that a volume survives both.

It holds what must not be lost when the worker dies: the descriptor of /dev/fuse, without which the mounted file system
would be dead, and the listening control socket, whose connections then wait. It forks the worker, which has
everything imported already and so goes on within milliseconds, without a byte read from a disk that may be failing.

It is told what to do as lines of JSON on its own socket: ``mount``, ``status`` and ``stop``; and tells whoever is
connected of a worker's death. Where the kernel cannot ask again for what a worker had read (before Linux 6.9), nobody
would answer that any more: there the death of a worker that served ends the keeper too, as if it had been killed.

It ignores the signals that end a session or a service; the worker inherits that. When the keeper itself is killed, the
kernel kills the worker, and the mounted volumes fail with errors instead of hanging.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import system
from .request import VolumeFile
from .shared import DENY, OLD, Shared
from .start import Start

IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
WITHIN, PAUSE = 10.0, 5.0  # seconds: more deaths than the plan has within one, and the keeper waits for the other
LINE = 1 << 16  # bytes of one command at most
RUNNING = 3  # exit code: this module has a keeper


@dataclass(frozen=True, slots=True)
class Plan:
    """What the keeper is started with, as JSON on its standard input.

    :param module: names the sockets ``<run>/<module>.sock`` (the worker's) and ``<run>/<module>.keeper``, and the
        folder ``<run>/<module>`` on which the volumes' files are mounted.
    :param folder: of the images.
    :param worker: the Python module whose ``run`` is the worker.
    :param volumes: name and size of each.
    :param options: passed to the worker.
    :param deaths: of the worker within ten seconds, after which it is waited for.
    """

    module: str
    folder: str
    run: str
    worker: str
    volumes: tuple[tuple[str, int], ...]
    options: Mapping[str, Any]
    deaths: int = 5

    @classmethod
    def read(cls, text: str) -> Plan:
        """The plan out of its JSON."""
        values = json.loads(text)
        values["volumes"] = tuple((str(name), int(size)) for name, size in values["volumes"])
        return cls(**values)

    def path(self, suffix: str) -> Path:
        """A file of this module's in the folder of sockets."""
        return Path(self.run, self.module + suffix)


class Keeper:
    """One module's keeper; :meth:`loop` returns when it was told to stop.

    :param run: the worker.
    """

    def __init__(self, plan: Plan, run: Callable[[Start], None]) -> None:
        self.plan, self._run = plan, run
        self.lock = os.open(plan.path(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self.shared = Shared(denied=DENY in os.environ)
        self.listen, self._own = self._socket(".sock"), self._socket(".keeper")
        self.mounted, self.pid, self.pidfd, self.restarts = False, 0, -1, 0
        self._deaths: list[float] = []
        self._again_at = 0.0  # when the worker that died too often is started again; 0: it is not waited for
        self._callers: dict[socket.socket, bytes] = {}
        self._stopping = False
        self._selector = selectors.PollSelector()  # not epoll, which the worker would share after the fork

    def _socket(self, suffix: str) -> socket.socket:
        path = self.plan.path(suffix)
        path.unlink(missing_ok=True)  # the lock says that nobody listens there
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(str(path))
        made.listen(16)
        made.setblocking(False)
        return made

    def loop(self) -> None:
        """Keep, until told to stop."""
        self._selector.register(self._own, selectors.EVENT_READ, self._accept)
        self._fork(again=False)
        while not self._stopping:
            wait = max(0.0, self._again_at - time.monotonic()) if self._again_at else None
            for key, _ in self._selector.select(wait):
                if key.fileobj in self._selector.get_map():  # one of this round may have ended another
                    key.data(key.fileobj)
            if self._again_at and time.monotonic() >= self._again_at:
                self._again_at = 0.0
                self._fork(again=True)
        self._end()

    # --- the worker -----------------------------------------------------------------------------

    def _fork(self, *, again: bool) -> None:
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(parent, again=again)
        self.pidfd = os.pidfd_open(self.pid)
        self._selector.register(self.pidfd, selectors.EVENT_READ, self._died)

    def _work(self, parent: int, *, again: bool) -> None:
        """The worker's process, to its end."""
        code = 1
        try:
            system.die_with_parent(parent, signal.SIGKILL)
            system.harden(f"skvol-{self.plan.module}")
            for each in (self._own, *self._callers):
                each.close()
            os.close(self.lock)
            volumes = tuple(VolumeFile(name, size) for name, size in self.plan.volumes)
            plan, fds = self.plan, (self.listen.fileno(), self.fuse)
            start = Start(plan.module, plan.folder, *fds, again, self.mounted, volumes, plan.options, self.shared)
            self._run(start)
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _died(self, _: object) -> None:
        _, status = os.waitpid(self.pid, 0)
        self._selector.unregister(self.pidfd)
        os.close(self.pidfd)
        self.pid, self.pidfd = 0, -1
        code = os.waitstatus_to_exitcode(status)
        if code == 0:  # it has nothing more to do
            self._tell({"event": "ended"})
            return
        _note(f"the worker has died: {code}")
        if self.mounted and self.shared.resends is False:
            _note(OLD)
            self._tell({"event": "unserved", "cause": OLD, "status": code})
            self._stopping = True
            return
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if now - at < WITHIN] + [now]
        self.restarts += 1
        often = len(self._deaths) > self.plan.deaths
        if often:
            self._again_at = now + PAUSE
        else:
            self._fork(again=True)
        self._tell({"event": "failed" if often else "died", "status": code})

    # --- those who ask --------------------------------------------------------------------------

    def _accept(self, _: object) -> None:
        with suppress(OSError):
            caller, _ = self._own.accept()
            caller.setblocking(False)
            self._callers[caller] = b""
            self._selector.register(caller, selectors.EVENT_READ, self._hear)

    def _hear(self, caller: socket.socket) -> None:
        try:
            data = caller.recv(LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, rest = (self._callers[caller] + data).split(b"\n")
        if not data or len(rest) > LINE:
            self._drop(caller)
            return
        self._callers[caller] = rest
        for line in lines:
            self._say(caller, self._do(line))

    def _do(self, line: bytes) -> dict[str, Any]:
        try:
            what = json.loads(line)["do"]
            if what == "mount":
                self._mount()
            elif what == "stop":
                self._stopping = True
            elif what != "status":
                return {"error": f"there is no command {what!r}"}
        except OSError as error:
            return {"error": str(error), "errno": error.errno}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not a command: {error}"}
        ids = {"keeper": os.getpid(), "worker": self.pid}
        return {"ok": True, **ids, "restarts": self.restarts, "mounted": self.mounted, "folder": self.plan.folder}

    def _mount(self) -> None:
        if self.mounted:
            return
        target = self.plan.path("")
        target.mkdir(mode=0o700, exist_ok=True)
        options = f"fd={self.fuse},rootmode=40700,user_id={os.getuid()},group_id={os.getgid()}"
        flags = system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC
        system.mount("safekit", target, "fuse.safekit", flags, options)
        self.mounted = True

    def _say(self, caller: socket.socket, words: Mapping[str, Any]) -> None:
        try:
            caller.sendall(json.dumps(words).encode() + b"\n")
        except OSError:  # gone, or it does not read
            self._drop(caller)

    def _tell(self, words: Mapping[str, Any]) -> None:
        for caller in list(self._callers):
            self._say(caller, words)

    def _drop(self, caller: socket.socket) -> None:
        if self._callers.pop(caller, None) is not None:
            self._selector.unregister(caller)
            caller.close()

    def _end(self) -> None:
        """Nothing of this keeper is left when its lock is free."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fuse)  # the last one: what still waits fails, and nothing hangs behind it
        if self.mounted:
            with suppress(OSError):
                system.umount(self.plan.path(""), system.MNT_DETACH)
        for suffix in (".sock", ".keeper"):
            self.plan.path(suffix).unlink(missing_ok=True)


def _note(text: str) -> None:
    """Into the log, if it takes it: its disk may be full, and this process must live."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


def _redirect() -> None:
    """Whoever started this process is not kept waiting for an end of file; and its end cannot hang.

    When the last process of a mount namespace ends (a container that is killed), the kernel unmounts what is mounted
    there. Were that process the keeper or the worker, its own file systems would wait for the FUSE connection that it
    is just closing, for ever. Files are closed from the highest number down, so the lowest one holds the namespace
    itself: when it goes, the connection is closed already, and the unmount gets errors at once.
    """
    os.dup2(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), 0)
    os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 1)


def main() -> int:
    """Read the plan from standard input; say ``ready`` on standard output, then serve."""
    plan = Plan.read(sys.stdin.read())
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    Path(plan.run).mkdir(mode=0o700, parents=True, exist_ok=True)
    run = importlib.import_module(plan.worker).run
    try:
        keeper = Keeper(plan, run)
    except BlockingIOError:
        print(f"a keeper of {plan.module} is running", file=sys.stderr)
        return RUNNING
    refused = system.harden(f"skkeep-{plan.module}")
    print(json.dumps({"ready": os.getpid(), "refused": refused}), flush=True)
    _redirect()
    keeper.loop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
