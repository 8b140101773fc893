"""The line between two processes of the agent, and how the next one knows whom it replaces."""

import asyncio
import os
import socket

import pytest

from safekit_py.runtime.handover import VARIABLE, Line, Predecessor


def talk(conversation):
    async def both():
        one, other = (Line(each) for each in socket.socketpair())
        try:
            await conversation(one, other)
        finally:
            one.close()
            other.close()

    asyncio.run(both())


def test_words_arrive_in_order_also_long_ones():
    async def conversation(one, other):
        long = "x" * 300_000  # longer than what fits between two processes
        saying = asyncio.create_task(one.say(text=long))
        assert await other.hear(5) == {"text": long}
        await saying
        await other.say()
        assert await one.hear(5) == {}

    talk(conversation)


def test_a_side_that_says_nothing_or_has_ended_is_the_same_error():
    async def conversation(one, other):
        with pytest.raises(EOFError, match="says nothing"):
            await one.hear(0.05)
        await other.say()  # opened before it is closed
        other.close()
        assert await one.hear(1) == {}
        with pytest.raises(EOFError, match="has ended"):
            await one.hear(1)

    talk(conversation)


def test_nobody_is_replaced_by_an_agent_that_is_started_as_ever(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Predecessor.inherited() is None


def test_the_next_process_takes_what_it_inherits_and_no_child_of_it_does(monkeypatch):
    ours, theirs = socket.socketpair()
    lock, _ = os.pipe()
    for each in (theirs.fileno(), lock):
        os.set_inheritable(each, True)
    monkeypatch.setenv(VARIABLE, f"{theirs.fileno()},{lock}")
    found = Predecessor.inherited()
    assert found is not None
    assert found[1] == lock
    assert VARIABLE not in os.environ
    assert not os.get_inheritable(lock)
    assert not os.get_inheritable(theirs.detach())
    ours.close()
    os.close(lock)
