"""Runs one checker and keeps what it reports, each with the time since it began."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safekit_py.model.plugin import Checker
from safekit_py.testing.clock import FakeClock


@dataclass(frozen=True, slots=True)
class Report:
    """One report of a checker.

    :param at: seconds since it was started.
    """

    at: float
    status: str
    cause: str


def watch(clock: FakeClock, checker: Checker, seconds: float = 30.0) -> list[Report]:
    """Run a checker and give back its reports; what it raises is raised here.

    :param seconds: of the fake clock, or real ones for a checker whose ``run`` is a plain function.
    """
    found: list[Report] = []
    run: Any = checker.run
    if not inspect.iscoroutinefunction(run):
        _in_thread(run, found, seconds)
        return found
    began = clock.now
    try:
        clock.run(run(_keeper(found, lambda: clock.now - began)), limit=seconds)
    except TimeoutError:
        if clock.now - began < seconds:  # its own, not ours
            raise
    return found


def _keeper(found: list[Report], age: Callable[[], float]) -> Callable[[str, str], None]:
    def report(status: str, cause: str) -> None:
        found.append(Report(round(age(), 6), str(status), cause))

    return report


def _in_thread(run: Callable[..., None], found: list[Report], seconds: float) -> None:
    stop, began = threading.Event(), time.monotonic()
    timer = threading.Timer(seconds, stop.set)
    timer.daemon = True
    timer.start()
    try:
        run(_keeper(found, lambda: time.monotonic() - began), stop)
    finally:
        timer.cancel()
