"""Tells a URL what happens to modules: state, resources, configuration; and the action ``webhook``, which calls it.

    <service mode="farm">
      <webhook url="https://alarm.example.org/safekit" events="state resource config" timeout="5" attempts="5"/>
      <check><tcp ident="mail" when="both" action="webhook"><to addr="127.0.0.1" port="25"/></tcp></check>
    </service>

Each event is a POST with a JSON document. The plugin is an object, because it has something to remember: which module
has which element, and what is on its way.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Iterable
from typing import Any

import click
from fastapi import APIRouter

from safekit_py.api import (
    Action,
    CheckerType,
    Element,
    Event,
    Metric,
    ModuleContext,
    ModuleControl,
    NotFoundError,
    Problem,
    SafekitError,
    Server,
    hookimpl,
)

from .command import webhook
from .delivery import Delivery, Letter, Refused, post
from .element import ELEMENT, Webhook


class WebhookPlugin:
    """The plugin of one process; the thread begins with the first event that somebody wants."""

    def __init__(self) -> None:
        self._hooks: dict[str, tuple[Webhook, str]] = {}  # module -> its element and the name of the server
        self.delivery = Delivery()
        atexit.register(self.delivery.close)

    def _letter(self, module: str, document: dict[str, Any]) -> Letter | None:
        hook, server = self._hooks.get(module, (None, ""))
        if hook is None:
            return None
        return Letter(hook.url, {"server": server, "module": module, **document}, hook.timeout, hook.attempts)

    # --- hooks ------------------------------------------------------------------------------------

    @hookimpl
    def safekit_elements(self) -> Iterable[Element]:
        """``<webhook>`` below ``<service>``."""
        return (ELEMENT,)

    @hookimpl
    def safekit_checkers(self) -> Iterable[CheckerType]:
        """No checker: this is where a plugin meets the configuration of each module, also a changed one."""

        def learn(context: ModuleContext) -> Iterable[Any]:
            hook = context.config.one("webhook")
            if hook is None:
                self._hooks.pop(context.name, None)
            else:
                self._hooks[context.name] = (hook, context.node)
            return ()

        return (CheckerType("webhook", learn),)

    @hookimpl
    def safekit_event(self, event: Event) -> None:
        """Into the queue, when the module wants this kind."""
        hook, _ = self._hooks.get(event.module, (None, ""))
        letter = self._letter(event.module, event.as_dict()) if hook and event.kind in hook.events else None
        if letter is not None:
            self.delivery.put(letter)

    @hookimpl
    def safekit_actions(self) -> Iterable[Action]:
        """``action="webhook"``: tell, and leave the module alone."""

        async def run(control: ModuleControl, cause: str) -> None:
            letter = self._letter(control.name, {"kind": "action", "message": cause})
            if letter is None:
                text = f'{control.name} has action="webhook" and no <webhook>'
                raise SafekitError(Problem("webhook.none", text, "add <webhook url=…/> to its <service>"))
            self.delivery.put(letter)

        return (Action("webhook", run, counted=False, rank=5),)

    @hookimpl
    def safekit_routes(self, server: Server) -> Iterable[APIRouter]:
        """What the command ``webhook`` asks."""
        routes = APIRouter()

        @routes.get("/status")
        async def status() -> dict[str, Any]:
            """What is on its way, and what became of the rest."""
            urls = {module: hook.url for module, (hook, _) in self._hooks.items() if module in server.modules()}
            counts = dict(self.delivery.counts)
            return {"modules": urls, "waiting": len(self.delivery), **counts, "last_error": self.delivery.last_error}

        @routes.post("/test/{module}")
        async def test(module: str) -> dict[str, Any]:
            """Send one document at once, without the queue, and tell how the other side took it."""
            server.module(module)  # or the answer is 404
            letter = self._letter(module, {"kind": "test", "message": "a test of safekit-webhook"})
            if letter is None:
                raise NotFoundError(Problem("webhook.none", f"{module} has no <webhook>", "add one to its <service>"))
            try:
                return {"url": letter.url, "status": await asyncio.to_thread(post, letter)}
            except (OSError, Refused) as error:
                raise SafekitError(Problem("webhook.failed", str(error), f"is {letter.url} right?")) from error

        return (routes,)

    @hookimpl
    def safekit_metrics(self) -> Iterable[Metric]:
        """What was delivered, and what waits."""
        results = tuple(({"result": result}, float(n)) for result, n in sorted(self.delivery.counts.items()))
        return (
            Metric("webhook_documents_total", "Documents by what became of them", "counter", results),
            Metric("webhook_waiting", "Documents on their way", "gauge", (({}, float(len(self.delivery))),)),
        )

    @hookimpl
    def safekit_commands(self) -> Iterable[click.Command]:
        """``safekit-py webhook``."""
        return (webhook,)


plugin = WebhookPlugin()
