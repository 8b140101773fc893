"""Actions of a rank below 10: beside the module, once each time that their rule begins to hold."""

import asyncio

import pytest

from safekit_py.errors import StateError
from safekit_py.model.config import Failover
from safekit_py.runtime.board import Board
from safekit_py.runtime.bystander import Bystander
from safekit_py.runtime.failover import FailoverWatch

RANKS = {"noaction": 0, "tell": 5, "restart": 10}


class Watched:
    when = "both"

    def __init__(self, resource, action):
        self.resource, self.action = resource, action


def play(steps, *checkers, handle_time=0.0):
    """What is taken after each step, a step being resources to set."""
    taken = []

    async def main():
        board = Board(lambda *_: None)
        rules = FailoverWatch(board, RANKS, lambda _: True, lambda d: taken.append((d.action, d.labels)))
        rules.configure(checkers, Failover(handle_time=handle_time))
        seen = []
        for step in steps:
            for name, value in step.items():
                board.set(name, value)
            rules.touch()
            await asyncio.sleep(0.02)
            seen.append(list(taken))
            taken.clear()
        rules.reset()
        return seen

    return asyncio.run(main())


def test_it_is_taken_once_until_its_rule_has_been_false():
    down, up, other = {"tcp.a": "down"}, {"tcp.a": "up"}, {"tcp.z": "up"}
    seen = play([down, other, down, up, down], Watched("tcp.a", "tell"))
    assert seen == [[("tell", ("tcp_a",))], [], [], [], [("tell", ("tcp_a",))]]


def test_two_rules_are_told_of_each():
    checkers = (Watched("tcp.a", "tell"), Watched("tcp.b", "tell"))
    assert play([{"tcp.a": "down"}, {"tcp.b": "down"}], *checkers) == [
        [("tell", ("tcp_a",))],
        [("tell", ("tcp_b",))],
    ]


def test_a_restart_is_not_held_up_by_a_rule_that_was_told():
    checkers = (Watched("tcp.a", "tell"), Watched("tcp.b", "restart"))
    seen = play([{"tcp.a": "down"}, {"tcp.b": "down"}], *checkers)
    assert seen[0] == [("tell", ("tcp_a",))]
    assert seen[1][0] == ("restart", ("tcp_b",))


def test_both_at_once_restart_first_and_the_other_then():
    checkers = (Watched("tcp.a", "tell"), Watched("tcp.b", "restart"))
    (seen,) = play([{"tcp.a": "down", "tcp.b": "down"}], *checkers)
    assert seen[0] == ("restart", ("tcp_b",))


@pytest.mark.parametrize("what", ["restart", "stopstart", "stop", "wait"])
def test_such_an_action_cannot_touch_the_module(what):
    with pytest.raises(StateError) as caught:
        asyncio.run(getattr(Bystander("app", "tell"), what)("x"))
    assert caught.value.code == "plugin.rank"
