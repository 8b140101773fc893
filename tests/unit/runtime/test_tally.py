"""What is counted of a module."""

from safekit_py.runtime.tally import Tally


def test_runs_of_scripts_are_summed():
    tally = Tally()
    tally.ran("start_both", 2.0, failed=False)
    tally.ran("start_both", 3.0, failed=True)
    tally.ran("stop_both", 1.0, failed=False)
    runs = tally.scripts["start_both"]
    assert (runs.count, runs.failed, runs.seconds, runs.last) == (2, 1, 5.0, 3.0)
    assert tally.scripts["stop_both"].count == 1
