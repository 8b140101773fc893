"""A client on the command line, and which farm is meant."""

import click
import pytest

from safekit_py.cli.farmlook import client_of, the_farm
from safekit_py.errors import NotFoundError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10.0.0.7", ("10.0.0.7", "")),
        ("10.0.0.7:40000", ("10.0.0.7", "40000")),
        ("fd00::7", ("fd00::7", "")),
        ("[fd00::7]", ("fd00::7", "")),
        ("[fd00::7]:443", ("fd00::7", "443")),
    ],
)
def test_a_client(text, wanted):
    assert client_of(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "web", "10.0.0.7:", "10.0.0.7:x", "10.0.0.7:70000", "[fd00::7", "[fd00::7]443", "[fd00::7]x:1", "10.0.0:1"],
)
def test_no_client(text):
    with pytest.raises(click.BadParameter):
        client_of(text)


class Session:
    def __init__(self, **modes):
        self.modes = modes

    def call(self, method, path):
        return {"modules": [{"name": name, "mode": mode} for name, mode in self.modes.items()]}


def test_which_farm():
    assert the_farm(Session(web="farm", db="mirror"), None) == "web"
    assert the_farm(Session(), "named") == "named"
    for modes in ({"db": "mirror"}, {"one": "farm", "two": "farm"}):
        with pytest.raises(NotFoundError, match=r"farm\.which"):
            the_farm(Session(**modes), None)
