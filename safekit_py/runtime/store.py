"""What a module remembers of its past: every event, and every change of a resource. Bounded, oldest dropped first."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safekit_py.model.event import Event
from safekit_py.model.state import Severity
from safekit_py.runtime.clock import wall
from safekit_py.runtime.database import Database, Statement

KEEP = 20_000  # lines of log kept
KEEP_CHANGES = 20_000  # changes of resources kept
KEEP_EACH = 2_000  # changes of one resource kept, so that one that flaps does not push out the others
TRIM_EVERY = 500  # lines between two trims
CLOSED = 0.5  # seconds that a reader of a closed file waits: it must not ask again at once
LONGEST = 8192  # characters of one text; more is cut

SCHEMA = (
    (
        "CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, time REAL, kind TEXT, severity TEXT,"
        " source TEXT, message TEXT)",
    ),
    (
        "ALTER TABLE log ADD COLUMN data TEXT",
        "CREATE TABLE change (seq INTEGER PRIMARY KEY, time REAL, name TEXT, value TEXT, before TEXT, cause TEXT)",
        "CREATE INDEX change_by_name ON change (name, seq)",
    ),
)
LINE = "INSERT INTO log (time, kind, severity, source, message, data) VALUES (?, ?, ?, ?, ?, ?)"
CHANGE = "INSERT INTO change (time, name, value, before, cause) VALUES (?, ?, ?, ?, ?)"
COLUMNS = "seq, time, kind, severity, source, message, data"
RANKS = tuple(Severity)  # the gravest first


@dataclass(frozen=True, slots=True)
class Change:
    """A resource took a value.

    :param number: rises with each change.
    :param time: seconds since the epoch.
    :param cause: who or what set it.
    """

    number: int
    time: float
    name: str
    value: str
    before: str
    cause: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class EventLog:
    """The module's past, in one file.

    Each event has a number; numbers rise by one, also over a restart of the agent and when the log is emptied: a reader
    who names the last one it has seen misses nothing and sees nothing twice.
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path, SCHEMA)
        self._readers: set[asyncio.Future[None]] = set()
        rows = self._db.read("SELECT max(seq) FROM log")
        self._last = int(rows[0][0] or 0) if rows else 0
        self._tell_problems()

    @property
    def last(self) -> int:
        """The number of the newest event; 0 when there is none."""
        return self._last

    @property
    def closed(self) -> bool:
        """Whether the file is closed for good."""
        return self._db.closed

    # --- events ---------------------------------------------------------------------------------

    def append(self, event: Event) -> None:
        """Store one event; a full disk loses the line and nothing else."""
        lost, reason = self._db.lost, self._db.reason
        number = self._db.write(*self._history(event), (LINE, _row(event)))
        if number is None:
            return
        self._wrote(number)
        if lost:
            self._db.lost = 0
            self._say(Severity.WARNING, f"{lost} lines before this one were lost: {reason}")
        self._tell_problems()

    def tail(
        self, module: str, lines: int, after: int = 0, least: Severity = Severity.DEBUG
    ) -> list[tuple[int, Event]]:
        """The last events with a number above ``after``, oldest first, each with its number.

        :param lines: how many at most.
        :param least: the mildest severity that is wanted.
        """
        return self._events(module, lines, after, least, "DESC")[::-1]

    def since(self, module: str, after: int, lines: int, least: Severity = Severity.DEBUG) -> list[tuple[int, Event]]:
        """The first events with a number above ``after``, oldest first: what a reader wants who goes on.

        A reader whose last number is higher than any has read a file that was since set aside; it gets the new one's.
        """
        return self._events(module, lines, after if after <= self._last else 0, least, "ASC")

    async def news(self, after: int, seconds: float) -> None:
        """Return when there is an event with a number above ``after``, when the file is closed, or after some time."""
        if self._db.closed:
            await asyncio.sleep(min(seconds, CLOSED))
            return
        if after != self._last:
            return
        reader = asyncio.get_running_loop().create_future()
        self._readers.add(reader)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await reader
        finally:
            self._readers.discard(reader)

    def empty(self, who: str) -> None:
        """Delete all lines but the new one that says so; the numbers go on."""
        self._say(Severity.WARNING, f"the log was emptied: {who}")
        self._db.write(("DELETE FROM log WHERE seq < ?", (self._last,)))

    # --- changes of resources -------------------------------------------------------------------

    def change(self, name: str, value: str, before: str, cause: str) -> None:
        """Remember a change that no event tells of."""
        number = self._db.write((CHANGE, (wall(), name, _cut(value), before, _cut(cause))))
        if number is not None and number % TRIM_EVERY == 0:
            self._trim()

    def changes(self, name: str, count: int) -> list[Change]:
        """The last changes of one resource, oldest first; of all resources when ``name`` is empty."""
        which, values = ("WHERE name = ?", (name,)) if name else ("", ())
        rows = self._db.read(
            f"SELECT seq, time, name, value, before, cause FROM change {which} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - no text of others
            (*values, count),
        )
        return [Change(*row) for row in reversed(rows)]

    def forget(self) -> None:
        """Delete the changes of all resources."""
        self._db.write(("DELETE FROM change", ()))

    def close(self) -> None:
        """Close the file; whoever waits for news is sent away."""
        self._db.close()
        self._wake()

    # --- inside ---------------------------------------------------------------------------------

    def _events(self, module: str, lines: int, after: int, least: Severity, order: str) -> list[tuple[int, Event]]:
        wanted = RANKS[: RANKS.index(least) + 1]
        marks = ", ".join("?" * len(wanted))
        rows = self._db.read(
            f"SELECT {COLUMNS} FROM log WHERE seq > ? AND severity IN ({marks}) ORDER BY seq {order} LIMIT ?",  # noqa: S608 - no text of others
            (after, *wanted, lines),
        )
        return [(row[0], _event(module, row)) for row in rows]

    @staticmethod
    def _history(event: Event) -> list[Statement]:
        data = event.data
        if event.kind != "resource" or "resource" not in data:
            return []
        values = (data["resource"], data.get("value", ""), data.get("before", ""), data.get("cause", ""))
        return [(CHANGE, (event.time, *map(_cut, values)))]

    def _wrote(self, number: int) -> None:
        self._last = number
        if number % TRIM_EVERY == 0:
            self._trim()
        self._wake()

    def _trim(self) -> None:
        self._db.write(
            ("DELETE FROM log WHERE seq <= ?", (self._last - KEEP,)),
            ("DELETE FROM change WHERE seq <= (SELECT max(seq) FROM change) - ?", (KEEP_CHANGES,)),
            (
                "DELETE FROM change WHERE seq IN (SELECT seq FROM (SELECT seq, row_number() OVER"
                " (PARTITION BY name ORDER BY seq DESC) AS place FROM change) WHERE place > ?)",
                (KEEP_EACH,),
            ),
        )

    def _say(self, severity: Severity, message: str) -> None:
        number = self._db.write((LINE, _row(Event(wall(), "", severity, "store", message))))
        if number is not None:
            self._wrote(number)

    def _tell_problems(self) -> None:
        while self._db.problems:
            self._say(Severity.ERROR, str(self._db.problems.pop(0)))

    def _wake(self) -> None:
        for reader in tuple(self._readers):
            # Plugins may log from a thread of their own; a future belongs to its loop.
            reader.get_loop().call_soon_threadsafe(_resolve, reader)


def _resolve(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _row(event: Event) -> tuple[Any, ...]:
    data = json.dumps({k: _cut(v) for k, v in event.data.items()}) if event.data else None
    return event.time, event.kind, event.severity.value, _cut(event.source), _cut(event.message), data


def _event(module: str, row: tuple[Any, ...]) -> Event:
    _, time, kind, severity, source, message, data = row
    return Event(time, module, Severity(severity), source, message, kind, _data(data))


def _data(text: str | None) -> Mapping[str, str]:
    return dict(json.loads(text)) if text else {}
