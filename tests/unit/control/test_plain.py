"""Whatever a report holds becomes JSON."""

import json
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.control.plain import encoded, plain
from safekit_py.control.schemas import ModuleItem, ProblemItem
from safekit_py.model.state import State


@dataclass
class Inner:
    state: State


def test_what_reports_hold():
    given = {
        "a": (1, 2.5),
        3: {State.UP},
        "c": ip_address("10.0.0.1"),
        "d": Path("/x"),
        "e": b"\xff",
        "f": float("inf"),
    }
    assert plain(given) == {"a": [1, 2.5], "3": ["UP"], "c": "10.0.0.1", "d": "/x", "e": "�", "f": None}
    assert plain(Inner(State.STOP)) == {"state": "STOP"}


def test_a_document_within_a_document():
    found = json.loads(encoded(ModuleItem(name="web", state=State.UP, problems=[ProblemItem(code="c", message="m")])))
    assert (found["state"], found["problems"][0]["severity"], found["report"]) == ("UP", "error", {})


def test_two_documents_share_no_list():
    one, other = ModuleItem(name="a", state=""), ModuleItem(name="b", state="")
    one.problems.append(ProblemItem(code="c", message="m"))
    assert other.problems == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_the_rest_is_json_as_python_makes_it(value):
    found = json.loads(encoded(value))
    if "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value):
        assert found == json.loads(json.dumps(value).encode())
