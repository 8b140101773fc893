"""What status says of a mirror."""

import pytest
from safekit_py.plugins.mirror.notes import notes, size

from safekit_py.api import State

PROGRESS = {"compared": 3 << 30, "total": 4 << 30, "sent": 5 << 20, "rate": 1536, "left": 12.4}


@pytest.mark.parametrize(
    ("state", "engine", "same", "first"),
    [
        (State.PRIM, {"promise": "P"}, True, "data: P"),
        (State.SECOND, {"promise": "P"}, True, "data: P"),
        (State.SECOND, {"promise": "P"}, False, "data: the other server's are awaited"),
        (State.ALONE, {"promise": "P"}, False, "data: on this server only, until the other one is back"),
        (
            State.ALONE,
            {"resynchronisation": PROGRESS},
            False,
            "resynchronisation: 3.0 GiB of 4.0 GiB compared, 5.0 MiB sent, 1.5 KiB/s, 12 s left",
        ),
    ],
)
def test_the_data_come_first_and_then_the_witness(state, engine, same, first):
    assert notes(state, engine, "none", same=same) == [first, "witness: none"]


@pytest.mark.parametrize("state", [State.STOP, State.WAIT])
def test_a_server_without_a_role_says_nothing(state):
    assert notes(state, {"promise": "P"}, "none", same=False) == []


def test_deaths_of_the_volume_process_are_counted_and_said_where_they_end_the_service():
    assert notes(State.PRIM, {"promise": "P", "restarts": 0, "resends": True}, "none", same=True)[2:] == []
    dead, old = notes(State.PRIM, {"promise": "P", "restarts": 2, "resends": False}, "none", same=True)[2:]
    assert "so far 2 x" in dead
    assert "older than 6.9" in old


def test_sizes():
    assert [size(each) for each in (0, 1023, 1024, 5 << 50)] == ["0 B", "1023 B", "1.0 KiB", "5120.0 TiB"]
