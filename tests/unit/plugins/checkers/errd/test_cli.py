"""The command: which calls of the API it makes, and what it shows."""

import json

import pytest
from click.testing import CliRunner
from safekit_py.plugins.checkers.errd.cli import errd

from safekit_py.errors import NotFoundError


def item(resource, when, state="running"):
    return {"resource": resource, "when": when, "action": "noaction", "rule": "", "value": "up", "cause": "1 runs",
            "state": state}  # fmt: skip


class Session:
    def __init__(self):
        self.calls = []

    def call(self, method, path, params=None):
        self.calls.append((method, path, (params or {}).get("resource")))
        return [item("proc.a", "both"), item("proc.b", "custom", "waiting"), item("proc.c", "second"),
                item("tcp.a", "both")]  # fmt: skip


def run(*words, **environment):
    session = Session()
    done = CliRunner().invoke(errd, words, obj=session, env=environment, catch_exceptions=True)
    posts = [(path.removeprefix("/modules/m/checkers/"), resource) for method, path, resource in session.calls
             if method == "POST"]  # fmt: skip
    return done, posts


@pytest.mark.parametrize(
    ("words", "posts"),
    [
        (["list"], []),
        (["off"], [("off", "proc.*")]),
        (["on"], [("on", "proc.*")]),
        (["enable", "custom"], [("enable", "proc.b")]),
        (["disable", "custom", "b"], [("disable", "proc.b")]),
        (["disable", "both"], [("off", "proc.a")]),
        (["enable", "sec", "c"], [("on", "proc.c")]),
    ],
)
def test_calls(words, posts):
    done, made = run(*words, "-m", "m")
    assert done.exit_code == 0, done.output
    assert made == posts
    assert done.output.splitlines()[:2] == [
        "PROCESS  CLASS   LOOKS    VALUE  CAUSE",
        "a        both    running  up     1 runs",
    ]


def test_nothing_of_that_class():
    done, made = run("enable", "custom", "a", "-m", "m")
    assert isinstance(done.exception, NotFoundError)
    assert done.exception.code == "errd.none"
    assert made == []


def test_the_module_of_a_script_and_json():
    done, _ = run("list", "--json", SAFEMODULE="m")
    assert [each["resource"] for each in json.loads(done.output)] == ["proc.a", "proc.b", "proc.c"]
    assert run("list", SAFEMODULE="")[0].exit_code == 2
