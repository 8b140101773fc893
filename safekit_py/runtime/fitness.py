"""What a plugin may look like: its name, its hooks, and the kinds of what they return."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from safekit_py import hookspecs
from safekit_py.errors import Problem

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def shown(key: Any) -> str:
    """The name of something contributed, as a person reads it: an element with its parent."""
    return "/".join(key) if isinstance(key, tuple) else str(key)


def listed(function: Callable[..., Any], given: Mapping[str, Any]) -> list[Any]:
    """Call a hook; what a generator yields is part of the call."""
    result = function(**given)
    return [] if result is None else list(result)


def kind(result: list[Any]) -> str:
    """What came out, for the trace: how many of which kind."""
    kinds = sorted({type(each).__name__ for each in result})
    return f"{len(result)} {' and '.join(kinds)}" if result else "nothing"


def typed(kind: type) -> Callable[[Any], str]:
    """Says what is wrong with something that is not of this kind."""
    return lambda item: "" if isinstance(item, kind) else f"{item!r} is no {kind.__name__}"


def lacks(item: Any, *names: str) -> str:
    """Which of these attributes something does not have, in words; empty when it has all."""
    missing = [name for name in names if not hasattr(item, name)]
    return f"{item!r} lacks {', '.join(missing)}" if missing else ""


def hook_names() -> list[str]:
    """Every hook that there is."""
    return sorted(name for name in vars(hookspecs) if name.startswith("safekit_"))


def unfit(name: str, plugin: object) -> list[Problem]:
    """Why an object cannot be a plugin."""
    found = []
    if not NAME.fullmatch(name):
        text = f"{name!r} cannot be a plugin's name"
        found.append(Problem("plugin.bad-name", text, "letters, digits, dot, dash and underscore, at most 64"))
    unknown = unknown_hooks(plugin)
    if unknown:
        text = f"plugin {name} implements {', '.join(unknown)}, which is no hook of safekit_py"
        found.append(Problem("plugin.unknown-hook", text, f"the hooks are {', '.join(hook_names())}"))
    for hook in hook_names():
        if inspect.iscoroutinefunction(getattr(plugin, hook, None)):
            text = f"plugin {name} makes {hook} a coroutine function, and hooks are plain functions"
            found.append(Problem("plugin.refused", text, "start a task in it where something takes time"))
    return found


def unknown_hooks(plugin: object) -> list[str]:
    """Marked functions, and functions called ``safekit_…``, that no specification knows."""
    known = set(hook_names())
    names = (n for n in dir(plugin) if not n.startswith("__"))
    mine = {n for n in names if n.startswith("safekit_") or hasattr(getattr(plugin, n, None), "safekit_impl")}
    return sorted(n for n in mine - known if inspect.isroutine(getattr(plugin, n, None)))
