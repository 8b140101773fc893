"""Every history of two servers up to a depth: the invariants of ``roles`` hold in each state that can be reached.

A deeper exploration than the tests': ``python tests/unit/plugins/mirror/test_exploration.py DEPTH``.
"""

import sys
import time
from dataclasses import replace

import pytest
from model_of_two import Model, Server, World
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.roles import Rules

from safekit_py.api import State

DEPTH = 9


def running():
    """PRIM and SECOND with one write in both."""
    first = gen.sharing(gen.first("d0"))
    one = Server(first, (), state=State.PRIM, connected=True, leaving=False)
    two = Server(gen.synced(gen.Generation(), first), (), state=State.SECOND, connected=True)
    return World((one, two))


def explore(model, start, depth, limit=600.0):
    """Breadth first; the number of states, and how the first broken invariant came about."""
    seen, edge, end = {start: (None, "start")}, [start], time.monotonic() + limit
    if model.rules.witness:
        holding = replace(start, holder=0, granted_for="d0")
        seen, edge = {holding: (None, "start")}, [holding]
    for _ in range(depth):
        following = []
        for world in edge:
            for name, after in model.events(world):
                if model.found:
                    return len(seen), [*told(seen, world), name, *model.found]
                if after in seen:
                    continue
                seen[after] = (world, name)
                model.check(after)
                if model.found:
                    return len(seen), [*told(seen, after), *model.found]
                following.append(after)
            if time.monotonic() > end:
                return len(seen), ["out of time"]
        edge = following
    return len(seen), []


def told(seen, world):
    """The events that led to a state."""
    names = []
    while world is not None:
        world, name = seen[world]
        names.append(name)
    return names[::-1]


RULES = {
    "witness": Rules(witness=True),
    "wait": Rules(isolation="wait"),
    "alone": Rules(),
}


@pytest.mark.parametrize("name", RULES)
def test_no_history_breaks_an_invariant(name):
    states, broken = explore(Model(RULES[name]), running(), DEPTH)
    assert not broken, "\n".join(broken)
    assert states > 1000


if __name__ == "__main__":
    for each, rules in RULES.items():
        began = time.monotonic()
        count, trace = explore(Model(rules), running(), int(sys.argv[1]))
        print(f"{each}: {count} states in {time.monotonic() - began:.1f} s; {trace or 'nothing found'}")
