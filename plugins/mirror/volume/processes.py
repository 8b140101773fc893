"""The keeper of a module's volumes and its worker, as the agent sees them: started, told what to do, heard, and ended.

JSON lines go over two UNIX sockets: orders and their answers, and what happens. The worker's successor is found again
after a death; the keeper says how often that was.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safekit_py.api import Problem, SafekitError, Severity

from ..seams import VolumeEvent

START_LIMIT = 20.0  # seconds for the keeper to come up
REFRESH = 1.0  # seconds between two looks at the worker's figures
RECONNECT = 0.02  # seconds between two attempts to reach a worker that was started again
ORDER_LIMIT = 30.0  # seconds for an order that does nothing long
STOP_LIMIT = 5.0  # seconds for it to end, before it is killed


def problem(code: str, text: str, remedy: str) -> SafekitError:
    """An error that a person can act on."""
    return SafekitError(Problem(code, text, remedy))


class Inherited:
    """A process that is not a child of this one, as far as it is asked here.

    :param pidfd: its descriptor, which is this object's from now on.
    """

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def __del__(self) -> None:
        os.close(self._pidfd)

    @property
    def returncode(self) -> int | None:
        """None while it runs; how it has ended is not known."""
        return 0 if select.select([self._pidfd], [], [], 0)[0] else None

    async def wait(self) -> None:
        """Until it has ended."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


class Processes:
    """Of one module.

    :param run: folder of the sockets.
    :param log: writes a line to the module's log.
    :param told: what happens to them, and what the worker tells.
    :param heard: every word of the worker, first.
    :param met: a worker is there, the first or a successor: it knows nothing yet.
    :ivar status: what the worker said of itself last.
    :ivar restarts: of the worker of this keeper.
    """

    def __init__(
        self,
        name: str,
        run: Path,
        *,
        log: Callable[[Severity, str], None],
        told: Callable[[VolumeEvent], None],
        heard: Callable[[Mapping[str, Any]], None],
        met: Callable[[], None],
    ) -> None:
        self._name, self._run = name, run
        self._log, self._told, self._heard_word, self._met = log, told, heard, met
        self._keeper: asyncio.subprocess.Process | Inherited | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._number = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.status: Mapping[str, Any] = {}
        self.restarts, self._ended = 0, ""  # why the keeper has ended

    @property
    def connected(self) -> bool:
        """Whether a worker listens."""
        return self._writer is not None

    async def start(self, plan: str, folder: Path) -> None:
        """Start them.

        :param plan: of the keeper; see ``keeper.Plan``.
        :param folder: where ``volume.log`` takes their last words.
        :raises SafekitError: they did not start.
        """
        self.restarts, self._ended = 0, ""
        log = await asyncio.to_thread(_open_log, folder)
        try:
            self._keeper = keeper = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"{__package__}.keeper"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.write(plan.encode())
        keeper.stdin.close()
        try:
            async with asyncio.timeout(START_LIMIT):
                ready = await keeper.stdout.readline()
        except TimeoutError:
            ready = b""
        if not ready:
            text = "the volume process did not start"
            raise problem("rfs.no-process", text, "see volume.log in the module's folder of $SAFEVAR/modules")
        self._spawn(self._watch_keeper())
        await self._connect()

    async def _connect(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(self._run / f"{self._name}.sock", limit=1 << 22)
        self._spawn(self._read(reader))
        self._met()
        self._spawn(self._refresh(self._writer))

    async def _watch_keeper(self) -> None:
        """The keeper says when the worker has died, and whether it was started again."""
        with suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self._keeper_path)
            try:
                while line := await reader.readline():
                    said = json.loads(line)
                    if said.get("event") == "failed":
                        self._told(VolumeEvent("failed", "the volume process dies again and again"))
                    elif said.get("event") == "died":
                        self.restarts += 1
                        self._told(VolumeEvent("restarted", "the volume's process died and was started again"))
                    elif said.get("event") == "unserved":  # the keeper ends, which is told when it has
                        self._ended = said["cause"]
            finally:
                writer.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh(self, writer: asyncio.StreamWriter) -> None:
        while self._writer is writer:
            with suppress(SafekitError):
                self.status = await self.order("status")
            await asyncio.sleep(REFRESH)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """What the worker says, and its successor after it."""
        while True:
            try:
                line = await reader.readline()
            except (OSError, ValueError):
                line = b""
            if line:
                self._heard(json.loads(line))
                continue
            self._writer = None
            self._fail_waiting()
            keeper = self._keeper
            while keeper is not None and keeper is self._keeper and keeper.returncode is None:
                with suppress(OSError):
                    await self._connect()
                    return
                await asyncio.sleep(RECONNECT)
            if keeper is not None and keeper is self._keeper:
                self._told(VolumeEvent("failed", self._ended or "the keeper of the volume has ended"))
            return

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(problem("rfs.process-died", "the volume process died", "it is started again"))

    def _heard(self, said: Mapping[str, Any]) -> None:
        self._heard_word(said)
        if "event" in said:
            self._told(VolumeEvent(said["event"], said.get("cause") or "", said.get("data") or {}))
            return
        future = self._waiting.pop(said.get("id", 0), None)
        if future is None or future.done():
            return
        if "error" in said:
            code = said.get("code", "rfs.refused")
            future.set_exception(problem(code, said["error"], "see volume.log in the module's folder"))
        else:
            future.set_result(said["ok"])

    def send(self, words: Mapping[str, Any]) -> None:
        """Something that needs no answer; nothing when no worker listens."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(words).encode() + b"\n")

    async def order(self, verb: str, *, limit: float = ORDER_LIMIT, **values: Any) -> Mapping[str, Any]:
        """One order, and the worker's answer.

        :raises SafekitError: it refuses, does not answer, or does not run.
        """
        if self._writer is None:
            raise problem("rfs.no-process", "the volume process does not run", "start the module")
        self._number += 1
        number = self._number
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.send({"id": number, "do": verb, **values})
        try:
            async with asyncio.timeout(limit):
                return await future
        except TimeoutError:
            raise problem("rfs.no-answer", f"the volume process did not answer to {verb}", "see volume.log") from None
        finally:
            self._waiting.pop(number, None)

    @property
    def _keeper_path(self) -> Path:
        return self._run / f"{self._name}.keeper"

    async def order_keeper(self, verb: str) -> None:
        """One order for the keeper itself."""
        reader, writer = await asyncio.open_unix_connection(self._keeper_path)
        try:
            writer.write(json.dumps({"do": verb}).encode() + b"\n")
            async with asyncio.timeout(ORDER_LIMIT):
                while line := await reader.readline():
                    said = json.loads(line)
                    if "error" in said:
                        raise problem("rfs.mount", f"{verb}: {said['error']}", "see volume.log")
                    if "ok" in said:
                        return
        finally:
            writer.close()

    async def adopt(self) -> None:
        """Go on with the keeper and the worker that another process has started, and has left.

        :raises OSError: nobody listens there.
        """
        reader, writer = await asyncio.open_unix_connection(self._keeper_path)
        try:
            self._keeper = Inherited(_other_end(writer))
            writer.write(b'{"do": "status"}\n')
            self.restarts = json.loads(await reader.readline())["restarts"]
        except ValueError as error:
            raise ConnectionResetError("the keeper has just ended") from error
        finally:
            writer.close()
        self._spawn(self._watch_keeper())
        await self._connect()

    def leave(self) -> None:
        """Let go of keeper and worker, which go on."""
        writer, self._writer = self._writer, None
        self._keeper = None
        if writer is not None:
            writer.close()
        self._fail_waiting()
        for task in tuple(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()

    async def stop(self) -> None:
        """End keeper and worker, those of an earlier agent too."""
        keeper = self._keeper
        self.leave()
        with suppress(OSError):
            await self._end_keeper()
        if keeper is not None:
            try:
                async with asyncio.timeout(STOP_LIMIT):
                    await keeper.wait()
            except TimeoutError:
                keeper.kill()
                await keeper.wait()

    async def _end_keeper(self) -> None:
        """Tell whoever listens there to stop, and kill it when it does not: a stopped keeper would keep the volume."""
        reader, writer = await asyncio.open_unix_connection(self._keeper_path)
        pid = 0
        try:
            pid = _other_end(writer)
            writer.write(b'{"do": "stop"}\n')
            async with asyncio.timeout(STOP_LIMIT):
                while await reader.readline():
                    continue
        except TimeoutError:
            self._log(Severity.WARNING, "the keeper of the volume does not stop, and is killed")
            signal.pidfd_send_signal(pid, signal.SIGKILL)
            await asyncio.to_thread(select.select, [pid], [], [], STOP_LIMIT)
        finally:
            if pid:
                os.close(pid)
            writer.close()


def _other_end(writer: asyncio.StreamWriter) -> int:
    """A descriptor of the process that listens there."""
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return os.pidfd_open(int.from_bytes(found[:4], sys.byteorder))


def _open_log(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / "volume.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
