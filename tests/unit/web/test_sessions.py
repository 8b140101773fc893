"""Sessions: what was ended or has run out is never accepted again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.web import sessions
from safekit_py.web.sessions import IDLE, LIFE, Sessions

STEP = st.tuples(st.sampled_from(("begin", "end", "find")), st.integers(0, 5), st.floats(0, IDLE * 1.5))


@given(st.lists(STEP, max_size=60))
def test_what_has_ended_stays_ended(steps):
    table, now, cookies, dead = Sessions(), 0.0, [], set()
    born, used = {}, {}
    for what, which, gap in steps:
        now += gap
        if what == "begin":
            cookie, made = table.begin("alice", "hash", now)
            assert cookie not in cookies
            cookies.append(cookie)
            born[cookie] = used[cookie] = now
            assert table.find(cookie, now) == made
        elif cookies:
            cookie = cookies[which % len(cookies)]
            if what == "end":
                table.end(cookie)
                dead.add(cookie)
                continue
            found = table.find(cookie, now)
            over = now - used[cookie] >= IDLE or now - born[cookie] >= LIFE
            assert (found is None) == (over or cookie in dead)
            if found is None:
                dead.add(cookie)
            else:
                used[cookie] = now


def test_the_oldest_ends_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(sessions, "MOST", 2)
    table = Sessions()
    made = [table.begin("a", "h", 0.0)[0] for _ in range(3)]
    assert [table.find(each, 0.0) is None for each in made] == [True, False, False]


@pytest.mark.parametrize("text", ["", "x", "ü", "\ud800"])
def test_a_guess_confirms_nothing(text):
    _, session = Sessions().begin("a", "h", 0.0)
    assert session.confirmed(session.csrf)
    assert not session.confirmed(text)
