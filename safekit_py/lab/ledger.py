"""A client that knows what it was promised: it commits numbers, records each one whose commit was acknowledged, and
afterwards looks whether every one of them is there.

What flows: numbers, each used once -> one INSERT each over a PostgreSQL connection that is made anew whenever it
breaks -> a record of lines ``? 17`` (asked for) and ``+ 17`` (acknowledged) -> one JSON document on standard output.

Invariant: ``+ N`` is written only after the server has acknowledged N, and ``? N`` before it was asked. So a number
with ``+`` that is missing is a lost commit; one with ``?`` alone may be there or not; any other, or one that is there
twice, was made up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import select
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from safekit_py.lab.client import seconds
from safekit_py.lab.postgres import Connection, Refused

PAUSE = 0.02  # seconds after a failure
PATIENCE = 30.0  # seconds to make the table, and to read it
GAP = 0.25  # seconds without an acknowledgement that are worth telling


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without service.

    :param at: the last acknowledgement before it, in seconds of the monotonic clock.
    :param took: seconds until the next one.
    """

    at: float
    took: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The record compared with what is there; all of ``lost``, ``twice`` and ``strange`` should be empty."""

    acknowledged: int
    there: int
    lost: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    strange: list[int] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.twice or self.strange)


def gaps(times: Iterable[float], begin: float, end: float) -> list[Gap]:
    """All times without an acknowledgement between ``begin`` and ``end``."""
    return [Gap(a, b - a) for a, b in itertools.pairwise([begin, *sorted(times), end])]


def compare(record: Iterable[str], there: Counter[int]) -> Verdict:
    """Hold the lines of a record against how often each number is there."""
    asked: set[int] = set()
    acknowledged: set[int] = set()
    for line in record:
        mark, _, number = line.partition(" ")
        (acknowledged if mark == "+" else asked).add(int(number))
    return Verdict(
        acknowledged=len(acknowledged),
        there=len(there),
        lost=sorted(acknowledged - there.keys()),
        twice=sorted(number for number, count in there.items() if count > 1),
        strange=sorted(there.keys() - asked),
    )


class Ledger:
    """Several clients that write at the same time.

    :param record: the file of the record; what it holds is kept, and its numbers are not used again.
    """

    def __init__(self, host: str, port: int, record: Path, *, timeout: float = 2.0) -> None:
        self._place, self._timeout, self._path = (host, port), timeout, record
        last = max((int(line[2:]) for line in _lines(record)), default=0)
        self._numbers = itertools.count(last + 1)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self.times: list[float] = []
        self.troubles: Counter[str] = Counter()

    def prepare(self) -> None:
        """Make the table; there is no unique index, because it would hide a number that comes twice.

        :raises OSError: the server does not answer for ``PATIENCE`` seconds.
        """
        self._patiently("CREATE TABLE IF NOT EXISTS ledger (id bigint NOT NULL)")

    def run(self, clients: int, duration: float) -> dict[str, object]:
        """Write until ``duration`` seconds are over or standard input ends.

        :return: the document that is printed.
        """
        begin = seconds()
        with self._path.open("a", buffering=1) as record:
            threads = [threading.Thread(target=self._write, args=(record,)) for _ in range(clients)]
            for each in threads:
                each.start()
            try:
                select.select([sys.stdin], [], [], duration)
                end = seconds()
            finally:
                self._stop.set()
                for each in threads:
                    each.join()
        found = gaps([each for each in self.times if each < end], begin, end)
        longest = max((each.took for each in found), default=0.0)
        return {
            "acknowledged": len(self.times),
            "rate": len(self.times) / (end - begin),
            "longest": longest,
            "gaps": [asdict(each) for each in found if each.took >= GAP],
            "troubles": dict(self.troubles),
        }

    def check(self) -> Verdict:
        """Compare the record with the table.

        :raises OSError: the server does not answer for ``PATIENCE`` seconds.
        """
        rows = self._patiently("SELECT id, count(*) FROM ledger GROUP BY id")
        return compare(_lines(self._path), Counter({int(number): int(count) for number, count in rows}))

    def _patiently(self, statement: str) -> list[list[str]]:
        end = seconds() + PATIENCE
        while True:
            try:
                with Connection(*self._place, timeout=PATIENCE) as connection:
                    return connection.query(statement)
            except (OSError, Refused) as error:
                if seconds() > end:
                    raise OSError(f"{statement}: {error}") from error
                self._stop.wait(PAUSE)

    def _write(self, record: TextIO) -> None:
        connection: Connection | None = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = Connection(*self._place, timeout=self._timeout)
                with self._lock:
                    number = next(self._numbers)
                    record.write(f"? {number}\n")
                connection.query(f"INSERT INTO ledger VALUES ({number})")  # noqa: S608 - a number of our own
                with self._lock:
                    record.write(f"+ {number}\n")
                    self.times.append(seconds())
            except (OSError, Refused) as error:
                self.troubles[str(error) or type(error).__name__] += 1
                if connection is not None:
                    connection.close()
                connection = None
                self._stop.wait(PAUSE)
        if connection is not None:
            connection.close()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    """Run it as a program; ``check`` exits with 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description="Commits to PostgreSQL, and a record of those that were acknowledged.")
    parser.add_argument("what", choices=("write", "check"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("record", type=Path)
    parser.add_argument("--clients", type=int, default=4, help="connections that write at the same time")
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most; it also ends with standard input")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds for one commit")
    given = parser.parse_args()
    ledger = Ledger(given.host, given.port, given.record, timeout=given.timeout)
    if given.what == "write":
        ledger.prepare()
        print(json.dumps(ledger.run(given.clients, given.seconds)))
        return
    verdict = ledger.check()
    print(json.dumps(asdict(verdict)))
    sys.exit(0 if verdict.good else 1)


if __name__ == "__main__":
    main()
