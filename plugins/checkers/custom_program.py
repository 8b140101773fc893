"""One program of a module that runs as long as it is watched: started, its output kept, ended with all that it started.

Flows through it: argv and environment in; what the program writes, into the user log; how it ended, in words, out.
The pipes are read at a limited rate, so that a program that never stops writing is slowed down: it can fill neither
the disk nor the agent's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safekit_py.api import ScriptFailed, open_log, turn_over

CHUNK = 64 * 1024  # bytes read at once
RATE = 1024 * 1024  # bytes a second that are read of each of its two outputs
LAST = 2048  # bytes of which the last line is told
LINE = 200  # characters that are told
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
MARK = "SAFEKIT_CHECKER"  # in the environment of all that it starts: the resource, and the agent's process
PROC = Path("/proc")


class Output:
    """One pipe that the program writes into.

    :param write: gets what it writes.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.tail = b""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._end, self.theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._end, False)
        self._loop.add_reader(self._end, self._readable)

    def started(self) -> None:
        """The program has its end of the pipe now."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def close(self) -> None:
        """Take what is still there, and read no more: something that it left running may write for ever."""
        self.started()
        self._loop.remove_reader(self._end)
        with contextlib.suppress(EOFError):
            self._take()
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._end)

    def _readable(self) -> None:
        self._loop.remove_reader(self._end)
        with contextlib.suppress(EOFError):
            pause = self._take() / RATE
            self._timer = self._loop.call_later(pause, self._loop.add_reader, self._end, self._readable)

    def _take(self) -> int:
        """Read what is there, at most a chunk; its size."""
        try:
            data = os.read(self._end, CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            raise EOFError
        self.tail = (self.tail + data)[-LAST:]
        self._write(data)
        return len(data)


def into(log: Path | None, limit_kib: int) -> Callable[[bytes], None]:
    """Writes into the user log, which stays bounded; None: nowhere."""

    def write(data: bytes) -> None:
        if log is None:
            return
        with contextlib.suppress(OSError, ScriptFailed):  # a full disk, or a link that somebody has put there
            with os.fdopen(open_log(log), "ab", buffering=0) as output:
                output.write(data)
            turn_over(log, limit_kib)

    return write


async def run(argv: Sequence[str], env: Mapping[str, str], folder: Path, write: Callable[[bytes], None]) -> str:
    """Run a program until it ends, or until cancelled; then nothing of its process group is left.

    :param folder: its working directory.
    :return: how it ended, in words, with the last line of its stderr.
    :raises OSError: it cannot be started.
    """
    with contextlib.ExitStack() as stack:
        out, err = Output(write), Output(write)
        stack.callback(out.close)
        stack.callback(err.close)
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out.theirs,
            stderr=err.theirs,
            env=dict(env),
            cwd=folder,
            start_new_session=True,
        )
        out.started()
        err.started()
        try:
            status = await process.wait()
        finally:
            await _end(process)
    return _words(Path(argv[0]).name, status, err.tail)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of its process group is left, and no zombie."""
    ended = asyncio.ensure_future(process.wait())
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        await asyncio.wait((ended,), timeout=GRACE)  # asyncio.timeout would not do in a task that is being cancelled
    _signal(process.pid, signal.SIGKILL)
    await ended


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _words(name: str, status: int, tail: bytes) -> str:
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    last = "".join(c for c in lines[-1] if c.isprintable())[:LINE] if lines else ""
    return f"{name} {ended}: {last}" if last else f"{name} {ended}"


def mark(resource: str) -> str:
    """The value of ``MARK`` for what this agent starts."""
    return f"{resource}@{os.getpid()}"


def end_orphans(resource: str, environment: Mapping[str, str]) -> int:
    """Kill what an earlier agent that was killed started for this resource; a new one must not find a rival.

    :param environment: of the program; an orphan has the same module and server.
    :return: how many.
    """
    wanted = {f"{key}={environment[key]}".encode() for key in ("SAFEMODULE", "SAFEKIT_ROOT")}
    killed = 0
    for pid in (int(each.name) for each in PROC.iterdir() if each.name.isdigit()):
        if not _orphan(pid, wanted, resource):
            continue
        with contextlib.suppress(OSError):
            held = os.pidfd_open(pid)
            try:
                if _orphan(pid, wanted, resource):  # looked at again now that the number cannot change its owner
                    signal.pidfd_send_signal(held, signal.SIGKILL)
                    killed += 1
            finally:
                os.close(held)
    return killed


def _orphan(pid: int, wanted: set[bytes], resource: str) -> bool:
    try:
        found = set((PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:  # it has ended, or belongs to somebody whom we may not look at
        return False
    start, own = f"{MARK}={resource}@".encode(), f"{MARK}={mark(resource)}".encode()
    return wanted <= found and own not in found and any(each.startswith(start) for each in found)
