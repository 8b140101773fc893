"""For the tests of plugins: a clock that the test turns, configurations by the real check, and a module that records.

With safekit_py installed, pytest finds the fixtures by itself; this package gives the names for annotations.
"""

from safekit_py.testing.checkers import Report, watch
from safekit_py.testing.clock import FakeClock
from safekit_py.testing.group import FakeGroup, Request

__all__ = ["FakeClock", "FakeGroup", "Report", "Request", "watch"]
