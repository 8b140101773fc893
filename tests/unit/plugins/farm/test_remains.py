"""What a farm leaves to the next process: packed and unpacked, and never of another shape under the same number."""

import dataclasses
import hashlib

from safekit_py.plugins.farm.history import Change, History
from safekit_py.plugins.farm.placing import Device
from safekit_py.plugins.farm.remains import FORMAT, Remains

from safekit_py.core.buckets import Table
from safekit_py.core.group import Member, Number, View
from safekit_py.core.knowledge import Peer, State
from safekit_py.core.replay import Guard
from safekit_py.core.trail import Trail
from safekit_py.net.peer import Trust
from safekit_py.net.transport import Left

PARTS = (Remains, Left, State, Peer, View, Member, Table, Trail, Number, Trust, Guard, Change, Device)
SHAPES = {1: "026d9938d61f3c5c"}


def shape():
    told = []
    for each in PARTS:
        if dataclasses.is_dataclass(each):
            told += [f"{each.__name__}.{field.name}: {field.type}" for field in dataclasses.fields(each)]
        else:
            told += [f"{each.__name__}.{name}: {kind}" for name, kind in each.__annotations__.items()]
    told += [f"History.{name}" for name in vars(History())]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def test_a_new_shape_has_a_new_number():
    assert SHAPES.get(FORMAT) == shape(), "raise FORMAT in remains.py, and note the shape here"


def test_it_comes_back_as_it_was():
    view = View(Number(3, 0, 7), (Member(0, (1,), b"abcdef"),), (Table(),), "join 0")
    history = History()
    history.note(view, 1.0)
    state = State(7, 0, 0, view=view, peers={1: Peer(boot=9, accused={})})
    left = Left(state, Trust({1: Guard(9, {0: (5, 1)})}, {}, {1: (b"k",)}), {0: 12})
    before = Remains(
        left, view, True, {0: 3}, {0: frozenset((b"abcdef",))}, history, (Device(2, "eth0", b"abcdef"),), False, "s"
    )
    after = Remains.unpacked(before.packed())
    assert dataclasses.replace(after, history=history) == before
    assert after.history.changes() == history.changes()
