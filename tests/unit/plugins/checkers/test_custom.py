"""``<custom>``: what the program gets, and what becomes of one that ends."""

import asyncio
from pathlib import Path

import pytest
from safekit_py.plugins.checkers import custom
from safekit_py.plugins.checkers.custom_element import CustomCheck

from safekit_py.model.config import Cluster, ModuleConfig, Service, User
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import ModuleContext


class Module:
    def __init__(self, root):
        self.paths, self.lines, self.reports = Paths(root), [], []
        (self.paths.module("m") / "bin").mkdir(parents=True)

    def write(self, text, mode=0o755):
        path = self.paths.module("m") / "bin/look"
        path.write_text(text)
        path.chmod(mode)

    def checker(self, check, **user):
        config = ModuleConfig(Service(mode="light"), User(**user), elements=(("check/custom", (check,)),))
        context = ModuleContext(
            *("m", config, Cluster(), "s", self.paths, b"", 0),
            lambda severity, text: self.lines.append((severity, text)),
            lambda *_: None,
        )
        return next(iter(custom._create(context)))

    def run(self, checker, until):
        """Run it until ``until()``; fails after a while."""

        async def watched():
            task = asyncio.create_task(checker.run(lambda *report: self.reports.append(report)))
            try:
                async with asyncio.timeout(10):
                    while not until():
                        await asyncio.sleep(0.02)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(watched())


@pytest.fixture
def module(tmp_path):
    return Module(tmp_path)


CHECK = CustomCheck("c", "both", "look", ("a", "b c"), "restart")


def test_the_program_gets_the_modules_name_its_resource_its_words_and_the_environment_of_scripts(module):
    module.write('#!/bin/sh\nprintf "%s|" "$@" "$SAFEMODULE" "$SAFE" "$NAME" "$PWD"; echo; exec sleep 600\n')
    log = module.paths.module_var("m") / "userlog"
    checker = module.checker(CHECK, variables=(("NAME", "value"),))
    module.run(checker, lambda: log.exists() and "\n" in log.read_text())
    words = ["m", "custom.c", "a", "b c", "m", str(module.paths.safe), "value", str(log.parent), "\n"]
    assert log.read_text().split("|") == words
    assert (checker.resource, checker.rule, checker.action, checker.when) == ("custom.c", "c_c", "restart", "both")
    assert module.reports == [], "its value is the program's own matter"


def test_without_a_user_log_nothing_is_kept(module):
    module.write("#!/bin/sh\necho x\necho y >&2\nexit 1\n")
    module.run(module.checker(CHECK, logging="none"), lambda: module.reports)
    assert not (module.paths.module_var("m") / "userlog").exists()
    assert module.reports == [("unknown", "look ended with status 1: y")]


def test_one_that_ends_is_started_again_after_growing_pauses(module, monkeypatch):
    monkeypatch.setattr(custom, "BACKOFF", (0.1, 0.2, 0.3))
    module.write("#!/bin/sh\necho x\nexit 4\n")
    module.run(module.checker(CHECK), lambda: len(module.reports) == 5)
    assert set(module.reports) == {("unknown", "look ended with status 4")}
    pauses = [text.rpartition(" in ")[2] for _, text in module.lines]
    assert pauses == ["0.1 s", "0.2 s", "0.3 s", "0.3 s", "0.3 s"]


def test_one_that_ran_well_for_long_is_started_again_soon(module, monkeypatch):
    monkeypatch.setattr(custom, "BACKOFF", (0.1, 5.0))
    monkeypatch.setattr(custom, "SOUND", 0.0)
    module.write("#!/bin/sh\nexit 0\n")
    module.run(module.checker(CHECK), lambda: len(module.reports) == 3)


@pytest.mark.parametrize(
    ("mode", "words"),
    [(0o777, "can be changed by others than root"), (0o644, "permission denied"), (None, "no such file")],
)
def test_one_that_may_not_or_cannot_run_is_said(module, mode, words):
    if mode:
        module.write("#!/bin/sh\n", mode)
    module.run(module.checker(CHECK), lambda: module.reports)
    assert module.reports[0][0] == "unknown"
    assert words in module.reports[0][1]


def test_equal_configurations_make_equal_checkers_and_other_variables_do_not(module):
    assert module.checker(CHECK).config == module.checker(CHECK).config
    assert module.checker(CHECK).config != module.checker(CHECK, variables=(("A", "1"),)).config


def test_an_end_leaves_no_file_open(module):
    module.write("#!/bin/sh\nexec sleep 600\n")
    asyncio.run(asyncio.sleep(0))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        checker, start = module.checker(CHECK), len(module.lines)
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(checker.run(lambda *_: None), 0.3))
        assert len(module.lines) == start
    assert len(list(Path("/proc/self/fd").iterdir())) == before
