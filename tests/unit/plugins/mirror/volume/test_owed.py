"""Answers: each request gets one, none before the promise holds, and none but errors past the lease."""

from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.owed import Owed
from safekit_py.plugins.mirror.volume.request import Request


class Kernel:
    """Takes answers."""

    def __init__(self):
        self.answers = {}

    def answer(self, request, error=0, _=None):
        assert request.unique not in self.answers, "answered twice"
        self.answers[request.unique] = error


def request(number, kind="write"):
    return Request(number, kind, 0, 0, 0, None, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from([0, 0, 0, 5])),
        st.tuples(st.just("flush"), st.booleans(), st.booleans()),
        st.tuples(st.sampled_from(["release", "there"]), st.integers(0, 20)),
        st.tuples(st.sampled_from(["here", "refuse"]), st.integers(0, 20)),
        st.tuples(st.sampled_from(["fence", "lift", "fail"])),
    ),
    max_size=40,
)


class History:
    """One primary's answers, and what it knows meanwhile."""

    def __init__(self):
        self.kernel, self.own = Kernel(), []
        self.owed = Owed(self.kernel, self.own.append)
        self.number = self.acknowledged = self.there_upto = 0
        self.here_are, self.flushes = set(), {}
        self.writes, self.asked, self.failed = set(), set(), False

    def write(self, error):
        if not self.failed:
            self.number += 1
            self.writes.add(self.number)
            self.owed.wait(self.number, request(self.number), error)

    def flush(self, asked, there):
        if not self.failed:
            self.number += 1
            made = request(self.number, "flush") if asked else None
            self.flushes[self.number] = self.owed.flush(made, self.number, there=there)
            if asked:
                self.asked.add(self.number)

    def release(self, upto):
        self.acknowledged = max(self.acknowledged, min(upto, self.number))
        self.owed.release(self.acknowledged)

    def there(self, upto):
        self.there_upto = max(self.there_upto, min(upto, self.number))
        self.owed.flushed_there(self.there_upto)

    def here(self, number):
        if number in self.flushes:
            self.here_are.add(number)
            self.owed.flushed([self.flushes[number]])

    def refuse(self, number):
        if number in self.flushes:
            self.owed.refuse([self.flushes[number]], 5)

    def fence(self):
        self.owed.fenced = not self.failed

    def lift(self):
        self.owed.lift()

    def fail(self):
        self.failed = True
        self.owed.fail([])

    def check(self, before):
        for each in self.kernel.answers.keys() - before:
            if self.kernel.answers[each]:
                continue
            assert not self.owed.fenced
            if each in self.writes:
                assert each <= self.acknowledged
            else:
                assert each in self.here_are
                assert self.flushes[each].there


@given(STEPS)
def test_no_order_of_events_answers_too_early_or_twice(steps):
    history = History()
    for what, *rest in steps:
        before = set(history.kernel.answers)
        getattr(history, what)(*rest)
        history.check(before)
    history.fail()
    assert history.kernel.answers.keys() == history.writes | history.asked, "each got its answer"
    assert len(history.owed) == 0
    assert not set(history.own) & history.asked


def test_a_write_that_failed_says_so_when_the_secondary_has_it():
    kernel = Kernel()
    owed = Owed(kernel, print)
    owed.wait(1, request(1), 28)
    owed.wait(2, request(2), 0)
    owed.release(None)
    assert kernel.answers == {1: 28, 2: 0}
