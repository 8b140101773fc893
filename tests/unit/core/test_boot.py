"""Which modules start with the agent."""

from itertools import product

import pytest

from safekit_py.core import boot


@pytest.mark.parametrize(
    ("configured", "command", "effective"),
    [
        ("on", "off", "on"),
        ("off", "on", "off"),
        ("auto", "on", "auto"),
        ("ignore", "on", "on"),
        ("ignore", "off", "off"),
        ("ignore", "", "auto"),
    ],
)
def test_the_command_counts_where_the_file_leaves_it_open(configured, command, effective):
    assert boot.effective(configured, command) == effective


def test_a_crash_of_the_agent_starts_exactly_what_ran():
    for each, started in product(("on", "off", "auto"), (True, False)):
        assert boot.starts(each, started=started, same_boot=True) is started


def test_a_boot_of_the_server():
    assert [boot.starts("on", started=s, same_boot=False) for s in (True, False)] == [True, True]
    assert [boot.starts("off", started=s, same_boot=False) for s in (True, False)] == [False, False]
    assert [boot.starts("auto", started=s, same_boot=False) for s in (True, False)] == [True, False]
