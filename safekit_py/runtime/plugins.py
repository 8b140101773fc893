"""Finds and loads plugins, and calls their hooks one plugin at a time.

The built-in plugins are an explicit list; a third party's come through the entry-point group ``safekit_py.plugins`` or
as single files of ``$SAFE/plugins``. A plugin that cannot be loaded, that has an unknown hook, or that raises is named,
counted and set aside for that call; the others go on.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from safekit_py import __version__, hookspecs
from safekit_py.errors import Problem, SafekitError
from safekit_py.model.event import Event
from safekit_py.model.notice import Notifier
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import Action, CheckerType, Element, Metric, ModuleType, Server
from safekit_py.runtime import guard, plugindir, shield
from safekit_py.runtime.faults import Loaded, cut, failed, said
from safekit_py.runtime.fitness import kind, lacks, listed, shown, typed, unfit

if TYPE_CHECKING:
    import click
    from fastapi import APIRouter

ENTRY_POINTS = "safekit_py.plugins"
DISABLE = "SAFEKIT_DISABLED_PLUGINS"
IMPORT_LIMIT = 20.0  # seconds
TRACE = "SAFEKIT_TRACE_HOOKS"  # environment: every call of a hook is written to stderr
BUILTIN = (
    "safekit_py.plugins.vip.plugin",
    "safekit_py.plugins.farm.plugin",
    "safekit_py.plugins.light.plugin",
    "safekit_py.plugins.mirror.elements",
    "safekit_py.plugins.mirror.plugin",
    "safekit_py.plugins.checkers.tcp",
    "safekit_py.plugins.checkers.ping",
    "safekit_py.plugins.checkers.intf",
    "safekit_py.plugins.checkers.ip",
    "safekit_py.plugins.checkers.custom",
    "safekit_py.plugins.checkers.module",
    "safekit_py.plugins.checkers.splitbrain",
    "safekit_py.plugins.checkers.errd.plugin",
    "safekit_py.plugins.actions.basic",
    "safekit_py.plugins.notify.plugin",
    "safekit_py.plugins.compat",
)
log = logging.getLogger("safekit.plugins")
Trace = Callable[[str], None]


class Manager:
    """The plugins of this process, behind one method a hook.

    :param trace: is told every call of a hook, in one line.
    """

    def __init__(self, trace: Trace | None = None) -> None:
        self._pm = pluggy.PluginManager(hookspecs.NAMESPACE)
        self._pm.add_hookspecs(hookspecs)
        self._trace = trace
        self._asked: dict[str, dict[Any, tuple[str, Any]]] = {}
        self._watchers: dict[str, str] = {}  # resource of a checker -> its plugin
        self.plugins: list[Loaded] = []
        self.guard = guard.Guard(self._stalled)

    # --- loading --------------------------------------------------------------------------------

    def register(self, name: str, plugin: object, origin: str = "built-in", version: str = "") -> None:
        """Take in a plugin object; what is wrong with it is recorded under its name."""
        entry = Loaded(name, origin, version=version)
        self.plugins.append(entry)
        entry.problems += unfit(name, plugin)
        if entry.problems:
            return
        try:
            self._pm.register(plugin, name=name)
        except (ValueError, pluggy.PluginValidationError) as error:
            if self._pm.get_plugin(name) is plugin:
                self._pm.unregister(plugin)  # pluggy keeps what it could not validate
            reason = " ".join(str(error).split())
            remedy = "docs/plugins.md shows the arguments of each hook"
            entry.problems.append(Problem("plugin.refused", f"plugin {name} is refused: {reason}", remedy))
            return
        self._asked.clear()
        callers = self._pm.get_hookcallers(plugin) or []
        entry.hooks = tuple(sorted(c.name for c in callers))

    def load_module(self, module: str) -> None:
        """Import and register a built-in plugin."""
        self.load_from(module, "built-in", lambda: importlib.import_module(module), __version__)

    def load_entry_points(self) -> None:
        """Import and register the plugins that installed packages offer."""
        for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
            version = point.dist.version if point.dist else ""
            origin = f"{point.dist.name} {version}" if point.dist else "entry point"
            self.load_from(point.name, origin, point.load, version)

    def load_files(self, folder: Path) -> None:
        """Run and register the plugins that are single files of a folder."""
        for path in plugindir.files(folder):
            self.load_file(path)

    def load_file(self, path: Path) -> None:
        """Run and register one of them."""
        self.load_from(path.stem, str(path), lambda: plugindir.load(path))

    def load_from(self, name: str, origin: str, load: Callable[[], Any], version: str = "") -> None:
        """Register what ``load`` gives, unless the plugin is disabled; what goes wrong is recorded under its name."""
        entry = Loaded(name, origin, version=version)
        if name in _disabled():
            text = f"plugin {name} is disabled by {DISABLE}"
            entry.problems = [Problem("plugin.disabled", text, "take it out of that variable", severity="warning")]
            self.plugins.append(entry)
            return
        try:
            with guard.within(IMPORT_LIMIT, f"plugin {name}, its import"):
                plugin = guard.call(f"plugin {name}, its import", load)
        except SafekitError as error:
            entry.problems = list(error.problems)
            self.plugins.append(entry)
            return
        except Exception as error:  # a plugin's fault must not be the agent's
            place, entry.last = failed(name, "its import", error), cut(error)
            text = f"plugin {name} could not be loaded: {said(error)}"
            remedy = "install what it needs, or remove it"
            entry.problems = [Problem("plugin.load-failed", text, remedy, place.file, place.line)]
            self.plugins.append(entry)
            return
        self.register(name, plugin, origin, version or str(getattr(plugin, "__version__", "")))

    # --- faults ---------------------------------------------------------------------------------

    def entry(self, name: str) -> Loaded | None:
        """What is known of a plugin."""
        return next((each for each in self.plugins if each.name == name), None)

    def fault(self, name: str, part: str, error: BaseException) -> None:
        """Count a fault of a plugin, in some part of it."""
        entry = self.entry(name)
        problem = entry.fault(part, error) if entry else failed(name, part, error)
        if problem is not None:
            log.error("%s", problem)

    def _stalled(self, owner: str, error: BaseException) -> None:
        name, _, part = owner.removeprefix("plugin ").partition(", ")
        self.fault(name, part, error)

    async def guarded(self, resource: str, run: Awaitable[None]) -> None:
        """Wait for a checker's coroutine; what it raises is counted as its plugin's.

        :param resource: the checker's.
        """
        plugin = self._watchers.get(resource, "")
        await self.shield(plugin).task(f"the checker {resource}", run)

    def shield(self, plugin: str) -> shield.Shield:
        """What calls the code of this plugin."""
        return shield.Shield(plugin, self.fault)

    # --- calling --------------------------------------------------------------------------------

    def _calls(self, hook: str, **arguments: Any) -> Iterator[tuple[str, list[Any]]]:
        """Call a hook plugin by plugin, in the order of registration."""
        for implementation in getattr(self._pm.hook, hook).get_hookimpls():
            # An implementation may take fewer arguments than the specification offers.
            given = {k: v for k, v in arguments.items() if k in implementation.argnames}
            name, began = implementation.plugin_name, time.monotonic()
            try:
                result = guard.call(f"plugin {name}, {hook}", listed, implementation.function, given)
            except Exception as error:
                self._traced(hook, name, began, f"raised {type(error).__name__}")
                if not isinstance(error, guard.PluginStalled):
                    self.fault(name, hook, error)
                continue
            self._traced(hook, name, began, kind(result))
            yield name, result

    def _traced(self, hook: str, plugin: str, began: float, outcome: str) -> None:
        if self._trace is not None:
            self._trace(f"hook {hook} plugin {plugin} {(time.monotonic() - began) * 1000:.2f} ms: {outcome}")

    def _named(
        self,
        hook: str,
        key: Callable[[Any], Any],
        fits: Callable[[Any], str],
        wrap: Callable[[str, Any], Any] = lambda _plugin, item: item,
    ) -> dict[Any, tuple[str, Any]]:
        """What plugins contribute, by its key, each with its plugin; they are asked once."""
        if hook in self._asked:
            return self._asked[hook]
        found: dict[Any, tuple[str, Any]] = {}
        for plugin, items in self._calls(hook):
            self._take(found, (plugin, hook), items, key, fits, wrap)
        self._asked[hook] = found
        return found

    def _take(
        self,
        found: dict[Any, tuple[str, Any]],
        source: tuple[str, str],
        items: Iterable[Any],
        key: Callable[[Any], Any],
        fits: Callable[[Any], str],
        wrap: Callable[[str, Any], Any] = lambda _plugin, item: item,
    ) -> None:
        plugin, hook = source
        for item in items:
            try:
                if wrong := fits(item):
                    raise ValueError(wrong)
                name = key(item)
                if name in found:
                    raise ValueError(f"{shown(name)} is already defined by plugin {found[name][0]}")
                found[name] = (plugin, wrap(plugin, item))
            except Exception as error:
                self.fault(plugin, hook, error)
                continue
            self._brought(plugin, hook, shown(name))

    def _brought(self, plugin: str, hook: str, what: str) -> None:
        entry, kind = self.entry(plugin), hook.removeprefix("safekit_").replace("_", " ")
        if entry is not None and what not in entry.brings.setdefault(kind, []):
            entry.brings[kind].append(what)

    # --- one method a hook ----------------------------------------------------------------------

    def elements(self) -> tuple[Element, ...]:
        """Every element of userconfig.xml that plugins contribute."""
        found = self._named("safekit_elements", lambda e: (e.parent, e.tag), typed(Element))
        return tuple(item for _, item in found.values())

    def module_types(self) -> dict[str, ModuleType]:
        """Module types by the name that ``<service mode>`` uses."""
        found = self._named(
            "safekit_module_types",
            lambda t: t.name,
            lambda t: lacks(t, "name", "goal", "check", "requirements", "runtime"),
            lambda plugin, item: shield.ShieldedType(self.shield(plugin), item),
        )
        return {name: item for name, (_, item) in found.items()}

    def checkers(self) -> dict[str, CheckerType]:
        """Checker types by name."""

        def wrap(plugin: str, item: CheckerType) -> CheckerType:
            return shield.checkers(self.shield(plugin), item, lambda resource: self._watches(plugin, resource))

        found = self._named("safekit_checkers", lambda c: c.name, typed(CheckerType), wrap)
        return {name: item for name, (_, item) in found.items()}

    def _watches(self, plugin: str, resource: str) -> None:
        self._watchers[resource] = plugin

    def actions(self) -> dict[str, Action]:
        """Actions by name."""
        found = self._named(
            "safekit_actions",
            lambda a: a.name,
            typed(Action),
            lambda plugin, item: shield.action(self.shield(plugin), item),
        )
        return {name: item for name, (_, item) in found.items()}

    def notifiers(self) -> dict[str, Notifier]:
        """Ways to tell people, by the element of notify.xml."""
        found = self._named("safekit_notifiers", lambda n: n.tag, typed(Notifier))
        return {tag: item for tag, (_, item) in found.items()}

    def event(self, event: Event) -> None:
        """Tell every plugin of an event."""
        for _ in self._calls("safekit_event", event=event):
            pass

    def commands(self, reserved: Collection[str] = ()) -> dict[str, tuple[str, click.Command]]:
        """Commands of the command line by name, each with its plugin; a ``reserved`` name is refused."""
        import click  # noqa: PLC0415 - the agent has no use for it

        def fits(item: Any) -> str:
            if not isinstance(item, click.Command) or not item.name:
                return f"{item!r} is no click command with a name"
            return f"the command {item.name} is a built-in one" if item.name in reserved else ""

        return self._named("safekit_commands", lambda c: c.name, fits)

    def routes(self, server: Server) -> dict[str, list[APIRouter]]:
        """Routers of the API, by plugin."""
        found: dict[str, list[APIRouter]] = {}
        for plugin, items in self._calls("safekit_routes", server=server):
            if items:
                from fastapi import APIRouter  # noqa: PLC0415 - costs 17 MB: only where a plugin brings routes
            for item in items:
                if not isinstance(item, APIRouter):
                    self.fault(plugin, "safekit_routes", TypeError(f"{item!r} is no APIRouter"))
                    continue
                found.setdefault(plugin, []).append(item)
                for route in item.routes:
                    self._brought(plugin, "safekit_routes", str(getattr(route, "path", route)))
        return found

    def metrics(self, server: Server, check: Callable[[Metric], str] = lambda _: "") -> list[Metric]:
        """The figures that plugins have now.

        :param check: what is wrong with one, or empty; such a one is left out.
        """
        found: dict[Any, tuple[str, Any]] = {}
        fits = typed(Metric)
        for plugin, items in self._calls("safekit_metrics", server=server):
            source = (plugin, "safekit_metrics")
            self._take(found, source, items, lambda m: m.name, lambda m: fits(m) or check(m))
        return [metric for _, metric in found.values()]

    def contributed(self, hook: str) -> list[tuple[str, Any]]:
        """What plugins were found to contribute by one of the hooks that are asked once, each with its plugin."""
        return list(self._asked.get(hook, {}).values())

    def given_actions(self) -> list[tuple[str, Action]]:
        """Actions as their plugins made them, each with its plugin."""
        return [(plugin, each) for plugin, items in self._calls("safekit_actions") for each in items]

    def ask_all(
        self, server: Server, reserved: Collection[str] = (), check: Callable[[Metric], str] = lambda _: ""
    ) -> None:
        """Ask every plugin for all that it contributes but routes, so that ``brings`` of each is whole."""
        self.elements()
        self.module_types()
        self.checkers()
        self.actions()
        self.notifiers()
        self.commands(reserved)
        self.metrics(server, check)


def _disabled() -> set[str]:
    return {name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip()}


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def folder(paths: Paths | None = None) -> Path:
    """Where plugins that are single files stand, by default those of the server that ``$SAFEKIT_ROOT`` names."""
    return (paths or Paths(Path(os.environ.get("SAFEKIT_ROOT", "/")))).safe / "plugins"


def load(paths: Paths | None = None, *, third_party: bool = True) -> Manager:
    """The manager with every plugin that this installation has.

    :param paths: this server's files; without it, those that ``$SAFEKIT_ROOT`` names.
    """
    manager = Manager(_to_stderr if os.environ.get(TRACE) else None)
    for module in BUILTIN:
        manager.load_module(module)
    if third_party:
        manager.load_entry_points()
        manager.load_files(folder(paths))
    return manager
