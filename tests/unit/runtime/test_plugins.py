"""Plugins: a bad one is named and set aside, the others work."""

import sys
import types

import pytest

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
