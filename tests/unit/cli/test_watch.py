"""What ``status --watch`` shows: readable at 80 columns, whatever the names; and a line for each change."""

import io

from safekit_py.cli.screen import Screen
from safekit_py.cli.watch import PATIENCE, Seen, changes, view


def module(name, state="UP", readiness="Ready", **changed):
    members = [{"name": f"server{n}", "state": "member", "shares": [33.33]} for n in (1, 2, 3)]
    return {"name": name, "mode": "farm", "state": state, "readiness": readiness, "age": 75.0, "busy": "", "reason": "",
            "report": {"members": members}, "problems": [], **changed}  # fmt: skip


def shown(seen, width=80, name=None, now=100.0):
    console = Screen(width=width, height=50, record=True, file=io.StringIO())
    console.print(view(seen, now, "12:00:00", name))
    return console.export_text().splitlines()


def servers(count=3, **changed):
    return [Seen(f"server{n}", [module("apache", **changed), module("x" * 40)], 100.0) for n in range(1, count + 1)]


def test_it_fits_eighty_columns_and_says_what_matters():
    lines = shown(servers(reason="a very long reason " * 20))
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert any("apache" in line and "server1" in line and "UP Ready" in line and "33.3%" in line for line in lines)
    assert len([line for line in lines if "server2" in line]) == 2


def test_a_silent_server_is_shown_as_such():
    seen = servers()
    seen[1].why = "server2 does not answer (timed out)"
    seen[2].at = 100.0 - PATIENCE
    lines = shown(seen)
    assert "3 servers, 2 does not answer" in lines[0]
    assert len([line for line in lines if "server3" in line and "?" in line]) == 2
    assert not any("server2" in line and "Ready" in line for line in lines)


def test_one_module_and_none():
    assert not any("xxxx" in line for line in shown(servers(), name="apache"))
    assert any("No module is installed" in line for line in shown([Seen("server1", [], 100.0)]))


def test_each_change_is_one_line():
    before, seen = {}, [Seen("server1", [module("apache")], 100.0), Seen("server2")]
    assert list(changes(before, seen, 100.0)) == ["server1 apache UP Ready"]
    assert list(changes(before, seen, 100.0)) == []
    seen[0].modules[0] |= {"state": "WAIT", "readiness": "NotReady", "reason": "tcp.x is down"}
    assert list(changes(before, seen, 100.0)) == ["server1 apache WAIT NotReady: tcp.x is down"]
    assert list(changes(before, seen, 100.0 + PATIENCE)) == ["server1 does not answer"]
    assert list(changes(before, [Seen("server1", seen[0].modules, 110.0)], 110.0)) == ["server1 answers"]


def test_a_reason_of_others_acts_neither_as_markup_nor_on_the_terminal():
    text = "\n".join(shown(servers(1, reason="asked by [/x]\x1b[2J")))
    assert "[/x]␛[2J" in text
    assert "\x1b[2J" not in text
