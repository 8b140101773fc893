"""Orders of the agent: each is answered once, in any number of pieces, and nothing that is said ends the process."""

import json
import socket

import pytest
from safekit_py.plugins.mirror.volume import callers
from safekit_py.plugins.mirror.volume.callers import Callers
from safekit_py.plugins.mirror.volume.poller import Poller

from safekit_py.api import Problem, SafekitError


class Desk:
    """The process's side, and one caller."""

    def __init__(self, path):
        self.poller, self.later = Poller(), []
        control = socket.socket(socket.AF_UNIX)
        control.bind(str(path))
        control.listen()
        self.control = control
        self.callers = Callers(control, self.poller, self.do)
        self.caller = socket.socket(socket.AF_UNIX)
        self.caller.settimeout(5)
        self.caller.connect(str(path))
        self.turn()

    def do(self, verb, order, later):
        if verb == "refuse":
            raise OSError(28, "full")
        if verb == "explain":
            raise SafekitError(Problem("volume.some", "some reason", "some remedy"))
        if verb == "later":
            self.later.append(later)
            return None
        return {"verb": verb, "value": order["value"]}

    def turn(self):
        for fd, event in self.poller.wait(0.2):
            self.poller.on[fd](event)

    def say(self, text):
        self.caller.sendall(text)
        self.turn()

    def heard(self):
        return [json.loads(line) for line in self.caller.recv(1 << 16).splitlines()]


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path / "sock")
    yield made
    made.caller.close()
    made.control.close()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b'{"id": 1, "do": "a", "value": 2}', {"id": 1, "ok": {"verb": "a", "value": 2}}),
        (b'{"id": 1, "do": "refuse"}', {"id": 1, "error": "full", "errno": 28}),
        (b'{"id": 1, "do": "explain"}', {"id": 1, "error": "some reason", "code": "volume.some"}),
        (b'{"id": 1, "do": "a"}', {"id": 1, "error": "KeyError: 'value'"}),
        (b'{"id": 1}', {"id": 1, "error": "KeyError: 'do'"}),
    ],
)
def test_an_order_is_answered(desk, line, answer):
    desk.say(line[:5])
    desk.say(line[5:] + b"\n")
    assert desk.heard() == [answer]


@pytest.mark.parametrize("line", [b"nonsense", b"7", b"[]", b"\xff"])
def test_what_is_no_order_is_refused(desk, line):
    desk.say(line + b"\n")
    (said,) = desk.heard()
    assert said["id"] is None
    assert "error" in said


def test_an_order_without_a_number_is_carried_out_silently(desk):
    desk.say(b'{"do": "a", "value": 1}\n{"id": 2, "do": "a", "value": 3}\n')
    assert [each["id"] for each in desk.heard()] == [2]


def test_an_outcome_may_come_later_or_when_nobody_waits_any_more(desk):
    desk.say(b'{"id": 1, "do": "later"}\n{"id": 2, "do": "later"}\n')
    desk.callers.tell({"event": "e"})
    desk.later[0]({"different": 0})
    desk.later[1](OSError(16, "busy"))
    assert desk.heard() == [{"event": "e"}, {"id": 1, "ok": {"different": 0}}, {"id": 2, "error": "busy", "errno": 16}]
    desk.say(b'{"id": 3, "do": "later"}\n')
    desk.caller.close()
    desk.turn()
    desk.later[2]({})


def test_a_line_without_end_is_cut_off(desk, monkeypatch):
    monkeypatch.setattr(callers, "LINE", 10)
    desk.say(b"x" * 11)
    assert desk.caller.recv(1) == b""
