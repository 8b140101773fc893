"""Compiling once, and saying what is missing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from safekit_py.plugins.farm import compiler
from safekit_py.plugins.farm.compiler import MAPS

from safekit_py.api import SystemProblem


def codes(problems):
    return {problem.code for problem in problems}


def test_every_missing_thing_has_its_own_problem_and_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "_bcc_folder", lambda: None)
    monkeypatch.setattr(compiler, "_capabilities", lambda: 0)
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path / "none"))
    found = compiler.requirements(bpffs=tmp_path)
    assert codes(found) >= {"filter.no-bcc", "filter.no-cap-bpf", "filter.no-cap-net-admin", "filter.no-bpffs"}
    if not Path("/sys/kernel/kheaders.tar.xz").exists():
        assert "filter.no-headers" in codes(found)
    assert all(problem.remedy for problem in found)
    assert "python3-bpfcc" in str(found)
    assert f"mount -t bpf bpf {tmp_path}" in str(found)


def test_with_a_compiled_filter_at_hand_no_compiler_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path / "none"))
    compiler.object_path(tmp_path).touch()
    assert not codes(compiler.requirements(tmp_path)) & {"filter.no-bcc", "filter.no-headers"}


@pytest.mark.lab
def test_nothing_is_missing_where_the_filter_is_compiled(bpffs):
    assert compiler.requirements(bpffs=bpffs) == []


@pytest.mark.lab
def test_several_at_once_compile_once(tmp_path, monkeypatch):
    compiled = []
    really = compiler._compile_in_child
    monkeypatch.setattr(compiler, "_compile_in_child", lambda path: (compiled.append(path), really(path)))
    objects = []
    threads = [threading.Thread(target=lambda: objects.append(compiler.object_for(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert len(objects) == 4
    assert {layout.name for layout in objects[0].maps} == set(MAPS)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".lock"]


@pytest.mark.lab
def test_a_damaged_file_is_compiled_anew(tmp_path, filter_object):
    compiler.object_path(tmp_path).write_text('{"instructions": 7')
    assert compiler.object_for(tmp_path) == filter_object


def test_a_compiler_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler.sys, "executable", "/bin/false")
    with pytest.raises(SystemProblem, match=r"filter\.compile"):
        compiler.object_for(tmp_path)
