"""The compiled filter as a value."""

from __future__ import annotations

import struct

import pytest
from safekit_py.plugins.farm.bpf import MapLayout
from safekit_py.plugins.farm.compiled import FilterObject

MAPS = {7: MapLayout("lease", 2, 4, 8, 1), 9: MapLayout("gate", 2, 4, 8, 1)}


def load(fd: int, source: int) -> bytes:
    return struct.pack("=BBhi", 0x18, source << 4 | 1, 0, fd) + bytes(8)


def test_descriptors_become_names_and_back():
    dump = load(9, 1) + struct.pack("=BBhi", 0xB7, 0, 0, 9) + load(7, 1) + load(9, 0)
    found = FilterObject.from_dump(dump, MAPS)
    assert found.references == ((0, "gate"), (3, "lease"))
    assert found.linked({"lease": 7, "gate": 9}) == dump
    assert struct.unpack_from("=i", found.instructions, 4) == (0,)
    assert FilterObject.from_json(found.to_json()) == found


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"instructions": "%", "maps": [], "references": []}'])
def test_another_file_is_refused(text):
    with pytest.raises((ValueError, KeyError, TypeError)):
        FilterObject.from_json(text)
