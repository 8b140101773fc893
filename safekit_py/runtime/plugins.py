"""Finds and loads plugins, and calls their hooks one plugin at a time.

The built-in plugins are an explicit list; a third party's come through the entry-point group ``safekit_py.plugins``.
A plugin that cannot be imported, that has an unknown hook, or that raises is named and set aside; the others go on.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import pluggy

from safekit_py import hookspecs
from safekit_py.errors import Problem
from safekit_py.model.event import Event
from safekit_py.model.plugin import Action, CheckerType, Element, ModuleType

ENTRY_POINTS = "safekit_py.plugins"
DISABLE = "SAFEKIT_DISABLED_PLUGINS"
BUILTIN = (
    "safekit_py.plugins.farm.plugin",
    "safekit_py.plugins.light.plugin",
    "safekit_py.plugins.checkers.tcp",
    "safekit_py.plugins.actions.basic",
    "safekit_py.plugins.compat",
)
log = logging.getLogger("safekit.plugins")


@dataclass(slots=True)
class Loaded:
    """One plugin: where it comes from, the hooks that it implements, and what is wrong with it."""

    name: str
    origin: str
    hooks: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)


class Manager:
    """The plugins of this process, behind one method a hook."""

    def __init__(self) -> None:
        self._pm = pluggy.PluginManager(hookspecs.NAMESPACE)
        self._pm.add_hookspecs(hookspecs)
        self.plugins: list[Loaded] = []

    def register(self, name: str, plugin: object, origin: str = "built-in") -> None:
        """Take in a plugin object; what is wrong with it is recorded under its name."""
        entry = Loaded(name, origin)
        self.plugins.append(entry)
        unknown = _unknown_hooks(plugin)
        if unknown:
            entry.problems.append(
                Problem(
                    "plugin.unknown-hook",
                    f"plugin {name} implements {', '.join(unknown)}, which is no hook of safekit_py",
                    f"the hooks are {', '.join(_hook_names())}",
                )
            )
            return
        try:
            self._pm.register(plugin, name=name)
        except (ValueError, pluggy.PluginValidationError) as error:
            entry.problems.append(Problem("plugin.refused", f"plugin {name} is refused: {error}"))
            return
        callers = self._pm.get_hookcallers(plugin) or []
        entry.hooks = tuple(sorted(c.name for c in callers))

    def load_module(self, module: str) -> None:
        """Import and register a built-in plugin."""
        self._load(module, "built-in", lambda: importlib.import_module(module))

    def load_entry_points(self) -> None:
        """Import and register the plugins that installed packages offer."""
        for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
            origin = f"{point.dist.name} {point.dist.version}" if point.dist else "entry point"
            self._load(point.name, origin, point.load)

    def _load(self, name: str, origin: str, load: Any) -> None:
        if name in _disabled():
            problem = Problem("plugin.disabled", f"plugin {name} is disabled by {DISABLE}", severity="warning")
            self.plugins.append(Loaded(name, origin, problems=[problem]))
            return
        try:
            plugin = load()
        except (Exception, SystemExit) as error:  # a plugin's fault must not be the agent's
            reason = f"{type(error).__name__}: {error}"
            problem = Problem("plugin.load-failed", f"plugin {name} could not be loaded: {reason}")
            self.plugins.append(Loaded(name, origin, problems=[problem]))
            return
        self.register(name, plugin, origin)

    def _fault(self, name: str, hook: str, error: BaseException) -> None:
        problem = Problem("plugin.failed", f"plugin {name} failed in {hook}: {type(error).__name__}: {error}")
        log.error("%s", problem)
        for entry in self.plugins:
            if entry.name == name:
                entry.problems = [*entry.problems[-9:], problem]

    def _calls(self, hook: str, **arguments: Any) -> Iterable[tuple[str, Any]]:
        """Call a hook plugin by plugin, in the order of registration."""
        for implementation in getattr(self._pm.hook, hook).get_hookimpls():
            # An implementation may take fewer arguments than the specification offers.
            given = {k: v for k, v in arguments.items() if k in implementation.argnames}
            try:
                result = implementation.function(**given)
                result = list(result) if result is not None else []
            except (Exception, SystemExit) as error:
                self._fault(implementation.plugin_name, hook, error)
                continue
            yield implementation.plugin_name, result

    def _named(self, hook: str, key: Any) -> dict[Any, Any]:
        found: dict[Any, tuple[str, Any]] = {}
        for plugin, items in self._calls(hook):
            for item in items:
                name = key(item)
                if name in found:
                    self._fault(plugin, hook, ValueError(f"{name} is already defined by plugin {found[name][0]}"))
                    continue
                found[name] = (plugin, item)
        return {name: item for name, (_, item) in found.items()}

    def elements(self) -> tuple[Element, ...]:
        """Every element of userconfig.xml that plugins contribute."""
        return tuple(self._named("safekit_elements", lambda e: (e.parent, e.tag)).values())

    def module_types(self) -> dict[str, ModuleType]:
        """Module types by the name that ``<service mode>`` uses."""
        return self._named("safekit_module_types", lambda t: t.name)

    def checkers(self) -> dict[str, CheckerType]:
        """Checker types by name."""
        return self._named("safekit_checkers", lambda c: c.name)

    def actions(self) -> dict[str, Action]:
        """Actions by name."""
        return self._named("safekit_actions", lambda a: a.name)

    def event(self, event: Event) -> None:
        """Tell every plugin of an event."""
        for _ in self._calls("safekit_event", event=event):
            pass


def _hook_names() -> list[str]:
    return sorted(name for name in vars(hookspecs) if name.startswith("safekit_"))


def _unknown_hooks(plugin: object) -> list[str]:
    """Marked functions, and functions called ``safekit_…``, that no specification knows."""
    known = set(_hook_names())
    names = (n for n in dir(plugin) if not n.startswith("__"))
    mine = {n for n in names if n.startswith("safekit_") or hasattr(getattr(plugin, n, None), "safekit_impl")}
    return sorted(n for n in mine - known if inspect.isroutine(getattr(plugin, n, None)))


def _disabled() -> set[str]:
    return {name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip()}


def load(*, third_party: bool = True) -> Manager:
    """The manager with every plugin that this installation has."""
    manager = Manager()
    for module in BUILTIN:
        manager.load_module(module)
    if third_party:
        manager.load_entry_points()
    return manager
