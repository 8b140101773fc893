"""The lease of a worker outlives it; its addresses do not outlive the lease."""

import time

import pytest
from safekit_py.plugins.mirror.volume import fence
from safekit_py.plugins.mirror.volume.fence import Fence


def test_the_worker_that_follows_inherits_the_lease(tmp_path):
    until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**9
    Fence(tmp_path).renew(until)
    next_one = Fence(tmp_path)
    assert next_one.until == 0
    next_one.inherit()
    assert next_one.until == until


def test_without_one_it_has_ended(tmp_path):
    made = Fence(tmp_path)
    made.inherit()
    assert made.until == 0


def test_every_address_is_taken_away_whatever_one_of_them_does(tmp_path, monkeypatch):
    taken = []

    def drop(device, address):
        taken.append((device, address))
        raise OSError(19, "no such device")

    monkeypatch.setattr(fence, "drop", drop)
    made = Fence(tmp_path)
    made.guard([["eth0", "10.0.0.1/24"], ["eth1", "10.0.1.1/24"]])
    made.take_away()
    assert taken == [("eth0", "10.0.0.1/24"), ("eth1", "10.0.1.1/24")]


@pytest.mark.parametrize("said", [[["eth0"]], [7], ["abc"]])
def test_what_is_no_address_changes_nothing(tmp_path, said):
    made = Fence(tmp_path)
    made.guard([["eth0", "10.0.0.1/24"]])
    with pytest.raises((ValueError, TypeError)):
        made.guard(said)
    assert made.guarded == [("eth0", "10.0.0.1/24")]
