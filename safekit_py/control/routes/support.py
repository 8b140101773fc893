"""Routes for support: what the agent is doing, and the removal of what a module has left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Literal

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from safekit_py import __version__
from safekit_py.control.access import Role
from safekit_py.control.records import Cleaned, Dump, Process
from safekit_py.control.routing import Routes
from safekit_py.errors import Problem, StateError, SystemProblem
from safekit_py.model.state import Severity
from safekit_py.runtime import leftovers
from safekit_py.runtime.agent import Agent
from safekit_py.runtime.commandlog import who

STATM = Path("/proc/self/statm")
SNAPSHOT = 120.0  # seconds that it may take
DEVNULL = asyncio.subprocess.DEVNULL


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["support"], changes=Role.CONTROL)
    began = time.monotonic()

    @routes.get("/dump", role=Role.CONTROL)
    async def dump() -> Dump:
        """What the agent is doing: its tasks and threads, and where each stands. No values of variables."""
        return Dump(
            version=__version__,
            uptime=time.monotonic() - began,
            memory=int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024,
            tasks=sorted(task_line(task) for task in asyncio.all_tasks()),
            threads=[thread_lines(number, frame) for number, frame in sys._current_frames().items()],
        )

    @routes.get("/snapshot", role=Role.ADMIN, gives="application/zip")
    async def snapshot(module: str = "") -> Response:
        """What support needs, as a zip file; no key and no password is in it. With ``module`` about that one only."""
        if module and module not in agent.broken:
            agent.runner(module)  # says that there is none; what is no module's name would be a path
        file = await _packed(agent, module)
        name = f"snapshot-{agent.name}-{time.strftime('%Y%m%d%H%M%S')}.zip"
        after = BackgroundTask(shutil.rmtree, file.parent, ignore_errors=True)
        return FileResponse(file, media_type="application/zip", filename=name, background=after)

    @routes.get("/process")
    async def process() -> Process:
        """Which process the agent is, and of which version."""
        return Process(pid=os.getpid(), version=__version__)

    @routes.post("/renew", role=Role.ADMIN)
    async def renew() -> Process:
        """Replace the agent's process by one of the installed version while modules go on; the one that is to come."""
        if agent.renew is None:
            raise StateError(
                Problem("agent.renewing", "the agent is about to start or to end", "ask again in a moment")
            )
        return Process(pid=await agent.renew())

    @routes.post("/modules/{name}/clean/{what}", role=Role.ADMIN)
    async def clean(name: str, what: Literal["all", "log", "process", "resource"], request: Request) -> Cleaned:
        """Empty a module's logs, forget its resources' past, or end what its stopped application left."""
        runner = agent.runner(name)
        peer = request.state.note.peer
        if what in ("all", "process") and not runner.stopped:
            raise StateError(
                Problem(
                    "clean.not-stopped",
                    f"{name} is not stopped: its processes are at work",
                    f"stop it first: safekit-py stop {name}",
                )
            )
        done: list[str] = ["process", "resource", "log"] if what == "all" else [what]
        ended: list[leftovers.Process] = []
        if "process" in done:
            ended = await asyncio.to_thread(leftovers.end, name, agent.paths, (peer.pid,))
        if "resource" in done:
            runner.store.forget()
        if "log" in done:
            runner.store.empty((await asyncio.to_thread(who, peer))["user"])
            await asyncio.to_thread(empty_user_log, runner.scripts.log)
        for process in ended:
            runner.log(Severity.WARNING, "clean", f"process {process.pid} ({process.name}) was left and is ended")
        return Cleaned(done=done, processes=[f"{each.pid} {each.name}" for each in ended])

    return routes


async def _packed(agent: Agent, module: str) -> Path:
    """A snapshot, in a folder of its own that the caller removes.

    :raises SystemProblem: it could not be made.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="safekit-"))
    file = folder / "snapshot.zip"
    # By a child, as the command makes it: it reads more than the agent should hold.
    words = ["snapshot", *(["-m", module] if module else []), "-o", str(file)]
    command = (sys.executable, "-m", "safekit_py", "--root", str(agent.paths.root), *words)
    child, made = None, False
    try:
        child = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, stdout=DEVNULL)
        _, said = await asyncio.wait_for(child.communicate(), SNAPSHOT)
        if child.returncode:
            last = said.decode(errors="replace").strip()[-500:]
            raise SystemProblem(Problem("snapshot.failed", f"the snapshot cannot be made: {last}", "look there"))
        made = True
    except TimeoutError:
        text = f"the snapshot was not made in {SNAPSHOT:g} s"
        raise SystemProblem(Problem("snapshot.failed", text, "safekit-py snapshot, on the server")) from None
    finally:
        if child is not None and child.returncode is None:
            child.kill()
        if not made:
            shutil.rmtree(folder, ignore_errors=True)
    return file


def empty_user_log(path: Path) -> None:
    """Empty the scripts' output, in place: an application that still writes to it keeps its file."""
    for each in (path, path.with_name(f"{path.name}.1")):
        if each.exists() and not each.is_symlink():
            os.truncate(each, 0)


def task_line(task: asyncio.Task[object]) -> str:
    """A task and where it stands."""
    places = [f"{Path(f.f_code.co_filename).name}:{f.f_lineno} {f.f_code.co_name}" for f in task.get_stack()]
    return f"{task.get_name()}: {' > '.join(places) or 'about to begin'}"


def thread_lines(number: int, frame: FrameType) -> str:
    """A thread and where it stands, a line for each call."""
    names = {each.ident: each.name for each in threading.enumerate()}
    lines = (f"  {f.filename}:{f.lineno} {f.name}" for f in traceback.extract_stack(frame))
    return "\n".join((names.get(number, str(number)), *lines))
