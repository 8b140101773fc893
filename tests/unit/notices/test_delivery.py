"""A target's queue: tried again, bounded, and what cannot be sent is written down."""

import threading
import time

import pytest

from safekit_py.errors import Problem, SafekitError
from safekit_py.model.notice import Notice, Notifications, Notifier, Target
from safekit_py.notices import unsent
from safekit_py.notices.delivery import Delivery, wants

TARGET = Target("t", "x", "warning", ("web*",), None)


def notice(number=0, level="critical", module="web", kind="raised"):
    return Notice(f"{module}/{number}", kind, level, "a", module, f"number {number}", "", 1.0)


class Way:
    """A notifier that does what each attempt is told to."""

    def __init__(self, *outcomes):
        self.outcomes, self.got = list(outcomes), []

    def send(self, _target, given):
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if callable(outcome):
            outcome()
        elif outcome is not None:
            raise outcome
        self.got.append(given)


@pytest.fixture
def make():
    made = []

    def build(way, settings=None):
        lost = []
        one = Delivery(
            TARGET,
            Notifier("x", "", lambda _: None, way.send),
            settings or Notifications((TARGET,)),
            lambda given, why: lost.append((given, why)),
            pause=0.02,
        )
        made.append(one)
        return one, lost

    yield build
    for each in made:
        each.close(0.1)


def until(what, limit=20.0):
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_fails_is_tried_again_in_order(make):
    way = Way(OSError("refused"), OSError("refused"))
    delivery, lost = make(way)
    delivery.put(notice(1))
    delivery.put(notice(2))
    until(lambda: len(way.got) == 2)
    assert [each.subject for each in way.got] == ["number 1", "number 2"]
    until(lambda: delivery.counts.sent == 2)
    assert (delivery.counts.last, lost) == ("", [])


@pytest.mark.parametrize("error", [SafekitError(Problem("notify.refused", "unknown user")), ValueError("unknown user")])
def test_what_will_never_be_taken_is_given_up_at_once(make, error):
    way = Way(error)
    delivery, lost = make(way)
    delivery.put(notice(1))
    delivery.put(notice(2))
    until(lambda: delivery.counts.sent == 1)
    assert [given.subject for given, _ in lost] == ["number 1"]
    assert "unknown user" in lost[0][1]
    assert delivery.counts.failed == 1


def test_after_its_time_it_is_given_up(make):
    way = Way(*[OSError("refused")] * 1000)
    delivery, lost = make(way, Notifications((TARGET,), give_up=0.1))
    delivery.put(notice())
    until(lambda: lost)
    assert lost[0][1] == "refused"


def test_too_many_are_held_and_counted_in_the_next(make):
    way = Way()
    delivery, _ = make(way, Notifications((TARGET,), limit=2, window=1.0))
    for number in range(5):
        delivery.put(notice(number))
    until(lambda: len(way.got) == 2)
    assert delivery.counts.held == 3
    time.sleep(1.1)
    delivery.put(notice(9))
    until(lambda: len(way.got) == 3)
    assert way.got[-1].held == 3


def test_a_target_that_hangs_loses_nothing_silently(make):
    free = threading.Event()
    way = Way(free.wait)
    delivery, lost = make(way)
    for number in range(3):
        delivery.put(notice(number))
    until(lambda: delivery.waiting == 3)
    began = time.monotonic()
    delivery.close(0.2)
    assert time.monotonic() - began < 5
    assert [given.subject for given, _ in lost] == ["number 0", "number 1", "number 2"]
    free.set()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (notice(), True),
        (notice(level="info"), False),
        (notice(module="db"), False),
        (notice(module=""), True),
        (notice(level="info", module="db", kind="test"), True),
    ],
)
def test_what_a_target_wants(given, wanted):
    assert wants(TARGET, given) is wanted


def test_the_log_of_the_unsent_is_bounded_private_and_survives_a_torn_line(tmp_path, monkeypatch):
    monkeypatch.setattr(unsent, "LARGEST", 2000)
    path = tmp_path / "notify/unsent.log"
    log = unsent.Unsent(path)
    for number in range(30):
        log.write("t", notice(number), "refused")
    assert path.stat().st_mode & 0o777 == 0o600
    assert sum(each.stat().st_size for each in path.parent.iterdir()) < 6000
    with path.open("a") as stream:
        stream.write('{"torn')
    found = unsent.read(path, 4)
    assert [each["notice"]["subject"] for each in found] == ["number 27", "number 28", "number 29"]
    assert unsent.read(tmp_path / "none", 5) == []
