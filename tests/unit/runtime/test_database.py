"""A database file survives a kill, garbage, an older version of itself and a full disk; the work goes on."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from safekit_py.runtime import database
from safekit_py.runtime.database import KEEP_BAD, Database

SCHEMA = (("CREATE TABLE line (seq INTEGER PRIMARY KEY, text TEXT)",),)
INSERT = "INSERT INTO line (text) VALUES (?)"


def opened(path, schema=SCHEMA):
    return Database(path, schema)


def count(made):
    return made.read("SELECT count(*) FROM line")[0][0]


def test_what_is_written_is_there_when_it_is_opened_again(tmp_path):
    first = opened(tmp_path / "x.db")
    assert first.write((INSERT, ("a",)), (INSERT, ("b",))) == 2
    first.close()
    assert first.write((INSERT, ("c",))) is None
    assert opened(tmp_path / "x.db").read("SELECT text FROM line ORDER BY seq") == [("a",), ("b",)]


def test_a_transaction_that_fails_leaves_nothing(tmp_path):
    made = opened(tmp_path / "x.db")
    assert made.write((INSERT, ("a",)), ("INSERT INTO nowhere VALUES (1)", ())) is None
    assert made.lost == 1
    assert "nowhere" in made.reason
    made._tried = float("-inf")
    assert made.write((INSERT, ("b",))) == 1
    assert made.read("SELECT text FROM line") == [("b",)]


WRITER = """
    import sys
    from pathlib import Path
    from safekit_py.runtime.database import Database
    made = Database(Path(sys.argv[1]), (("CREATE TABLE line (seq INTEGER PRIMARY KEY, text TEXT)",),))
    number = 0
    while True:
        number += 1
        statement = ("INSERT INTO line (text) VALUES (?)", (str(number) * 100,))
        made.write(statement, statement)
        if number in (1, 300):
            print(number, flush=True)
"""


def test_a_writer_that_is_killed_in_the_middle_leaves_a_whole_file(tmp_path):
    path = tmp_path / "x.db"
    for round_ in range(1, 4):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert writer.stdout.readline() == "1\n"
            assert writer.stdout.readline() == "300\n"
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        made = opened(path)
        assert made.problems == []
        assert made.read("PRAGMA integrity_check") == [("ok",)]
        # Each transaction wrote two lines: none is there by half.
        assert count(made) >= 600 * round_
        assert count(made) % 2 == 0
        made.close()


@pytest.mark.parametrize("torn", ["garbage", "header", "cut"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path, torn):
    path = tmp_path / "x.db"
    made = opened(path)
    for number in range(500):
        made.write((INSERT, (f"{number}" * 50,)))
    made.close()
    whole = path.read_bytes()
    damaged = {
        "garbage": os.urandom(len(whole)),
        "header": whole[:200] + os.urandom(4096) + whole[4296:],
        "cut": whole[: len(whole) // 3],
    }[torn]
    path.write_bytes(damaged)
    made = opened(path)
    (problem,) = made.problems
    assert problem.code == "store.set-aside"
    assert "x.db.bad-1" in problem.message
    assert (tmp_path / "x.db.bad-1").read_bytes() == damaged
    assert made.write((INSERT, ("new",))) == 1
    assert made.lost == 0


def test_damage_that_shows_only_while_it_runs_costs_no_line(tmp_path):
    path = tmp_path / "x.db"
    made = opened(path)
    for number in range(2000):
        made.write((INSERT, (f"{number}" * 50,)))
    made.close()
    made = opened(path)
    with path.open("r+b") as stream:  # behind the back of the connection, which has only a few pages in memory
        stream.seek(4096)
        stream.write(os.urandom(path.stat().st_size - 8192))
    trim = ("DELETE FROM line WHERE text < '0'", ())  # looks at every line
    for number in range(200):
        assert made.write(trim, (INSERT, (f"{number}" * 50,))) is not None
    assert made.read("SELECT text FROM line ORDER BY seq DESC LIMIT 1") == [("199" * 50,)]
    assert made.lost == 0
    assert [each.code for each in made.problems] == ["store.set-aside"]


def test_only_so_many_damaged_files_are_kept(tmp_path):
    path = tmp_path / "x.db"
    for number in range(KEEP_BAD + 2):
        path.write_text(f"no database {number}" * 100)
        opened(path).close()
    assert len(list(tmp_path.glob("x.db.bad-?"))) == KEEP_BAD


def test_an_older_file_is_upgraded_and_a_newer_one_set_aside(tmp_path):
    path = tmp_path / "x.db"
    made = opened(path)
    made.write((INSERT, ("old",)))
    made.close()
    newer = (*SCHEMA, ("ALTER TABLE line ADD COLUMN more TEXT", "CREATE TABLE other (x)"))
    made = opened(path, newer)
    assert made.read("SELECT text, more FROM line") == [("old", None)]
    assert made.read("PRAGMA user_version") == [(2,)]
    made.close()
    made = opened(path)
    assert "newer version" in made.problems[0].message
    assert count(made) == 0


def test_an_upgrade_that_fails_leaves_the_old_version(tmp_path):
    path = tmp_path / "x.db"
    opened(path).close()
    made = opened(path, (*SCHEMA, ("CREATE TABLE other (x)", "no statement")))
    assert made.write((INSERT, ("a",))) is None
    assert made.lost == 1
    made.close()
    made = opened(path)
    assert made.problems == []
    assert made.read("SELECT name FROM sqlite_master WHERE name = 'other'") == []


def test_a_place_that_cannot_be_opened_costs_lines_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "RETRY", 0.0)
    path = tmp_path / "folder" / "x.db"
    (tmp_path / "folder").write_text("in the way")
    made = opened(path)
    assert made.write((INSERT, ("a",))) is None
    assert made.read("SELECT * FROM line") == []
    assert (made.lost, bool(made.reason)) == (1, True)
    (tmp_path / "folder").unlink()
    assert made.write((INSERT, ("b",))) == 1


def test_somebody_who_holds_the_file_costs_lines_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "RETRY", 0.0)
    path = tmp_path / "x.db"
    opened(path).close()
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    made = opened(path)
    assert made.write((INSERT, ("a",))) is None
    assert "locked" in made.reason
    other.close()
    assert made.write((INSERT, ("b",))) == 1


def fill(path):
    """Take all that is left of a file system."""
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 4096):
            pass
    assert os.statvfs(path.parent).f_bavail == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("needs root, to mount a small file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=False).returncode:
        pytest.skip("this container may not mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_loses_the_lines_and_nothing_else(small_disk, monkeypatch):
    monkeypatch.setattr(database, "RETRY", 0.0)
    made = opened(small_disk / "x.db")
    made.write((INSERT, ("before",)))
    filler = small_disk / "filler"
    fill(filler)
    results = [made.write((INSERT, ("y" * 2000,))) for _ in range(200)]
    assert None in results
    assert made.lost == results.count(None)
    assert "full" in made.reason
    assert made.problems == []
    filler.unlink()
    assert made.write((INSERT, ("after",))) is not None
    made.close()
    made = opened(small_disk / "x.db")
    assert made.read("SELECT text FROM line ORDER BY seq DESC LIMIT 1") == [("after",)]
    assert count(made) == 2 + len(results) - results.count(None)


def test_a_disk_that_is_full_from_the_start(small_disk, monkeypatch):
    monkeypatch.setattr(database, "RETRY", 0.0)
    filler = small_disk / "filler"
    fill(filler)
    made = opened(small_disk / "x.db")
    assert made.write((INSERT, ("a",))) is None
    assert made.problems == []
    filler.unlink()
    assert made.write((INSERT, ("b",))) == 1
