"""Every hook of safekit_py, in one place.

A plugin is a module or an object with functions of these names, marked with ``safekit_py.api.hookimpl``. Built-in
plugins are listed in ``runtime/plugins.py``; a third party's are found through the entry-point group
``safekit_py.plugins``. Each hook is called plugin by plugin: one that raises is reported by name and skipped, the
others are called all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from safekit_py.model.event import Event
    from safekit_py.model.plugin import Action, CheckerType, Element, ModuleType

NAMESPACE = "safekit"
hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)

# A specification only describes: it is never called, so its body is empty whatever it is said to return.


@hookspec
def safekit_elements() -> Iterable[Element]:  # type: ignore[empty-body]
    """Contribute elements of userconfig.xml, each with its schema and a builder of its value.

    Called when a configuration is checked, in a short-lived process.

    :return: the elements; a tag that another plugin contributed under the same parent is refused, by name.
    """


@hookspec
def safekit_module_types() -> Iterable[ModuleType]:  # type: ignore[empty-body]
    """Contribute module types, the values of ``<service mode>``.

    :return: the types; a name that is taken is refused.
    """


@hookspec
def safekit_checkers() -> Iterable[CheckerType]:  # type: ignore[empty-body]
    """Contribute checkers. Each makes its checkers out of a module's configuration when the module starts.

    :return: the checker types; a name that is taken is refused.
    """


@hookspec
def safekit_actions() -> Iterable[Action]:  # type: ignore[empty-body]
    """Contribute actions that may follow a failure, the values of the attribute ``action``.

    :return: the actions; a name that is taken is refused.
    """


@hookspec
def safekit_event(event: Event) -> None:
    """Be told of an event: a change of state, a change of a resource, or a line of a module's log.

    Called in the agent's event loop: return at once, and hand slow work to a task or a thread.

    :param event: what happened.
    """
