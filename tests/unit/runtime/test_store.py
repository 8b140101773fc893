"""The log stays bounded and readable; the wish survives what happens to its file."""

from safekit_py.model.event import Event
from safekit_py.model.state import Severity
from safekit_py.runtime import store


def event(text):
    return Event(1.0, "app", Severity.INFO, "heart", text)


def test_tail_gives_the_last_lines_oldest_first(tmp_path):
    log = store.EventLog(tmp_path / "log.db")
    for number in range(10):
        log.append(event(str(number)))
    assert [e.message for _, e in log.tail("app", 3)] == ["7", "8", "9"]
    last = log.tail("app", 1)[0][0]
    log.append(event("new"))
    assert [e.message for _, e in log.tail("app", 100, after=last)] == ["new"]


def test_the_log_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "KEEP", 1000)
    log = store.EventLog(tmp_path / "log.db")
    for number in range(3000):
        log.append(event(str(number)))
    found = log.tail("app", 100_000)
    assert 1000 <= len(found) <= 1000 + store.TRIM_EVERY
    assert found[-1][1].message == "2999"


def test_a_log_opened_again_goes_on(tmp_path):
    first = store.EventLog(tmp_path / "log.db")
    first.append(event("before"))
    first.close()
    assert store.EventLog(tmp_path / "log.db").tail("app", 5)[0][1].message == "before"


def test_wish(tmp_path):
    wish = store.Wish(tmp_path / "state.json")
    assert wish.read() == (False, "")
    wish.write(True, "because")
    assert store.Wish(tmp_path / "state.json").read() == (True, "because")
    (tmp_path / "state.json").write_text("{torn")
    assert wish.read() == (False, "")
