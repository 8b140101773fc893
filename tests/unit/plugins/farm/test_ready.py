"""The filter that ships: it is that of the sources, does what a fresh build does, and needs no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random  # seeded: the same frames in every run

import pytest
from frames import crafted, state_of
from safekit_py.plugins.farm import compiler, ready
from safekit_py.plugins.farm.layout import VERDICTS, Configuration
from safekit_py.plugins.farm.loader import Filter

from safekit_py.api import Problem, SystemProblem

STALE = "make filter: filter.c or filter.h was changed after it"


@pytest.mark.parametrize("path", sorted(ready.shipped_path().parent.glob("filter-*.json")), ids=lambda p: p.stem)
def test_what_ships_is_in_step_with_its_sources(path):
    found = compiler.read(path)
    assert found is not None
    assert found.sources == compiler.sources(), STALE
    assert path == ready.shipped_path(found.machine)
    assert {layout.name for layout in found.maps} == set(compiler.MAPS)
    assert max(len(line) for line in path.read_text().splitlines()) <= 120


def test_one_ships_for_the_usual_machine():
    assert ready.shipped_path("x86_64").exists()


@pytest.mark.parametrize("changed", ["sources", "machine"])
def test_one_of_other_sources_or_another_machine_is_not_taken(monkeypatch, tmp_path, changed):
    known = ready.shipped()
    if known is None:
        pytest.skip(f"none ships for this machine, or {STALE}")
    path = tmp_path / "filter.json"
    monkeypatch.setattr(ready, "shipped_path", lambda: path)
    path.write_text(known.to_json())
    assert ready.shipped() == known
    path.write_text(known.to_json().replace(getattr(known, changed), "another"))
    assert ready.shipped() is None


@pytest.fixture
def both(bpffs, filter_object):
    """The filter that ships and one compiled now."""
    known = ready.shipped()
    assert known is not None, STALE
    made = [Filter.load(each, bpffs / f"both{number}", 3) for number, each in enumerate((known, filter_object))]
    yield made
    for each in made:
        each.unpin()
        each.close()


@pytest.mark.lab
@pytest.mark.parametrize("seed", range(3))
def test_it_judges_as_a_fresh_build_does(both, new_network, seed):
    """The same frames through both: the same verdicts, frames, counts and clients."""
    random = Random(seed)
    state = state_of(random.randrange(4), random)
    for each in both:
        each.configure(Configuration(state.me, state.seed, list(state.vips.items()), state.rules, 0, state.vmacs))
        each.install(state.tables, state.macs)
        each.set_open(True)
        each.renew(time.monotonic_ns() + 10**11)
    codes: Counter[int] = Counter()
    for _ in range(3000):
        frame = crafted(random)
        one, other = (each.run(frame) for each in both)
        assert (one.code, one.packet) == (other.code, other.packet), frame.hex()
        codes[one.code] += 1
    assert min(codes.values()) > 50
    one, other = (each.counters() for each in both)
    assert one == other
    assert len({verdict for _, verdict in one}) > len(VERDICTS) // 2
    assert [both[0].slices(group) for group in range(3)] == [both[1].slices(group) for group in range(3)]
    known = [{(addr, mac) for addr, mac, _ in each.clients()} for each in both]
    assert known[0] == known[1] != set()


@pytest.mark.lab
def test_a_refused_one_is_compiled_anew(monkeypatch, bpffs, filter_object, tmp_path):
    load, given = Filter.load, []

    def first_refused(compiled, folder, groups, *, exact):
        given.append(compiled)
        if len(given) == 1:
            raise SystemProblem(Problem("filter.load", "unknown func"))
        return load(compiled, folder, groups, exact=exact)

    monkeypatch.setattr(ready, "shipped", lambda: filter_object)
    monkeypatch.setattr(Filter, "load", first_refused)
    loaded, origin = ready.load(tmp_path / "cache", bpffs / "refused", 1)
    loaded.unpin()
    loaded.close()
    assert origin == ready.COMPILED
    assert compiler.cached(tmp_path / "cache") == filter_object


def test_without_a_compiler_the_kernels_refusal_says_what_to_install(monkeypatch, tmp_path):
    def refused(*_, **__):
        raise SystemProblem(Problem("filter.load", "unknown func bpf_skc_lookup_tcp"))

    monkeypatch.setattr(Filter, "load", refused)
    monkeypatch.setattr(ready, "shipped", object)
    monkeypatch.setattr(compiler, "bcc_folder", lambda: None)
    with pytest.raises(SystemProblem, match=r"unknown func.*python3-bpfcc"):
        ready.load(tmp_path, tmp_path, 1)


HIDDEN = """
import sys
from pathlib import Path
from safekit_py.plugins.farm import needs, ready
assert {each.code for each in needs.for_building()} == {"filter.no-bcc", "filter.no-headers"}
assert needs.requirements(Path(sys.argv[1])) == []
loaded, origin = ready.load(Path(sys.argv[2]), Path(sys.argv[1]) / "hidden", 2)
try:
    print(origin, loaded.run(bytes(64)).code, "bcc" in sys.modules)
finally:
    loaded.unpin()
"""


@pytest.mark.lab
def test_a_server_without_compiler_and_headers_has_a_filter(bpffs, tmp_path):
    if ready.shipped() is None:
        pytest.skip(f"none ships for this machine, or {STALE}")
    hide = "for each in /usr/lib/python3/dist-packages/bcc /lib/modules /usr/src; do mount -t tmpfs none $each; done"
    root = str(Path(compiler.__file__).parents[2])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f'{hide}; exec "$@"', "-", sys.executable, "-c", HIDDEN, bpffs, tmp_path],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{ready.SHIPPED} {0xFFFFFFFF} False\n", done.stderr
    assert list(tmp_path.iterdir()) == []
