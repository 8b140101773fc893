"""``snmp``: answers net-snmp's ``snmpd``, which asks by its protocol ``pass_persist``: lines on stdin, lines on stdout.

Flows through it: states from the agent's API in; a table from object identifiers to values, in their order, out. The
objects are in deploy/snmp/SAFEKIT-PY-MIB.txt. Nothing can be set. An agent that does not answer is one of the values.
"""

from __future__ import annotations

import bisect
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

import click

from safekit_py.cli.common import Command, Session
from safekit_py.errors import ConfigError, Problem, SafekitError
from safekit_py.model.text import visible

BASE = "1.3.6.1.4.1.8072.9999.9999.4803"  # net-snmp's playground: safekit_py has no number of its own
STATE = 3  # below it stands what can be asked for; 0 to 2 are those of notifications
RUNNING, SERVER, MODULES, RESOURCES, SERVERS = 1, 2, 3, 4, 5
TRUE, FALSE = 1, 2
FRESH = 2.0  # seconds in which the agent is not asked again: a walk asks for each object
LARGEST = 255  # bytes of a DisplayString
Oid = tuple[int, ...]
Table = dict[Oid, tuple[str, str]]


def oid(text: str) -> Oid:
    """An object identifier of text.

    :raises ValueError: it is none.
    """
    return tuple(int(part) for part in text.strip().strip(".").split("."))


def _text(value: Any) -> tuple[str, str]:
    line = " ".join(visible(str(value)).split())
    return "string", line.encode()[:LARGEST].decode(errors="ignore")


def _number(value: float) -> tuple[str, str]:
    return "gauge", str(min(max(int(value), 0), 0xFFFFFFFF))


def _truth(value: bool) -> tuple[str, str]:
    return "integer", str(TRUE if value else FALSE)


def table(base: Oid, status: Mapping[str, Any] | None, cluster: Mapping[str, Any], numbers: Mapping[str, int]) -> Table:
    """Every object and its value.

    :param status: the answer to ``/status``; None when the agent does not answer.
    :param cluster: to ``/cluster``.
    :param numbers: to ``/module-ids``: a module has the same number as long as it is installed.
    """
    top = (*base, STATE)
    found: Table = {(*top, RUNNING, 0): _truth(status is not None)}
    if status is None:
        return found
    found[*top, SERVER, 0] = _text(status["server"])
    for module in status["modules"]:
        row = numbers.get(module["name"], 0) + 1  # an index begins at 1
        values = (module["name"], module["mode"], module["state"], module["readiness"])
        columns = [*map(_text, values), _truth(module["readiness"] == "Ready"), _number(module["age"])]
        columns += [_text(module["reason"]), _number(module["starts"])]
        found |= {(*top, MODULES, 1, column, row): value for column, value in enumerate(columns, 2)}
        for place, each in enumerate(sorted(module["resources"], key=lambda each: str(each["name"])), 1):
            for column, value in enumerate((each["name"], each["value"]), 2):
                found[*top, RESOURCES, 1, column, row, place] = _text(value)
    for place, node in enumerate(cluster.get("nodes", ()), 1):
        heard = set(node["groups"].values()) - {"itself"}
        word = "itself" if node["this"] else "lost" if "lost" in heard else "alive" if heard else "unknown"
        for column, value in enumerate((node["name"], word), 2):
            found[*top, SERVERS, 1, column, place] = _text(value)
    return found


def answer(found: Table, verb: str, asked: Oid) -> list[str]:
    """The lines that answer ``get`` or ``getnext``."""
    if verb == "getnext":
        order = sorted(found)
        place = bisect.bisect_right(order, asked)
        if place == len(order):
            return ["NONE"]
        asked = order[place]
    if asked not in found:
        return ["NONE"]
    return ["." + ".".join(map(str, asked)), *found[asked]]


def serve(lines: Iterable[str], out: TextIO, look: Callable[[], Table]) -> None:
    """Answer until there are no more lines, or an empty one, by which snmpd ends this."""
    asking = iter(lines)
    for line in asking:
        verb = line.strip()
        if not verb:
            return
        if verb == "PING":
            said = ["PONG"]
        elif verb == "set":
            next(asking, ""), next(asking, "")
            said = ["not-writable"]
        elif verb in ("get", "getnext"):
            try:
                said = answer(look(), verb, oid(next(asking, "")))
            except ValueError:
                said = ["NONE"]
        else:
            said = ["NONE"]
        out.write("".join(f"{each}\n" for each in said))
        out.flush()


class Look:
    """The table as it is now, or was a moment ago."""

    def __init__(self, session: Session, base: Oid) -> None:
        self._session, self._base = session, base
        self._read, self._found = -FRESH, Table()

    def __call__(self) -> Table:
        """Ask the agent, if that is due."""
        if time.monotonic() - self._read >= FRESH:
            try:
                status, cluster, numbers = (
                    self._session.call("GET", p) for p in ("/status", "/cluster", "/module-ids")
                )
                self._found = table(self._base, status, cluster, numbers)
            except SafekitError:
                self._found = table(self._base, None, {}, {})
            self._read = time.monotonic()
        return self._found


@click.command(cls=Command)
@click.option("--oid", "below", metavar="OID", default=BASE, show_default=True, help="Below which the objects stand.")
@click.pass_obj
def snmp(session: Session, below: str) -> None:
    """Answer snmpd about modules, resources and servers; snmpd starts it.

    In snmpd.conf: pass_persist .1.3.6.1.4.1.8072.9999.9999.4803.3 /usr/bin/safekit-py snmp
    """
    try:
        base = oid(below)
    except ValueError:
        text = f"{below!r} is no object identifier"
        raise ConfigError(Problem("snmp.bad-oid", text, f"numbers with dots, such as {BASE}")) from None
    serve(sys.stdin, sys.stdout, Look(session, base))
