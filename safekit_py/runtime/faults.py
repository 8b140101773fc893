"""What is known of one plugin, and its faults: counted, named, each with the plugin's own part of the traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from safekit_py.errors import Problem, SafekitError

KEPT = 10  # problems of one plugin that are kept
DEPTH = 20  # frames of a traceback that are kept
LOUD = 10  # faults of one plugin that are each logged; of the later ones every hundredth
OURS = (
    "safekit_py",
    "pluggy",
    "click",
    "fastapi",
    "starlette",
    "uvicorn",
    "anyio",
    "asyncio",
    "contextlib",
    "importlib",
)


@dataclass(slots=True)
class Loaded:
    """One plugin.

    :param origin: where it comes from: ``built-in``, a package with its version, or a file.
    :param hooks: the hooks that it implements.
    :param problems: what is wrong with it, the last ones.
    :param faults: how often it has raised, stalled or contributed something wrong.
    :param last: the last fault's traceback, from the plugin's first frame on.
    :param brings: what it contributes, by kind (``actions``, ``routes`` …), as far as it has been asked.
    """

    name: str
    origin: str
    hooks: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    version: str = ""
    faults: int = 0
    last: str = ""
    brings: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, part: str, error: BaseException) -> Problem | None:
        """Count a fault.

        :return: what to log of it, or None: a plugin that fails all the time must not fill the log.
        """
        self.faults += 1
        self.last = cut(error)
        problem = failed(self.name, part, error)
        self.problems = [*self.problems[1 - KEPT :], problem]
        return problem if self.faults <= LOUD or self.faults % 100 == 0 else None


def failed(name: str, part: str, error: BaseException) -> Problem:
    """The finding for a plugin's exception, with the place in the plugin's own code."""
    own = list(_own(error.__traceback__))
    mine = [each for each in own if _package(each) == _package(own[0])]
    file, line = (mine[-1].tb_frame.f_code.co_filename, mine[-1].tb_lineno) if mine else ("", 0)
    remedy = "report it to the plugin's author"
    return Problem("plugin.failed", f"plugin {name} failed in {part}: {said(error)}", remedy, file, line)


def said(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, SafekitError):
        return error.problems[0].message
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}".rstrip(": ")


def cut(error: BaseException) -> str:
    """The traceback without the frames that lead to the plugin."""
    own = next(_own(error.__traceback__), None)
    lines = traceback.format_exception(type(error), error, own, limit=DEPTH, chain=False)
    return "".join(lines).rstrip()


def _own(trace: TracebackType | None) -> Iterator[TracebackType]:
    """Where the plugin's frames begin, and all after."""
    while trace is not None and ours(trace.tb_frame.f_globals):
        trace = trace.tb_next
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _package(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).rpartition(".")[0] or trace.tb_frame.f_code.co_filename


def ours(names: dict[str, Any]) -> bool:
    """Whether these are the globals of the engine, or of a library that calls plugins for it."""
    module = str(names.get("__name__", ""))
    return module.partition(".")[0] in OURS and not module.startswith("safekit_py.plugins.")
