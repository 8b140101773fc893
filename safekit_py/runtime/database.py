"""One small SQLite file that is never in the way of the work: every fault of it costs lines, and nothing else.

Flows through it: statements in, rows out. Write-ahead logging keeps the file whole through a kill and a power loss. A
file that is damaged all the same is set aside as ``NAME.bad-1`` and a new one begun. While the disk is full or the file
cannot be opened, what is written is counted as lost, and the file is tried again later.

The lock is exclusive: SQLite then keeps its index of the write-ahead log on the heap instead of mapping a file. A bad
sector under such a map would end the whole agent by a signal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safekit_py.errors import Problem

RETRY = 5.0  # seconds between two tries to open a file that could not be opened
BUSY = 0.2  # seconds to wait for somebody else's lock; the agent's event loop waits too
KEEP_BAD = 3  # damaged files kept; the oldest goes first
PARTS = ("", "-wal", "-shm")  # the files that are one database
BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
PRAGMAS = (
    "page_size=1024",  # small lines, little memory: there are as many of these files as there are modules
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "cache_size=-64",  # KiB
    "wal_autocheckpoint=512",
    "journal_size_limit=1048576",
)

log = logging.getLogger("safekit.store")

Statement = tuple[str, Sequence[Any]]


class Database:
    """The file.

    :param path: its place; the folder is made.
    :param schema: the statements of each version, oldest first; a file of an older version gets those that it lacks.
    """

    def __init__(self, path: Path, schema: Sequence[Sequence[str]]) -> None:
        self.path, self._schema = path, schema
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._tried = float("-inf")
        self.closed = False
        self.problems: list[Problem] = []  # what the owner should log, once; it takes them out
        self.lost = 0  # writes lost since the last one that was not
        self.reason = ""  # why
        with self._lock:
            self._connection()

    def write(self, *statements: Statement) -> int | None:
        """Carry out statements as one transaction.

        :return: the number of the row that the last of them inserted; None: nothing was written.
        """
        with self._lock:
            for _ in range(2):  # once more when the first try has found the file broken
                db = self._connection()
                if db is None:
                    break
                try:
                    return self._transaction(db, statements)
                except sqlite3.Error as error:
                    if not self._faulty(error):
                        break
            self.lost += 1
            return None

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows; none when the file cannot be read."""
        with self._lock:
            db = self._connection()
            if db is None:
                return []
            try:
                return db.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                self._faulty(error)
                return []

    def close(self) -> None:
        """Close the file for good."""
        with self._lock:
            self.closed = True
            self._drop()

    @staticmethod
    def _transaction(db: sqlite3.Connection, statements: Sequence[Statement]) -> int | None:
        try:
            db.execute("BEGIN IMMEDIATE")
            number = None
            for sql, parameters in statements:
                number = db.execute(sql, parameters).lastrowid
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        return number

    def _faulty(self, error: sqlite3.Error) -> bool:
        """Take note of a fault; whether another try is worth it."""
        self.reason = str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in BROKEN:
            self._set_aside(str(error))
            return True
        if code != sqlite3.SQLITE_FULL:  # a full disk leaves the connection sound
            self._drop()
            self._tried = time.monotonic()
        return False

    def _connection(self) -> sqlite3.Connection | None:
        if self._db is None and not self.closed and time.monotonic() - self._tried >= RETRY:
            self._tried = time.monotonic()
            for _ in range(2):
                try:
                    self._db = self._open()
                    break
                except (sqlite3.Error, OSError) as error:
                    if not isinstance(error, sqlite3.Error) or not self._faulty(error):
                        self.reason = str(error)
                        break
        return self._db

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640))
        db = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=BUSY, cached_statements=16
        )
        try:
            for pragma in PRAGMAS:
                db.execute(f"PRAGMA {pragma}")
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise _broken(str(found))
            self._upgrade(db)
            db.execute("PRAGMA shrink_memory")  # the check has filled the cache
        except BaseException:
            db.close()
            raise
        return db

    def _upgrade(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(self._schema):
            raise _broken(f"it was written by a newer version (schema {version})")
        for number, statements in enumerate(self._schema[version:], version + 1):
            # The pragma is part of the transaction: a kill in between leaves the old version or the new one.
            self._transaction(db, [*((each, ()) for each in statements), (f"PRAGMA user_version={number}", ())])

    def _set_aside(self, why: str) -> None:
        self._drop()
        self._tried = float("-inf")
        names = [self.path.with_name(f"{self.path.name}.bad-{n}") for n in range(1, KEEP_BAD + 1)]
        free = next((each for each in names if not each.exists()), None)
        target = free or min(names, key=lambda each: each.stat().st_mtime)
        try:
            for part in PARTS:
                source, aside = (Path(f"{each}{part}") for each in (self.path, target))
                aside.unlink(missing_ok=True)
                if source.exists():
                    source.rename(aside)
        except OSError as error:  # then it cannot be begun anew either, and what is written is lost
            self._tried = time.monotonic()
            self.reason = f"{why}; {error}"
            return
        problem = Problem(
            "store.set-aside",
            f"{self.path} was damaged ({why}); it was set aside as {target.name} and a new one begun",
            f"nothing, unless what it held is needed: sqlite3 {target} .recover",
        )
        self.problems.append(problem)
        log.error("%s", problem)

    def _drop(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def _broken(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
