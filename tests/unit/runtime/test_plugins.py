"""Plugins: a bad one is named and set aside, the others work."""

import asyncio
import sys
import types

import click
import pytest

from safekit_py.errors import Problem, SafekitError, StateError
from safekit_py.hookspecs import hookimpl
from safekit_py.model.event import Event
from safekit_py.model.plugin import Action
from safekit_py.model.state import Severity
from safekit_py.runtime import plugins


class Good:
    def __init__(self):
        self.events = []

    @hookimpl
    def safekit_actions(self):
        return [Action("page", None)]

    @hookimpl
    def safekit_event(self, event):
        self.events.append(event)


class Raising:
    @hookimpl
    def safekit_actions(self):
        raise RuntimeError("broken")

    @hookimpl
    def safekit_event(self, event):
        sys.exit(3)


class Misspelt:
    @hookimpl
    def safekit_action(self):
        return []


class Twice:
    @hookimpl
    def safekit_actions(self):
        return [Action("page", None), Action("other", None)]


EVENT = Event(0.0, "app", Severity.INFO, "heart", "text")


def problems(manager):
    return {p.name: [x.code for x in p.problems] for p in manager.plugins if p.problems}


def test_a_raising_plugin_does_not_starve_the_others():
    manager, good = plugins.Manager(), Good()
    manager.register("raising", Raising())
    manager.register("good", good)
    assert set(manager.actions()) == {"page"}
    manager.event(EVENT)
    assert good.events == [EVENT]
    assert problems(manager) == {"raising": ["plugin.failed", "plugin.failed"]}


def test_an_unknown_hook_is_named():
    manager = plugins.Manager()
    manager.register("misspelt", Misspelt())
    found = manager.plugins[0].problems[0]
    assert found.code == "plugin.unknown-hook"
    assert "misspelt" in found.message
    assert "safekit_action," in found.message
    assert "safekit_actions" in found.remedy


def test_a_name_that_is_taken_stays_with_the_first():
    manager = plugins.Manager()
    manager.register("good", Good())
    manager.register("twice", Twice())
    assert set(manager.actions()) == {"page", "other"}
    assert problems(manager) == {"twice": ["plugin.failed"]}


def test_a_plugin_that_cannot_be_imported_is_named():
    manager = plugins.Manager()
    manager.load_module("safekit_py.no_such_plugin")
    assert problems(manager) == {"safekit_py.no_such_plugin": ["plugin.load-failed"]}


def test_a_plugin_that_exits_while_it_is_imported(monkeypatch):
    class Point:
        name, dist = "leaver", None

        def load(self):
            sys.exit(0)

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()])
    manager = plugins.Manager()
    manager.load_entry_points()
    assert problems(manager) == {"leaver": ["plugin.load-failed"]}


def test_a_disabled_plugin_is_not_loaded(monkeypatch):
    monkeypatch.setenv(plugins.DISABLE, "safekit_py.plugins.actions.basic")
    manager = plugins.load(third_party=False)
    assert manager.actions() == {}
    assert "plugin.disabled" in problems(manager)["safekit_py.plugins.actions.basic"]


def test_every_built_in_plugin_loads_without_a_problem():
    manager = plugins.load(third_party=False)
    assert problems(manager) == {}
    assert set(manager.module_types()) >= {"farm"}
    assert {"restart", "stopstart", "stop", "wait", "noaction"} <= set(manager.actions())


@pytest.mark.parametrize("name", sorted(n for n in vars(plugins.hookspecs) if n.startswith("safekit_")))
def test_every_hook_is_documented(name):
    text = getattr(plugins.hookspecs, name).__doc__ or ""
    assert len(text.split()) >= 10


def test_a_module_plugin_is_registered_like_an_object():
    module = types.ModuleType("made")

    @hookimpl
    def safekit_actions():
        return [Action("made", None)]

    module.safekit_actions = safekit_actions
    manager = plugins.Manager()
    manager.register("made", module)
    assert manager.plugins[0].hooks == ("safekit_actions",)


def test_a_name_that_no_path_can_hold_is_refused():
    manager = plugins.Manager()
    manager.register("a/b", Good())
    assert problems(manager) == {"a/b": ["plugin.bad-name"]}
    assert manager.actions() == {}


def test_a_hook_with_arguments_that_do_not_exist_is_refused_and_leaves_nothing_behind():
    class Wrong:
        @hookimpl
        def safekit_actions(self, cluster):
            return [Action("never", None)]

    manager = plugins.Manager()
    manager.register("wrong", Wrong())
    assert problems(manager) == {"wrong": ["plugin.refused"]}
    assert "cluster" in manager.plugins[0].problems[0].message
    assert manager.actions() == {}


def test_a_hook_that_is_a_coroutine_is_refused():
    class Late:
        @hookimpl
        async def safekit_event(self, event):
            """Nobody would wait for it."""

    manager = plugins.Manager()
    manager.register("late", Late())
    assert problems(manager) == {"late": ["plugin.refused"]}


def test_what_is_of_another_kind_is_left_out_and_named():
    class Odd:
        @hookimpl
        def safekit_actions(self):
            return ["page", Action("page", None)]

        @hookimpl
        def safekit_module_types(self):
            return [object()]

    manager = plugins.Manager()
    manager.register("odd", Odd())
    assert set(manager.actions()) == {"page"}
    assert manager.module_types() == {}
    entry = manager.entry("odd")
    assert (entry.faults, entry.brings) == (2, {"actions": ["page"]})
    assert "'page' is no Action" in entry.problems[0].message
    assert "lacks name" in entry.problems[1].message


def test_faults_are_counted_and_neither_kept_nor_logged_for_ever(caplog):
    manager = plugins.Manager()
    manager.register("raising", Raising())
    for _ in range(250):
        manager.event(EVENT)
    entry = manager.entry("raising")
    assert entry.faults == 250
    assert len(entry.problems) == 10
    assert len(caplog.records) == 12


def test_the_traceback_begins_in_the_plugin():
    manager = plugins.Manager()
    manager.register("raising", Raising())
    manager.actions()
    entry = manager.entry("raising")
    assert "in safekit_actions" in entry.last
    assert "runtime/guard.py" not in entry.last
    assert entry.problems[0].file == __file__
    assert entry.last.endswith("RuntimeError: broken")


def test_every_call_is_traced():
    lines = []
    manager = plugins.Manager(lines.append)
    manager.register("raising", Raising())
    manager.register("good", Good())
    manager.actions()
    manager.event(EVENT)
    assert [line.split(" ms: ")[1] for line in lines] == [
        "raised RuntimeError",
        "1 Action",
        "raised PluginExit",
        "nothing",
    ]
    assert lines[1].startswith("hook safekit_actions plugin good ")


def test_commands_that_clash_with_built_in_ones_are_refused():
    class Commands:
        @hookimpl
        def safekit_commands(self):
            return [click.Command("start"), click.Command("page"), "nothing"]

    manager = plugins.Manager()
    manager.register("commands", Commands())
    found = manager.commands({"start"})
    assert {name: plugin for name, (plugin, _) in found.items()} == {"page": "commands"}
    assert manager.entry("commands").faults == 2


def test_what_contributed_code_raises_is_counted_under_its_plugin():
    class Bad:
        name, goal = "bad", None

        def check(self, config, cluster):
            raise RuntimeError("check")

        def requirements(self, config):
            sys.exit(1)

        def runtime(self, context):
            raise RuntimeError("runtime")

    async def run(control, cause):
        raise RuntimeError("action")

    class Plugin:
        @hookimpl
        def safekit_module_types(self):
            return [Bad()]

        @hookimpl
        def safekit_actions(self):
            return [Action("bad", run)]

    manager = plugins.Manager()
    manager.register("bad", Plugin())
    kind = manager.module_types()["bad"]
    assert [p.code for p in kind.check(None, None)] == ["plugin.failed"]
    assert [p.code for p in kind.requirements(None)] == ["plugin.failed"]
    with pytest.raises(SafekitError, match=r"plugin\.failed"):
        kind.runtime(None)
    with pytest.raises(RuntimeError, match="action"):
        asyncio.run(manager.actions()["bad"].run(None, "x"))
    assert manager.entry("bad").faults == 4


def test_a_finding_that_is_raised_on_purpose_is_no_fault():
    async def run(control, cause):
        raise StateError(Problem("mail.none", "no address", "write one"))

    class Plugin:
        @hookimpl
        def safekit_actions(self):
            return [Action("mail", run)]

    manager = plugins.Manager()
    manager.register("mail", Plugin())
    with pytest.raises(StateError):
        asyncio.run(manager.actions()["mail"].run(None, "x"))
    assert manager.entry("mail").faults == 0
