"""The short-lived process behind ``safekit-py plugins check``: loads one plugin, and tells all that is wrong with it.

Arguments: what to check. Answer, on stdout: one JSON document. The process may be killed, exit or hang with the plugin;
the command tells that too.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from safekit_py.cli.main import ALIASES, COMMANDS
from safekit_py.config.schema import assemble
from safekit_py.control.figures import wrong
from safekit_py.control.mounted import Mounted
from safekit_py.errors import ConfigError, NotFoundError, Problem, SafekitError
from safekit_py.model.paths import Paths
from safekit_py.model.plugin import Element, ModuleHandle
from safekit_py.runtime import plugindir, plugins
from safekit_py.runtime.faults import Loaded

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class NoModules:
    """A server without modules, for routes and metrics to look at."""

    def __init__(self, paths: Paths) -> None:
        self.node, self.paths = "server1", paths

    def modules(self) -> tuple[str, ...]:
        """None."""
        return ()

    def module(self, name: str) -> ModuleHandle:
        """There is none."""
        raise NotFoundError(Problem("module.not-installed", f"module {name} is not installed", "installed: none"))


def check(target: str, paths: Paths) -> Loaded:
    """Load a plugin beside the built-in ones and ask it for everything.

    :param target: a file, the name of an installed plugin, or a module that can be imported.
    :raises NotFoundError: it is none of these.
    """
    manager = plugins.load(third_party=False)
    entry = manager.entry(target) or _load(manager, target, paths)
    if not entry.hooks and not entry.problems:
        text = f"plugin {entry.name} implements no hook"
        entry.problems.append(Problem("plugin.no-hooks", text, "mark its hooks with @hookimpl", severity="warning"))
    _ask(manager, paths)
    entry.problems += [*_elements(manager, entry), *_words(manager, entry), *_imports(entry, target)]
    return entry


def _load(manager: plugins.Manager, target: str, paths: Paths) -> Loaded:
    file = Path(target)
    named = paths.safe / "plugins" / f"{target}.py"
    points = [point for point in entry_points(group=plugins.ENTRY_POINTS) if point.name == target]
    if file.suffix == ".py" and file.is_file():
        manager.load_from(file.stem, str(file), lambda: plugindir.load(file.absolute(), anywhere=True))
    elif points:
        manager.load_from(target, points[0].value, points[0].load)
    elif named.is_file():
        manager.load_file(named)
    elif _importable(target):
        manager.load_from(target, "module", lambda: importlib.import_module(target))
    else:
        text = f"{target} is neither a file, an installed plugin nor a module"
        raise NotFoundError(Problem("plugin.not-found", text, "safekit-py plugins list shows what is installed"))
    return manager.plugins[-1]


def _importable(name: str) -> bool:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _ask(manager: plugins.Manager, paths: Paths) -> None:
    server = NoModules(paths)
    manager.ask_all(server, {*COMMANDS, *ALIASES}, wrong)
    Mounted(manager, manager.routes(server), "/api/v1/plugins")


def _contributed(manager: plugins.Manager, entry: Loaded, hook: str) -> list[Any]:
    return [item for plugin, item in manager.contributed(hook) if plugin == entry.name]


def _elements(manager: plugins.Manager, entry: Loaded) -> Iterator[Problem]:
    """The schema of each element by itself, and then together with the built-in ones."""
    own: list[Element] = _contributed(manager, entry, "safekit_elements")
    sound = []
    for element in own:
        try:
            assemble([element])
            sound.append(element)
        except ConfigError as error:
            yield from error.problems
        if element.build is None and not element.note:
            text = f"<{element.tag}> has neither build nor note"
            yield Problem("plugin.incomplete", text, "give it a build, or a note that says why it does not act")
    if sound:
        try:
            assemble([each for each in manager.elements() if each not in own or each in sound])
        except ConfigError as error:
            yield from error.problems


def _words(manager: plugins.Manager, entry: Loaded) -> Iterator[Problem]:
    """Names that a configuration cannot write, and parts that cannot be run."""
    for hook in ("safekit_actions", "safekit_checkers", "safekit_module_types"):
        for item in _contributed(manager, entry, hook):
            if not WORD.fullmatch(str(item.name)):
                text = f"{item.name!r} of {hook} cannot be written in userconfig.xml"
                yield Problem("plugin.bad-name", text, "one word: a letter, then letters, digits, - _ .")
    for action in manager.given_actions():
        if action[0] == entry.name and not inspect.iscoroutinefunction(action[1].run):
            text = f"the action {action[1].name} is no coroutine function"
            yield Problem("plugin.incomplete", text, "async def run(control, cause): …")


def _imports(entry: Loaded, target: str) -> Iterator[Problem]:
    """Imports of the engine's inside: they may change with any version."""
    path = next((each for each in map(Path, (target, entry.origin)) if each.suffix == ".py" and each.is_file()), Path())
    if path == Path():
        spec = importlib.util.find_spec(target) if _importable(target) else None
        path = Path(spec.origin) if spec and spec.origin else path
    if entry.origin == "built-in" or path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError:
        return  # told already
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "safekit_py" and name not in {"safekit_py.api", "safekit_py.testing"}:
                text = f"it imports {name}, which may change with any version"
                found = Problem("plugin.private", text, "import safekit_py.api", str(path), node.lineno, "warning")
                yield found


def main() -> None:
    """Check what the first argument names."""
    out, sys.stdout = sys.stdout, sys.stderr  # what a plugin prints must not get into the answer
    os.environ.pop(plugins.DISABLE, None)
    paths = Paths(Path(os.environ.get("SAFEKIT_ROOT", "/")))
    try:
        entry = check(sys.argv[1], paths)
    except SafekitError as error:
        entry = Loaded(sys.argv[1], "", problems=list(error.problems))
    json.dump(asdict(entry), out)
    out.flush()
    os._exit(0)  # threads that the plugin left must not keep this process


if __name__ == "__main__":
    main()
