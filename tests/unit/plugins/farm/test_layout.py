"""Settings as bytes, and their limits; that they mean the same in filter.h is seen by test_reference."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from safekit_py.plugins.farm import layout
from safekit_py.plugins.farm.layout import Configuration, KernelRule, macs_bytes, settings_bytes

VIP = (IPv4Address("10.0.0.100"), 0)
RULE = KernelRule("tcp", "on_port", 0, 80)


def test_limits_and_verdicts_are_those_of_the_source():
    source = Path(layout.__file__).with_name("filter.h").read_text()
    for name in ("MAX_VIPS", "MAX_VIPS6", "MAX_RULES", "MAX_GROUPS", "MAX_SLOTS", "BUCKETS", "SLICES", "NOBODY"):
        assert re.search(rf"#define {name} (\d+)", source)[1] == str(getattr(layout, name))
    words = re.search(r"enum verdict \{(.*?)\}", source, re.DOTALL)[1].lower().replace("nobodys", "nobody")
    assert tuple(word.strip() for word in words.strip().rstrip(",").split(",")) == layout.VERDICTS


@pytest.mark.parametrize(
    ("me", "vips", "rules", "arp_group", "words"),
    [
        (250, [VIP], [RULE], 0, "server number: 250"),
        (0, [VIP] * 33, [RULE], 0, "virtual addresses of IPv4: 33"),
        (0, [(IPv6Address("fd00::1"), 0)] * 17, [RULE], 0, "virtual addresses of IPv6: 17"),
        (0, [VIP], [KernelRule("tcp", "on_port", 0, 80, IPv4Address("10.0.0.9"))], 0, "10.0.0.9, which is no virtual"),
        (0, [VIP], [RULE] * 65, 0, "rules: 65"),
        (0, [VIP], [RULE], 16, "ARP group: 16"),
        (0, [VIP], [KernelRule("tcp", "on_port", 16)], 0, "group: 16"),
        (0, [VIP], [KernelRule("tcp", "on_port", 0, 65536)], 0, "port: 65536"),
        (0, [(VIP[0], 8)], [RULE], 0, "interface: 8"),
    ],
)
def test_what_is_beyond_a_limit_is_named(me, vips, rules, arp_group, words):
    with pytest.raises(ValueError, match=words):
        settings_bytes(Configuration(me, 1, vips, rules, arp_group))


def test_the_largest_settings_fit():
    vips = [(VIP[0] + n, 7) for n in range(32)] + [(IPv6Address(n + 1), 7) for n in range(16)]
    data = settings_bytes(Configuration(249, 2**32 - 1, vips, [RULE] * 64, None, dict.fromkeys(range(8), b"\2" * 6)))
    assert len(data) == len(settings_bytes(Configuration(0, 0, [], [], 0))) == 24 + 64 + 32 * 8 + 16 * 20 + 64 * 24


@pytest.mark.parametrize("place", [(8, 0), (0, 250)])
def test_a_mac_has_its_place(place):
    with pytest.raises(ValueError, match="02:00:00:00:00:01"):
        macs_bytes({place: b"\2\0\0\0\0\1"})
