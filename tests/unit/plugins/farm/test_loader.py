"""The life of a loaded filter: pins, settings, tables, lease."""

from __future__ import annotations

import struct
import time
from ipaddress import IPv4Address

import pytest
from safekit_py.plugins.farm.compiled import FilterObject
from safekit_py.plugins.farm.hashing import bucket_of
from safekit_py.plugins.farm.layout import ACT_DROP, ACT_UNSPEC, BUCKETS, NO_ENTRY, SLICES, Configuration, KernelRule
from safekit_py.plugins.farm.loader import LAG, Filter, unpin

from safekit_py.api import SystemProblem

pytestmark = pytest.mark.lab
VIP = IPv4Address("10.0.0.100")


def udp() -> bytes:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0, 64, 17, 0) + bytes([10, 0, 0, 7]) + VIP.packed
    return bytes(12) + b"\x08\0" + ip + struct.pack(">HHI", 40000, 53, 0)


def table(owner: int) -> bytes:
    return bytes([owner, 255, 255, 255]) * BUCKETS


@pytest.fixture
def farm_filter(three_groups):
    return three_groups


def configured(loaded: Filter, owner: int = 3) -> Filter:
    loaded.configure(Configuration(3, 7, [(VIP, 0)], [KernelRule("udp", "on_addr", 2)], None))
    loaded.install([table(0), table(0), table(owner)], {})
    return loaded


def test_nothing_is_accepted_until_opened_and_leased(farm_filter):
    configured(farm_filter)
    assert farm_filter.run(udp()).code == ACT_DROP
    farm_filter.set_open(True)
    assert farm_filter.run(udp()).code == ACT_DROP
    farm_filter.renew(time.monotonic_ns() + 10**10)
    assert farm_filter.run(udp()).code == ACT_UNSPEC
    farm_filter.renew(time.monotonic_ns() - 1)
    assert farm_filter.run(udp()).code == ACT_DROP
    assert farm_filter.counters() == {(2, "closed"): 1, (2, "expired"): 2, (2, "accepted"): 1}


def test_the_lease_never_ends_late(farm_filter):
    """The filter's clock lags: a packet is accepted only while the exact clock is before the deadline."""
    lease_ends(configured(farm_filter), round(LAG * time.clock_getres(6) * 1e9))


def test_an_exact_lease_ends_at_its_deadline(bpffs, filter_object):
    exact = Filter.load(filter_object, bpffs / "exact", 3, exact=True)
    try:
        lease_ends(configured(exact), 0)
        again = Filter.reopen(exact.folder)
        lease_ends(again, 0)
        again.close()
    finally:
        exact.unpin()
        exact.close()


def lease_ends(farm_filter, lag):
    farm_filter.set_open(True)
    for _ in range(20):
        deadline = time.monotonic_ns() + lag + 15_000_000
        farm_filter.renew(deadline)
        accepted = 0
        while (now := time.monotonic_ns()) < deadline + 10_000_000:
            if farm_filter.run(udp()).code == ACT_UNSPEC:
                accepted = now
        assert deadline - lag - 15_000_000 < accepted < deadline


def test_install_takes_turns_and_keeps_the_gate(farm_filter):
    configured(farm_filter).set_open(True)
    farm_filter.renew(2**63)
    for owner in (3, 1, 3, 2, 3):
        farm_filter.install([table(0), table(0), table(owner)], {})
        assert farm_filter.is_open
        assert (farm_filter.run(udp()).code == ACT_UNSPEC) == (owner == 3)


def test_the_macs_of_servers_come_and_go(farm_filter):
    """A frame from a server is not sent on, nor is one from a server that has left: it may not know that it has."""
    configured(farm_filter, owner=1).set_open(True)
    mine, theirs, other = (bytes([2, 0, 0, 0, 0, n]) for n in (3, 1, 9))
    tables = [table(1)] * 3
    members = {(0, 3): mine, (0, 1): theirs}
    for macs, verdict, source in (
        (members, "forwarded", other),
        (members | {(0, 2): other}, "looped", other),
        (members, "looped", other),
        (members, "forwarded", bytes([2, 0, 0, 0, 0, 8])),
    ):
        before = farm_filter.counters().get((2, verdict), 0)
        farm_filter.install(tables, macs)
        farm_filter.run(udp()[:6] + source + udp()[12:])
        assert farm_filter.counters()[2, verdict] == before + 1


def test_packets_are_counted_by_slice(farm_filter):
    configured(farm_filter).set_open(True)
    farm_filter.renew(time.monotonic_ns() + 10**10)
    for _ in range(3):
        farm_filter.run(udp())
    slices = farm_filter.slices(2)
    assert len(slices) == SLICES
    assert slices[bucket_of(IPv4Address("10.0.0.7"), 7) >> 8] == {"accepted": 3}
    assert sum(map(len, slices)) == 1
    assert not any(farm_filter.slices(0))


def test_a_group_without_a_table_belongs_to_nobody(farm_filter):
    configured(farm_filter).set_open(True)
    farm_filter.install([], {})
    farm_filter.run(udp())
    assert farm_filter.counters() == {(2, "nobody"): 1}


def test_reopened_filter_goes_on_where_the_first_was(farm_filter):
    configured(farm_filter).set_open(True)
    farm_filter.renew(2**63)
    again = Filter.reopen(farm_filter.folder)
    assert again.is_open
    assert again.run(udp()).code == ACT_UNSPEC
    again.install([], {})
    assert farm_filter.run(udp()).code == ACT_DROP
    again.close()
    again.close()
    again.renew(1)


def test_an_open_filter_is_not_reconfigured(farm_filter):
    configured(farm_filter).set_open(True)
    with pytest.raises(ValueError, match="close it"):
        farm_filter.configure(Configuration(3, 7, [], [], None))


@pytest.mark.parametrize("tables", [[bytes(3)], [NO_ENTRY * BUCKETS] * 4])
def test_wrong_tables_change_nothing(farm_filter, tables):
    configured(farm_filter).set_open(True)
    farm_filter.renew(2**63)
    with pytest.raises(ValueError, match="3 tables of 262144 bytes"):
        farm_filter.install(tables, {})
    assert farm_filter.run(udp()).code == ACT_UNSPEC


def test_loading_again_replaces_and_unpin_leaves_nothing(bpffs, filter_object):
    first = Filter.load(filter_object, bpffs / "twice", 3)
    second = Filter.load(filter_object, bpffs / "twice", 3)
    configured(first)
    assert second.run(udp()).code == ACT_UNSPEC  # knows no VIP: it is not the first one
    second.unpin()
    assert not (bpffs / "twice").exists()
    unpin(bpffs / "twice")
    with pytest.raises(FileNotFoundError):
        Filter.reopen(bpffs / "twice")
    first.close()
    second.close()


def test_a_program_that_the_kernel_refuses_leaves_no_pins(bpffs, filter_object):
    endless = struct.pack("=BBhi", 0x05, 0, -1, 0)
    with pytest.raises(SystemProblem, match=r"filter\.load"):
        Filter.load(FilterObject(endless, filter_object.maps, ()), bpffs / "bad")
    assert not (bpffs / "bad").exists()


def test_a_folder_in_no_bpf_file_system_is_refused(tmp_path, filter_object):
    with pytest.raises(SystemProblem, match=r"filter\.load"):
        Filter.load(filter_object, tmp_path / "pins")
    assert not (tmp_path / "pins").exists()
