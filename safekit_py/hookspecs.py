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
    import click
    from fastapi import APIRouter

    from safekit_py.model.event import Event
    from safekit_py.model.notice import Notifier
    from safekit_py.model.plugin import Action, CheckerType, Element, Metric, ModuleType, Server

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


@hookspec
def safekit_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Contribute commands of ``safekit-py``.

    As ``ctx.obj`` each gets an object whose ``call(method, path, **arguments)`` calls the agent's API and returns the
    answer's JSON.

    Called in the process of the command line, and only when a command is named that is not built in.

    :return: the commands; a name that is taken is refused.
    """


@hookspec
def safekit_routes(server: Server) -> Iterable[APIRouter]:  # type: ignore[empty-body]
    """Contribute routes of the agent's API, below ``/api/v1/plugins/NAME`` where NAME is the plugin's.

    Called once, when the agent starts. A route runs in the agent's event loop.

    :param server: this server's modules, to be looked at and asked for something.
    :return: FastAPI routers.
    """


@hookspec
def safekit_metrics(server: Server) -> Iterable[Metric]:  # type: ignore[empty-body]
    """Contribute figures for monitoring. Called in the agent's event loop at each look: return at once.

    :param server: this server's modules.
    :return: the figures; a name that is taken is refused.
    """


@hookspec
def safekit_notifiers() -> Iterable[Notifier]:  # type: ignore[empty-body]
    """Contribute ways to tell people, the elements of notify.xml.

    Called in the processes that check notify.xml and that send; never in the agent.

    :return: the notifiers; a tag that is taken is refused.
    """
