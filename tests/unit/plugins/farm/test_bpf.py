"""bpf(2) against the running kernel."""

from __future__ import annotations

import struct

import pytest
from safekit_py.plugins.farm import bpf

RETURN_7 = struct.pack("=BBhi", 0xB7, 0, 0, 7) + struct.pack("=BBhi", 0x95, 0, 0, 0)


@pytest.fixture
def map_of():
    made = []

    def make(kind, entries, value=8):
        made.append(bpf.Map.create(bpf.MapLayout("trial", kind, 4, value, entries)))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.close()


@pytest.mark.lab
def test_a_hash_gives_all_its_entries(map_of):
    table = map_of(9, 64)  # LRU hash
    entries = {struct.pack("=I", n): struct.pack("=Q", n * n) for n in range(10)}
    for key, value in entries.items():
        table.update(key, value)
    assert dict(table.items()) == entries
    with pytest.raises(FileNotFoundError):
        table.lookup(struct.pack("=I", 99))


@pytest.mark.lab
def test_an_empty_hash_has_no_entries(map_of):
    assert not list(map_of(1, 8).items())


@pytest.mark.lab
def test_a_per_cpu_array_has_a_value_for_each_cpu(map_of):
    assert len(map_of(6, 2).lookup(bytes(4))) == 8 * bpf.possible_cpus()


@pytest.mark.lab
def test_wrong_sizes_are_refused_before_the_kernel_could_read_beyond(map_of):
    table = map_of(2, 1)
    for key, value in ((b"", bytes(8)), (bytes(4), bytes(7)), (bytes(5), bytes(8))):
        with pytest.raises(ValueError, match="trial takes"):
            table.update(key, value)


@pytest.mark.lab
def test_a_pinned_map_is_found_again_with_its_layout(map_of, bpffs):
    table = map_of(2, 3, 16)
    table.pin(bpffs / "trial")
    again = bpf.Map.from_fd(bpf.open_pin(bpffs / "trial"))
    (bpffs / "trial").unlink()
    assert again.layout == table.layout
    again.close()


@pytest.mark.lab
def test_a_program_runs_and_a_bad_one_is_explained():
    import os

    program = bpf.load_program(RETURN_7, "trial", "GPL")
    trial = bpf.run_program(program, bytes(60), 10)
    os.close(program)
    assert (trial.code, trial.packet) == (7, bytes(60))
    with pytest.raises(OSError, match="R0 !read_ok"):
        bpf.load_program(RETURN_7[8:], "trial", "GPL")
