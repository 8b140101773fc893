"""Compiling once."""

from __future__ import annotations

import threading

import pytest
from safekit_py.plugins.farm import compiler
from safekit_py.plugins.farm.compiler import MAPS

from safekit_py.api import SystemProblem


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
