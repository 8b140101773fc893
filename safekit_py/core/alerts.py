"""Which events are worth a word to people: conditions that begin, last and end, and things that happen. Pure.

Flows through it: events of modules, and which servers are heard, in; notices out. Time is an argument.

Invariant: of one condition, ``raised`` and ``cleared`` alternate, beginning with ``raised``, and ``repeated`` comes
only between the two; a condition whose notice was raised is active until it is cleared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from safekit_py.model.event import Event
from safekit_py.model.notice import Notice
from safekit_py.model.state import Readiness, Severity, State

SERVES = (State.UP, State.PRIM, State.SECOND)
INVERTED = ("rfs.degraded",)  # resources of which down is the good value
SAME = 60.0  # seconds for which an error that is logged again in the same words is told once
REMEMBERED = 256  # such errors


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that lasts.

    :param since: seconds since the epoch.
    :param told: seconds since the epoch when it was told last.
    """

    level: str
    module: str
    subject: str
    text: str
    since: float
    told: float


class Alerts:
    """The conditions of one server.

    :param server: its name.
    :param repeat: seconds between two words about one that lasts; 0: it is told once.
    """

    def __init__(self, server: str, repeat: float) -> None:
        self._server, self._repeat = server, repeat
        self.active: dict[str, Condition] = {}
        self._logged: dict[tuple[str, str], float] = {}
        self._heard: set[tuple[str, str]] = set()  # module and server: once heard, and not told to be lost since

    # --- remembered over a restart ----------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """The active conditions as plain values."""
        return {ident: asdict(each) for ident, each in self.active.items()}

    def load(self, values: Mapping[str, Any]) -> None:
        """The inverse of :meth:`dump`."""
        self.active = {ident: Condition(**each) for ident, each in values.items()}

    # --- what comes in ----------------------------------------------------------------------------

    def see(self, event: Event) -> list[Notice]:
        """An event of a module."""
        if event.kind == "state":
            return self._state(event)
        if event.kind == "resource":
            return self._resource(event)
        if event.kind == "log" and event.severity in (Severity.ERROR, Severity.CRITICAL):
            return self._error(event)
        return []

    def servers(self, module: str, heard: Mapping[str, bool], now: float, *, speaks: bool) -> list[Notice]:
        """Which servers a module hears now.

        :param heard: by server; empty while the module is stopped, and hears nobody.
        :param speaks: whether this server is the one of them that tells it.
        """
        found: list[Notice] = []
        for server, alive in heard.items():
            ident = f"{module}/server/{server}"
            if alive:
                self._heard.add((module, server))
                found += self._clear(ident, f"{module}: {server} is back", now)
            elif speaks and (module, server) in self._heard:
                self._heard.discard((module, server))
                text = "No heartbeat comes from it: it is off, cut off, or the module was stopped there."
                found += self._raise(ident, "critical", module, f"{module}: {server} is lost", text, now)
        if not heard:
            for ident in [each for each in self.active if each.startswith(f"{module}/server/")]:
                found += self._clear(ident, f"{module}: it is stopped here, and hears no other server", now)
            self._heard = {each for each in self._heard if each[0] != module}
        return found

    def due(self, now: float) -> list[Notice]:
        """What is to be said again."""
        found = []
        for ident, each in list(self.active.items()):
            if self._repeat and not 0 <= now - each.told < self._repeat:  # also when the clock was set back
                self.active[ident] = Condition(each.level, each.module, each.subject, each.text, each.since, now)
                subject = f"still: {each.subject}"
                found.append(
                    Notice(
                        ident,
                        "repeated",
                        each.level,
                        self._server,
                        each.module,
                        subject,
                        each.text,
                        now,
                        each.since,
                    )
                )
        return found

    def known(self, modules: Collection[str]) -> None:
        """These modules are installed; what lasted of others is over without a word."""
        self.active = {ident: each for ident, each in self.active.items() if not each.module or each.module in modules}

    # --- events -----------------------------------------------------------------------------------

    def _state(self, event: Event) -> list[Notice]:
        module, now = event.module, event.time
        state, readiness, reason = (event.data.get(each, "") for each in ("state", "readiness", "reason"))
        down, alone = f"{module}/state", f"{module}/alone"
        subject = f"{module}: {state} {readiness}".rstrip()
        if state == State.STOP and (event.data.get("by") == "person" or not reason):
            found = [*self._clear(down, subject, now), *self._clear(alone, subject, now)]
            return found or [self._event(event, "info", subject, reason)]
        if state == "NOT_CONFIGURED" or readiness == Readiness.NOT_READY:
            text = reason or "safekit-py status -v says why."
            return [*self._clear(alone, subject, now), *self._raise(down, "critical", module, subject, text, now)]
        if readiness != Readiness.READY:
            return []
        found = self._clear(down, subject, now)
        if state == State.ALONE:
            text = "It runs here, and the other server does not have the newest data."
            return [*found, *self._raise(alone, "warning", module, subject, text, now)]
        if state in SERVES:
            found += self._clear(alone, subject, now)
        return found or [self._event(event, "info", subject, reason)]

    def _resource(self, event: Event) -> list[Notice]:
        name, value, cause = (event.data.get(each, "") for each in ("resource", "value", "cause"))
        ident, subject = f"{event.module}/resource/{name}", f"{event.module}: {name} is {value}"
        if value == "down" and name not in INVERTED:
            return self._raise(ident, "warning", event.module, subject, cause, event.time)
        return self._clear(ident, subject, event.time)

    def _error(self, event: Event) -> list[Notice]:
        key = (event.module, event.message)
        if 0 <= event.time - self._logged.get(key, -SAME) < SAME:
            return []
        self._logged[key] = event.time
        while len(self._logged) > REMEMBERED:
            del self._logged[next(iter(self._logged))]
        level = "critical" if event.severity is Severity.CRITICAL else "warning"
        return [self._event(event, level, f"{event.module}: {event.source}: {event.message}"[:200], event.message)]

    # --- notices ----------------------------------------------------------------------------------

    def _event(self, event: Event, level: str, subject: str, text: str) -> Notice:
        ident = f"{event.module}/event"
        return Notice(ident, "event", level, self._server, event.module, subject, text, event.time, event.time)

    def _raise(self, ident: str, level: str, module: str, subject: str, text: str, now: float) -> list[Notice]:
        if ident in self.active:
            return []
        self.active[ident] = Condition(level, module, subject, text, now, now)
        return [Notice(ident, "raised", level, self._server, module, subject, text, now, now)]

    def _clear(self, ident: str, subject: str, now: float) -> list[Notice]:
        was = self.active.pop(ident, None)
        if was is None:
            return []
        text = f"It is over: {was.subject}."
        return [Notice(ident, "cleared", was.level, self._server, was.module, subject, text, now, was.since)]
