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

DEPTH = 8


def running():
    """PRIM and SECOND with one write in both."""
    first = gen.sharing(gen.first("d0"))
    one = Server(first, (), state=State.PRIM, connected=True, leaving=False)
    two = Server(gen.synced(gen.Generation(), first), (), state=State.SECOND, connected=True)
    return World((one, two))


def one_alone():
    """ALONE with a write of its own, and the other has just booted with the data from before."""
    first = gen.sharing(gen.first("d0"))
    one = Server(gen.alone(first, "d1"), (1,), state=State.ALONE, leaving=False, began=State.PRIM)
    return World((one, Server(gen.synced(gen.Generation(), first), ())), acknowledged=(1,), ids=2)


def both_booted():
    """After both have lost power: both have the same, and the first was primary."""
    first = gen.sharing(gen.first("d0"))
    return World((Server(first, (1,)), Server(gen.synced(gen.Generation(), first), (1,))), acknowledged=(1,))


def half_done():
    """In the middle of a resynchronisation."""
    world = one_alone()
    old = gen.resyncing(world.servers[1].generation)
    return world.with_(1, state=State.SECOND, generation=old, step=1)


STARTS = {each.__name__: each for each in (running, one_alone, both_booted, half_done)}


def explore(model, start, depth, limit=600.0):
    """Breadth first; the number of states, and how the first broken invariant came about."""
    if model.rules.witness:  # it knows the newest data, and who serves has its lease
        start = replace(
            start, holder=0 if start.servers[0].serves else -1, granted_for=start.servers[0].generation.data
        )
    seen, edge, end = {start: (None, "start")}, [start], time.monotonic() + limit
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


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", RULES)
def test_no_history_breaks_an_invariant(name, start):
    states, broken = explore(Model(RULES[name]), STARTS[start](), DEPTH)
    assert not broken, "\n".join(broken)
    assert states > 1000


if __name__ == "__main__":
    for each, rules in RULES.items():
        for place, start in STARTS.items():
            began = time.monotonic()
            count, trace = explore(Model(rules), start(), int(sys.argv[1]))
            took = time.monotonic() - began
            print(f"{each}, {place}: {count} states in {took:.1f} s; {trace or 'nothing found'}", flush=True)
