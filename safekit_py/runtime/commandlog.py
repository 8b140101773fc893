"""Who ordered what on this server: every command that changes something, with the caller that the kernel names."""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safekit_py.runtime.clock import wall
from safekit_py.runtime.database import Database

KEEP = 10_000  # commands kept
TRIM_EVERY = 500  # commands between two trims
LONGEST = 1024  # characters of one text
NO_LOGIN = 2**32 - 1  # the kernel's mark of a process that no login has started
PROC = Path("/proc")

SCHEMA = (
    (
        "CREATE TABLE command (seq INTEGER PRIMARY KEY, time REAL, command TEXT, module TEXT, arguments TEXT,"
        " user TEXT, uid INTEGER, program TEXT, identity TEXT, result TEXT)",
    ),
)
COLUMNS = "time, command, module, arguments, user, uid, program, identity, result"


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a connection, as the kernel names it; -1 where it does not."""

    uid: int = -1
    pid: int = -1


@dataclass(frozen=True, slots=True)
class Ordered:
    """One command.

    :param time: seconds since the epoch.
    :param command: as it is written after ``safekit-py``.
    :param arguments: what else was given; secrets are masked, and the body of a call is never kept.
    :param user: the user's name, and who logged in when that is somebody else.
    :param program: the caller's name and its parent's: a hint, as a program chooses its name itself.
    :param identity: what ``-i`` said.
    :param result: ``ok``, ``refused: CODE``, or ``running`` when there is no answer yet or the agent ended before.
    """

    time: float
    command: str
    module: str = ""
    arguments: str = ""
    user: str = ""
    uid: int = -1
    program: str = ""
    identity: str = ""
    result: str = "running"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class CommandLog:
    """The file. A full disk costs lines, and no command waits for it or fails by it."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, SCHEMA)

    def begin(self, ordered: Ordered) -> int | None:
        """Write a command down before it is carried out; its number for :meth:`end`."""
        values = asdict(ordered)
        row = [each[:LONGEST] if isinstance(each, str) else each for each in values.values()]
        marks = ", ".join("?" * len(row))
        number = self._db.write((f"INSERT INTO command ({COLUMNS}) VALUES ({marks})", row))  # noqa: S608 - no text of others
        if number is not None and number % TRIM_EVERY == 0:
            self._db.write(("DELETE FROM command WHERE seq <= ?", (number - KEEP,)))
        self._db.problems.clear()  # the agent's log has them
        return number

    def end(self, number: int | None, result: str) -> None:
        """Add its result."""
        if number is not None:
            self._db.write(("UPDATE command SET result = ? WHERE seq = ?", (result[:LONGEST], number)))

    def drop(self, number: int | None) -> None:
        """It changed nothing: a checker's script says the same over and over."""
        if number is not None:
            self._db.write(("DELETE FROM command WHERE seq = ?", (number,)))

    def tail(self, count: int, module: str = "") -> list[tuple[int, Ordered]]:
        """The last commands, oldest first, each with its number; those of one module when it is named."""
        which, values = ("WHERE module = ?", (module,)) if module else ("", ())
        rows = self._db.read(
            f"SELECT seq, {COLUMNS} FROM command {which} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - no text of others
            (*values, count),
        )
        return [(row[0], Ordered(*row[1:])) for row in reversed(rows)]

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def who(peer: Peer) -> Mapping[str, Any]:
    """``user``, ``uid`` and ``program`` of a caller. It reads /proc and the user database: not in the event loop."""
    if peer.uid < 0:
        return {"user": "unknown", "uid": -1, "program": ""}
    user, login = _user(peer.uid), _login(peer.pid)
    if login not in (None, NO_LOGIN, peer.uid):
        user += f" (logged in as {_user(login)})"
    name, parent = _names(peer.pid)
    return {"user": user, "uid": peer.uid, "program": f"{name} of {parent}" if parent else name}


def now(command: str, **values: Any) -> Ordered:
    """A command that is given now."""
    return Ordered(wall(), command, **values)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _login(pid: int) -> int | None:
    """The uid of the login that the process comes from: also sudo does not change it."""
    try:
        return int((PROC / str(pid) / "loginuid").read_text())
    except (OSError, ValueError):
        return None


def _names(pid: int) -> tuple[str, str]:
    try:
        status = dict(
            line.split(":\t", 1)
            for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
            if ":\t" in line
        )
        parent = (PROC / status["PPid"] / "comm").read_text(errors="replace").strip()
        return status["Name"], parent
    except (OSError, KeyError):
        return "", ""
