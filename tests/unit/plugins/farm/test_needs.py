"""Saying what a server lacks for the filter."""

from __future__ import annotations

from pathlib import Path

import pytest
from safekit_py.plugins.farm import compiler, needs, ready


def codes(problems):
    return {problem.code for problem in problems}


def test_every_missing_thing_has_its_own_problem_and_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "bcc_folder", lambda: None)
    monkeypatch.setattr(needs, "capabilities", lambda: 0)
    monkeypatch.setattr(ready, "shipped", lambda: None)
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path / "none"))
    found = needs.requirements(bpffs=tmp_path)
    assert codes(found) >= {"filter.no-bcc", "filter.no-cap-bpf", "filter.no-cap-net-admin", "filter.no-bpffs"}
    if not Path("/sys/kernel/kheaders.tar.xz").exists():
        assert "filter.no-headers" in codes(found)
    assert all(problem.remedy for problem in found)
    assert "python3-bpfcc" in str(found)
    assert f"mount -t bpf bpf {tmp_path}" in str(found)


def test_where_a_filter_ships_no_compiler_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "bcc_folder", lambda: None)
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path / "none"))
    monkeypatch.setattr(ready, "shipped", object)
    assert not codes(needs.requirements(tmp_path)) & {"filter.no-bcc", "filter.no-headers"}


@pytest.mark.lab
def test_nothing_is_missing_where_the_filter_is_compiled(bpffs):
    assert needs.requirements(bpffs=bpffs) == []
    assert list(needs.for_building()) == []
