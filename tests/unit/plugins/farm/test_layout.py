"""Settings as bytes, and their limits; that they mean the same in filter.h is seen by test_reference."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from safekit_py.plugins.farm import layout
from safekit_py.plugins.farm.layout import KernelRule, macs_bytes, settings_bytes

VIP = (IPv4Address("10.0.0.100"), 0)
RULE = KernelRule("tcp", "on_port", 0, 80)


def test_limits_and_verdicts_are_those_of_the_source():
    source = Path(layout.__file__).with_name("filter.h").read_text()
    for name in ("MAX_VIPS", "MAX_RULES", "MAX_GROUPS", "MAX_SERVERS", "MAX_SLOTS", "BUCKETS", "NOBODY"):
        assert re.search(rf"#define {name} (\d+)", source)[1] == str(getattr(layout, name))
    words = re.search(r"enum verdict \{(.*?)\}", source, re.DOTALL)[1].lower().replace("nobodys", "nobody")
    assert tuple(word.strip() for word in words.split(",")) == layout.VERDICTS


@pytest.mark.parametrize(
    ("me", "vips", "rules", "arp_group", "words"),
    [
        (64, [VIP], [RULE], 0, "server number: 64"),
        (0, [VIP] * 33, [RULE], 0, "virtual addresses: 33"),
        (0, [VIP], [RULE] * 65, 0, "rules: 65"),
        (0, [VIP], [RULE], 16, "ARP group: 16"),
        (0, [VIP], [KernelRule("tcp", "on_port", 16)], 0, "group: 16"),
        (0, [VIP], [KernelRule("tcp", "on_port", 0, 65536)], 0, "port: 65536"),
        (0, [(VIP[0], 8)], [RULE], 0, "interface: 8"),
    ],
)
def test_what_is_beyond_a_limit_is_named(me, vips, rules, arp_group, words):
    with pytest.raises(ValueError, match=words):
        settings_bytes(me, 1, vips, rules, arp_group)


def test_the_largest_settings_fit():
    data = settings_bytes(63, 2**32 - 1, [(VIP[0], 7)] * 32, [RULE] * 64, None)
    assert len(data) == len(settings_bytes(0, 0, [], [], 0)) == 1048


@pytest.mark.parametrize("place", [(8, 0), (0, 64)])
def test_a_mac_has_its_place(place):
    with pytest.raises(ValueError, match="02:00:00:00:00:01"):
        macs_bytes({place: b"\2\0\0\0\0\1"})
