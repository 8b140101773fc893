"""What a module tells about itself, and what becomes of one that does not, or that fails."""

import pytest

from safekit_py.errors import NotFoundError, Problem, SafekitError, StateError
from safekit_py.runtime.plugins import Manager
from safekit_py.runtime.shield import ShieldedRuntime


class Silent:
    pass


class Telling:
    def explain(self, what, words):
        if what == "nothing":
            raise NotFoundError(Problem("command.unknown", "no such"))
        return {"what": what, "words": words, "number": 1 // len(words)}


@pytest.fixture
def told():
    manager = Manager()

    def explain(given, what, *words):
        return ShieldedRuntime(manager.shield("good"), "kind", given).explain(what, words)

    return explain


def test_what_a_module_tells(told):
    assert told(Telling(), "show", "a") == {"what": "show", "words": ("a",), "number": 1}


def test_a_module_that_tells_nothing(told):
    with pytest.raises(StateError, match=r"module\.tells-nothing"):
        told(Silent(), "show")


def test_what_it_refuses_is_no_fault(told):
    with pytest.raises(NotFoundError, match="no such"):
        told(Telling(), "nothing")


def test_a_fault_names_the_plugin(told):
    with pytest.raises(SafekitError, match=r"good.*ZeroDivisionError"):
        told(Telling(), "show")
