"""What a module must remember: its log (SQLite, bounded) and whether it should run (a small file)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from safekit_py.model.event import Event
from safekit_py.model.state import Severity
from safekit_py.runtime.files import write_atomically

KEEP = 20_000  # lines of log kept
TRIM_EVERY = 500  # lines between two trims


class EventLog:
    """The module's events, oldest dropped first. Write-ahead logging keeps it whole through a power loss."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-256")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, time REAL, kind TEXT, severity TEXT,"
            " source TEXT, message TEXT)"
        )

    def append(self, event: Event) -> None:
        """Store one event; a full disk loses the line and nothing else."""
        try:
            cursor = self._db.execute(
                "INSERT INTO log (time, kind, severity, source, message) VALUES (?, ?, ?, ?, ?)",
                (event.time, event.kind, event.severity.value, event.source, event.message),
            )
            if cursor.lastrowid and cursor.lastrowid % TRIM_EVERY == 0:
                self._db.execute("DELETE FROM log WHERE seq <= ?", (cursor.lastrowid - KEEP,))
        except sqlite3.OperationalError:
            return

    def tail(self, module: str, lines: int, after: int = 0) -> list[tuple[int, Event]]:
        """The last ``lines`` events with a number above ``after``, oldest first, each with its number."""
        rows = self._db.execute(
            "SELECT seq, time, kind, severity, source, message FROM log WHERE seq > ? ORDER BY seq DESC LIMIT ?",
            (after, lines),
        ).fetchall()
        return [(r[0], Event(r[1], module, Severity(r[3]), r[4], r[5], r[2])) for r in reversed(rows)]

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class Wish:
    """Whether the module should run, and why it stopped, kept over a crash of the agent and a boot."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[bool, str]:
        """Whether it should run, and the reason that was given; not to run when nothing readable is there."""
        try:
            values = json.loads(self._path.read_text())
            return bool(values["started"]), str(values["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return False, ""

    def write(self, started: bool, reason: str) -> None:
        """Remember; a full disk is survived, the wish then lasts as long as the agent."""
        try:
            write_atomically(self._path, json.dumps({"started": started, "reason": reason}).encode())
        except OSError:
            return
