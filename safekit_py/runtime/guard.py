"""Ends plugin code that blocks the agent's event loop, and names whose it was.

Flows through it: calls and coroutines of plugins in; their results out, or ``PluginStalled``. A thread asks the loop
for a sign of life at an interval. When none comes for ``LIMIT`` seconds, it sends a signal to the main thread, whose
handler looks at what runs there: a plugin's code is ended by an exception, so that ``time.sleep``, a blocking read and
a Python loop all end; the engine's own code is left alone and only reported. Code in C that neither returns to Python
nor waits for the kernel cannot be ended this way.

Invariant: nothing is interrupted but frames between the innermost one and a call that this module made for a plugin,
and only when no frame of the engine stands between them and the same plugin was seen at work one look earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

LIMIT = 2.0  # seconds that the loop may be silent
EVERY = 0.5  # seconds between two signs of life
SIGNAL = signal.SIGRTMIN + 5  # one that nothing else uses
ENGINE = "safekit_py."
PASSING = (  # plugins of our own, and the parts of the engine that only stand between the guard and a plugin
    "safekit_py.plugins.",
    "safekit_py.testing.",
    "safekit_py.runtime.fitness",
    "safekit_py.runtime.shield",
    "safekit_py.control.mounted",
)

Result = TypeVar("Result")
Fault = Callable[[str, BaseException], None]
log = logging.getLogger("safekit.guard")
_owner: contextvars.ContextVar[str] = contextvars.ContextVar("safekit_plugin", default="")


class PluginStalled(Exception):
    """Plugin code held the agent up and was ended."""


class PluginExit(Exception):
    """Plugin code asked the whole agent to exit; only that code ends."""


class _Interrupt(BaseException):
    """Ends the plugin's frames; no ``except Exception`` of a plugin can swallow it."""


def call(owner: str, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a plugin's function.

    :param owner: whose it is, in words: the plugin, and what of it.
    :raises PluginStalled: it was ended because it held up the event loop.
    :raises PluginExit: it called ``sys.exit``.
    """
    token = _owner.set(owner)
    try:
        return function(*args, **kwargs)
    except _Interrupt:
        raise _stalled(owner) from None
    except (SystemExit, KeyboardInterrupt) as error:
        raise _exited(error) from None
    finally:
        _owner.reset(token)


async def task(owner: str, run: Awaitable[Result]) -> Result:
    """Wait for a plugin's coroutine; for the arguments and the errors see :func:`call`."""
    token = _owner.set(owner)
    try:
        return await run
    except _Interrupt:
        raise _stalled(owner) from None
    except (SystemExit, KeyboardInterrupt) as error:
        raise _exited(error) from None
    finally:
        _owner.reset(token)


@contextlib.contextmanager
def within(seconds: float, owner: str) -> Iterator[None]:
    """Limit the time of plugin code that runs before, or without, an event loop; only in the main thread.

    :raises PluginStalled: it took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_number: int, _frame: FrameType | None) -> None:
        raise PluginStalled(f"{owner} took more than {seconds:g} s and was interrupted")

    before = signal.signal(signal.SIGALRM, late)
    # Again each second: code that swallows one exception meets the next.
    left, every = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, every)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)


def _stalled(owner: str) -> PluginStalled:
    return PluginStalled(f"{owner} blocked the agent for more than {LIMIT:g} s and was interrupted")


def _exited(error: BaseException) -> PluginExit:
    return PluginExit(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)


async def _contained(owner: str, run: Coroutine[Any, Any, Any]) -> Any:
    """A task that a plugin made: its ``sys.exit`` must not end the event loop."""
    try:
        return await run
    except _Interrupt:
        raise _stalled(owner) from None
    except (SystemExit, KeyboardInterrupt) as error:
        raise _exited(error) from None


_BORDERS: tuple[CodeType, ...] = (call.__code__, task.__code__, _contained.__code__)


def culprit(frame: FrameType | None) -> str:
    """Whose plugin code runs in this frame; empty when it is the engine's or nobody's."""
    while frame is not None:
        if frame.f_code in _BORDERS:
            return str(frame.f_locals["owner"])
        name = str(frame.f_globals.get("__name__", ""))
        if name == "asyncio.events":  # a callback that a plugin asked for carries its owner in its context
            return _owner.get()
        if name.startswith(ENGINE) and not name.startswith(PASSING):
            return ""
        frame = frame.f_back
    return ""


def _factory(loop: asyncio.AbstractEventLoop, run: Any, **options: Any) -> Any:
    context = options.get("context")
    owner = _owner.get() if context is None else context.get(_owner, "")
    return asyncio.Task(_contained(owner, run) if owner and asyncio.iscoroutine(run) else run, loop=loop, **options)


class Guard:
    """Watches one event loop, that of the main thread.

    :param fault: is told the owner and the exception of what is interrupted, in the loop's thread; the exception's
        traceback is that of the plugin's frames.
    """

    def __init__(self, fault: Fault = lambda _owner, _error: None) -> None:
        self._fault = fault
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = self._answered = 0
        self._ending = False  # the next signal ends what it finds; else it only looks
        self._seen = ""
        self._told = -1
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: Any = None

    def start(self) -> None:
        """Begin to watch the running loop. Without effect outside of the main thread: only that gets signals."""
        if threading.current_thread() is not threading.main_thread() or self._thread is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(_factory)
        self._stop.clear()
        self._before = signal.signal(SIGNAL, self._signalled)
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        if self._loop is not None:
            self._loop.set_task_factory(None)
        signal.signal(SIGNAL, self._before)

    def _watch(self) -> None:
        """In the thread. Counts its own rounds, not the clock: a machine that slept does not look like a stall."""
        main, silent = threading.main_thread().ident or 0, 0
        while not self._stop.wait(EVERY):
            if self._answered == self._asked:
                silent = 0
                self._ask()
                continue
            silent += 1
            if silent % max(1, round(LIMIT / EVERY / 2)) == 0:
                self._ending = silent * EVERY >= LIMIT
                signal.pthread_kill(main, SIGNAL)

    def _ask(self) -> None:
        self._asked += 1
        asked = self._asked

        def answer() -> None:
            self._answered = asked

        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(answer, context=contextvars.Context())
        except RuntimeError:  # the loop is closed
            self._stop.set()

    def _signalled(self, _number: int, frame: FrameType | None) -> None:
        """In the main thread, between two steps of whatever runs there."""
        if self._answered == self._asked:
            return
        owner = culprit(frame)
        if not self._ending:
            self._seen = owner
            return
        again, self._seen = self._seen, owner
        if not owner:
            self._tell(frame)
        elif owner == again and sys.gettrace() is None:  # under a debugger a person decides
            self._fault(owner, _stalled(owner).with_traceback(_trace(frame)))
            raise _Interrupt

    def _tell(self, frame: FrameType | None) -> None:
        """The agent's own code is slow: say so once a stall."""
        if self._told != self._asked:
            self._told = self._asked
            where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"
            log.warning("the event loop has been held up for %g s, by no plugin; now at %s", LIMIT, where)


def _trace(frame: FrameType | None) -> TracebackType | None:
    """The plugin's frames up to where it was interrupted, as a traceback."""
    found: TracebackType | None = None
    while frame is not None and frame.f_code not in _BORDERS and frame.f_globals.get("__name__") != "asyncio.events":
        found = TracebackType(found, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return found
