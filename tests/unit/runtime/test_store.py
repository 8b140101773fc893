"""The log and the history of resources: bounded, numbered without a gap for readers, filled from events."""

import asyncio
import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.model.event import Event
from safekit_py.model.state import Severity
from safekit_py.runtime import database, store


def event(text, severity=Severity.INFO, kind="log", **data):
    return Event(1.0, "app", severity, "heart", text, kind, data)


def resource(name, value, before="init", cause="somebody"):
    return event(f"{name} {value}", kind="resource", resource=name, value=value, before=before, cause=cause)


def texts(found):
    return [each.message for _, each in found]


@pytest.fixture
def log(tmp_path):
    made = store.EventLog(tmp_path / "log.db")
    yield made
    made.close()


def test_tail_gives_the_last_lines_oldest_first(log):
    for number in range(10):
        log.append(event(str(number)))
    assert texts(log.tail("app", 3)) == ["7", "8", "9"]
    last = log.tail("app", 1)[0][0]
    log.append(event("new"))
    assert texts(log.tail("app", 100, after=last)) == ["new"]


def test_since_gives_the_first_lines_so_that_a_slow_reader_misses_none(log):
    for number in range(10):
        log.append(event(str(number)))
    assert texts(log.since("app", 4, 3)) == ["4", "5", "6"]
    assert log.since("app", 10, 3) == []


def test_a_reader_of_a_file_that_is_gone_starts_with_the_new_one(log):
    log.append(event("new"))
    assert texts(log.since("app", 500, 3)) == ["new"]


def test_an_event_comes_back_as_it_was(log):
    given_ = Event(12.5, "app", Severity.WARNING, "tcp", "line\nline", "resource", {"resource": "tcp.a", "value": "up"})
    log.append(given_)
    assert log.tail("app", 1) == [(1, given_)]


@pytest.mark.parametrize(("least", "wanted"), [("C", "C"), ("W", "CEW"), ("D", "CEWID")])
def test_only_what_is_grave_enough(log, least, wanted):
    for severity in Severity:
        log.append(event(severity.value, severity))
    assert "".join(texts(log.tail("app", 10, least=Severity(least)))) == wanted
    assert "".join(texts(log.since("app", 0, 10, least=Severity(least)))) == wanted


def test_the_log_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "KEEP", 1000)
    log = store.EventLog(tmp_path / "log.db")
    for number in range(3000):
        log.append(event(str(number)))
    found = log.tail("app", 100_000)
    assert 1000 <= len(found) <= 1000 + store.TRIM_EVERY
    assert found[-1][1].message == "2999"
    assert found[-1][0] == 3000


def test_the_history_is_bounded_and_a_flapping_resource_pushes_no_other_out(log, monkeypatch):
    monkeypatch.setattr(store, "KEEP_EACH", 200)
    log.append(resource("tcp.quiet", "up"))
    for number in range(1200):
        log.append(resource("tcp.flaps", "up" if number % 2 else "down"))
    assert [c.value for c in log.changes("tcp.quiet", 10)] == ["up"]
    assert 200 <= len(log.changes("tcp.flaps", 10_000)) <= 200 + store.TRIM_EVERY


def test_all_of_the_history_is_bounded(log, monkeypatch):
    monkeypatch.setattr(store, "KEEP_CHANGES", 100)
    for number in range(600):
        log.append(resource(f"custom.r{number}", "up"))
    for number in range(600):
        log.change(f"custom.s{number}", "up", "init", "a loop")
    assert len(log.changes("", 100_000)) <= 100 + store.TRIM_EVERY
    assert log.changes("", 1)[0].name == "custom.s599"


def test_a_text_without_end_is_cut(log):
    log.append(event("x" * 100_000, cause="y" * 100_000))
    found = log.tail("app", 1)[0][1]
    assert len(found.message) < store.LONGEST + 10
    assert len(found.data["cause"]) < store.LONGEST + 10


def test_changes_come_from_events_of_resources(log):
    log.append(resource("tcp.a", "down", "up", "connection refused"))
    log.append(resource("tcp.b", "up"))
    log.append(event("no change"))
    log.change("tcp.a", "up", "down", "set without a line")
    assert [(c.name, c.value, c.before, c.cause) for c in log.changes("tcp.a", 10)] == [
        ("tcp.a", "down", "up", "connection refused"),
        ("tcp.a", "up", "down", "set without a line"),
    ]
    assert [c.name for c in log.changes("", 2)] == ["tcp.b", "tcp.a"]
    log.forget()
    assert log.changes("", 10) == []
    assert len(log.tail("app", 10)) == 3


def test_an_emptied_log_says_who_did_it_and_its_numbers_go_on(tmp_path):
    log = store.EventLog(tmp_path / "log.db")
    for number in range(5):
        log.append(event(str(number)))
    log.empty("root")
    ((number, line),) = log.tail("app", 10)
    assert (number, line.severity) == (6, Severity.WARNING)
    assert "root" in line.message
    log.close()
    again = store.EventLog(tmp_path / "log.db")
    again.append(event("next"))
    assert again.since("app", 6, 10)[0][0] == 7


def test_a_log_opened_again_goes_on(tmp_path):
    first = store.EventLog(tmp_path / "log.db")
    first.append(event("before"))
    first.close()
    assert store.EventLog(tmp_path / "log.db").tail("app", 5)[0][1].message == "before"


def test_a_log_of_the_first_version_is_upgraded(tmp_path):
    old = sqlite3.connect(tmp_path / "log.db")
    old.execute(
        "CREATE TABLE log (seq INTEGER PRIMARY KEY, time REAL, kind TEXT, severity TEXT, source TEXT, message TEXT)"
    )
    old.execute("INSERT INTO log VALUES (41, 1.0, 'state', 'I', 'heart', 'UP Ready')")
    old.commit()
    old.close()
    log = store.EventLog(tmp_path / "log.db")
    log.append(resource("tcp.a", "up"))
    assert [(n, e.kind) for n, e in log.tail("app", 10)] == [(41, "state"), (42, "resource")]
    assert log.changes("tcp.a", 1)[0].value == "up"


def test_garbage_is_said_once_and_the_log_goes_on(tmp_path):
    (tmp_path / "log.db").write_bytes(b"garbage" * 1000)
    log = store.EventLog(tmp_path / "log.db")
    log.append(event("goes on"))
    said, line = texts(log.tail("app", 10))
    assert "store.set-aside" in said
    assert "log.db.bad-1" in said
    assert line == "goes on"
    log.close()
    assert len(store.EventLog(tmp_path / "log.db").tail("app", 10)) == 2


def test_lines_that_were_lost_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "RETRY", 0.0)
    (tmp_path / "folder").write_text("in the way")
    log = store.EventLog(tmp_path / "folder" / "log.db")
    for _ in range(3):
        log.append(event("lost"))
    (tmp_path / "folder").unlink()
    log.append(event("kept"))
    kept, said = texts(log.tail("app", 10))
    assert kept == "kept"
    assert said.startswith("3 lines before this one were lost: ")
    log.append(event("next"))
    assert len(log.tail("app", 10)) == 3


def test_news_comes_at_once_also_from_a_thread_and_when_the_log_is_closed(log):
    async def play():
        loop = asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(0.05, log.append, event("one"))
        await log.news(0, 30)
        await log.news(0, 30)  # it is there already
        waiting = asyncio.create_task(log.news(1, 30))
        await asyncio.sleep(0)
        threading.Thread(target=log.append, args=[event("two")]).start()
        await waiting
        loop.call_later(0.05, log.close)
        await log.news(2, 30)
        await log.news(2, 30)
        return loop.time() - began

    assert asyncio.run(play()) < 10


def test_news_ends_by_itself(log):
    asyncio.run(log.news(0, 0.05))
    assert log.tail("app", 1) == []


@given(st.lists(st.sampled_from(["line", "line", "line", "read", "empty", "reopen"]), max_size=30), st.integers(1, 4))
def test_a_reader_misses_nothing_and_sees_nothing_twice(steps, at_once):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        log = store.EventLog(path)
        written, seen, last, emptied = [], [], 0, False
        for number, step in enumerate([*steps, "read"]):
            if step == "line":
                log.append(event(str(number)))
                written.append(str(number))
            elif step == "empty":
                log.empty("test")
                emptied = True
            elif step == "reopen":
                log.close()
                log = store.EventLog(path)
            else:
                while found := log.since("app", last, at_once):
                    last = found[-1][0]
                    seen += texts(found)
        log.close()
        lines = [text for text in seen if text.isdigit()]
        assert lines == sorted(set(lines), key=int)
        assert set(lines) <= set(written)
        if not emptied:
            assert lines == written
