"""The process that tells people: ``python -m safekit_py.notices.child check|test|serve``.

Flows through it, one JSON document a line: what the agent sees, on stdin; what became of the notices, on stdout. It has
the XML library, the plugins' notifiers and the secrets, none of which is in the agent, and may wait for slow servers.

- ``check``: notify.xml on stdin; ``{"problems": …, "targets": …}`` on stdout.
- ``test NAME``: sends one notice to a target of this server's notify.xml, and says how it was taken.
- ``serve``: until stdin ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safekit_py.config.notify import CheckedNotify, check_notify
from safekit_py.core.alerts import Alerts
from safekit_py.errors import ConfigError, NotFoundError, Problem, SafekitError
from safekit_py.model.event import Event
from safekit_py.model.notice import Notice, Notifications, Notifier, Target
from safekit_py.model.paths import Paths
from safekit_py.model.state import Severity
from safekit_py.notices.delivery import Delivery
from safekit_py.notices.unsent import Unsent
from safekit_py.runtime import plugins
from safekit_py.runtime.clock import wall
from safekit_py.runtime.files import write_atomically

LOOK = 1.0  # seconds between two looks at what lasts, and two words about what was sent
GRACE = 3.0  # seconds that what waits has when the agent ends
LARGEST = 1 << 20  # bytes of a notify.xml


def shown(targets: tuple[Target, ...]) -> list[dict[str, Any]]:
    """Targets for people; their secrets are in files, and not even these are named here."""
    return [
        {"name": each.name, "tag": each.tag, "least": each.least, "modules": list(each.modules)} for each in targets
    ]


def check(data: bytes, name: str, notifiers: Mapping[str, Notifier]) -> dict[str, Any]:
    """What is wrong with a file, and whom it names."""
    checked = check_notify(data, name, notifiers)
    targets = checked.notifications.targets if checked.notifications else ()
    return {"problems": [each.as_dict() for each in checked.problems], "targets": shown(targets)}


def _load(paths: Paths, notifiers: Mapping[str, Notifier]) -> Notifications:
    """This server's notify.xml.

    :raises ConfigError: it is not acceptable.
    :raises NotFoundError: there is none.
    """
    try:
        data = paths.notify_xml.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(nothing()) from None
    checked: CheckedNotify = check_notify(data, str(paths.notify_xml), notifiers)
    if checked.notifications is None:
        raise ConfigError(checked.problems)
    return checked.notifications


def nothing() -> Problem:
    """Why nobody is told anything."""
    return Problem(
        "notify.none", "this server has no notify.xml", "safekit-py notify config FILE; see docs/monitoring.md"
    )


def test(paths: Paths, server: str, name: str, notifiers: Mapping[str, Notifier]) -> dict[str, Any]:
    """Send one notice to a target, at once and once."""
    try:
        settings = _load(paths, notifiers)
        target = next((each for each in settings.targets if each.name == name), None)
        if target is None:
            known = ", ".join(each.name for each in settings.targets) or "none"
            problem = Problem("notify.unknown-target", f"notify.xml has no target {name}", f"one of: {known}")
            raise NotFoundError(problem)
        text = "This is a test of the notifications. Nothing has happened."
        notice = Notice("test", "test", "info", server, "", f"test of {name}", text, wall(), wall())
        try:
            notifiers[target.tag].send(target.value, notice)
        except OSError as error:
            remedy = "is its address right, does it run, may this server reach it?"
            raise SafekitError(Problem("notify.failed", f"{name}: {error or type(error).__name__}", remedy)) from error
    except SafekitError as error:
        return {"problems": [each.as_dict() for each in error.problems]}
    return {"problems": []}


class Sender:
    """Alerts, and the queue of each target.

    :param settings: notify.xml.
    """

    def __init__(self, paths: Paths, server: str, settings: Notifications, notifiers: Mapping[str, Notifier]) -> None:
        self._memory = paths.notify / "active.json"
        self._alerts = Alerts(server, settings.repeat)
        with contextlib.suppress(OSError, ValueError, TypeError):  # then they are told again
            self._alerts.load(json.loads(self._memory.read_text(encoding="utf-8")))
        unsent = Unsent(paths.notify / "unsent.log")
        self.deliveries = [
            Delivery(each, notifiers[each.tag], settings, partial(unsent.write, each.name)) for each in settings.targets
        ]

    def take(self, word: Mapping[str, Any]) -> None:
        """One line of the agent."""
        before = set(self._alerts.active)
        if word["what"] in ("event", "present"):
            event = Event(**{**word["event"], "severity": Severity(word["event"]["severity"])})
            found = self._alerts.see(event)
            # How things are when the agent begins is no event.
            self._tell(found if word["what"] == "event" else [each for each in found if each.kind != "event"])
        elif word["what"] == "servers":
            self._tell(self._alerts.servers(word["module"], word["heard"], wall(), speaks=word["speaks"]))
        elif word["what"] == "modules":
            self._alerts.known(word["names"])
        if before != set(self._alerts.active):
            self._remember()

    def look(self) -> None:
        """What lasts may be due again."""
        if found := self._alerts.due(wall()):
            self._tell(found)
            self._remember()

    def _tell(self, notices: list[Notice]) -> None:
        for notice in notices:
            for each in self.deliveries:
                each.put(notice)

    def _remember(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: they are told again after a restart
            write_atomically(self._memory, json.dumps(self._alerts.dump()).encode(), 0o600)

    def counts(self) -> dict[str, Any]:
        """For the agent."""
        return {
            each.target.name: {
                "tag": each.target.tag,
                "sent": each.counts.sent,
                "held": each.counts.held,
                "failed": each.counts.failed,
                "waiting": each.waiting,
                "last": each.counts.last,
            }
            for each in self.deliveries
        }

    def close(self) -> None:
        """The agent has ended."""
        for number, each in enumerate(self.deliveries):
            each.close(GRACE if number == 0 else 0.1)


def _lines(number: int) -> Iterator[str | None]:
    """The agent's lines; None when none has come for a while."""
    rest = b""
    while True:
        ready, _, _ = select.select([number], [], [], LOOK)
        if not ready:
            yield None
            continue
        got = os.read(number, 1 << 16)
        if not got:
            return
        *lines, rest = (rest + got).split(b"\n")
        yield from (each.decode("utf-8", "replace") for each in lines)
        yield None


def serve(paths: Paths, server: str, notifiers: Mapping[str, Notifier]) -> None:
    """Tell people what the agent says, until that ends."""
    sender = Sender(paths, server, _load(paths, notifiers), notifiers)
    said: dict[str, Any] | None = None
    for line in _lines(sys.stdin.fileno()):
        if line is not None:
            sender.take(json.loads(line))
            continue
        sender.look()
        if (now := sender.counts()) != said:
            said = now
            print(json.dumps(now), flush=True)
    sender.close()


def main(words: list[str]) -> None:
    """Do what the words say."""
    paths = Paths(Path(os.environ.get("SAFEKIT_ROOT", "/")))
    notifiers = plugins.load(paths).notifiers()
    server = os.environ.get("SAFEKIT_SERVER", "")
    if words[0] == "check":
        print(json.dumps(check(sys.stdin.buffer.read(LARGEST + 1), words[1], notifiers)))
    elif words[0] == "test":
        print(json.dumps(test(paths, server, words[1], notifiers)))
    else:
        try:
            serve(paths, server, notifiers)
        except SafekitError as error:
            sys.exit("; ".join(str(each) for each in error.problems))


if __name__ == "__main__":
    main(sys.argv[1:])
