"""``status --watch``: every module on every server of the cluster, live; without a terminal, a line for each change.

Flows through it: each server's states, asked for at once and over and over, in; a screen that fits 80 columns, or
lines, out. A server that does not answer is one line among the others, and never holds up the rest.
"""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Session
from safekit_py.core import meaning as meanings
from safekit_py.errors import SafekitError
from safekit_py.model.text import set_in
from safekit_py.runtime.clock import wall

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH = 0.5  # seconds between two looks
PATIENCE = 3.0  # seconds without an answer after which a server counts as silent
MOST = 32  # servers at a time
ABSENT = "does not answer"


@dataclass(slots=True)
class Seen:
    """What a server said last.

    :param at: seconds of the monotonic clock, when it said so; 0: never.
    :param why: what went wrong when it was asked last; empty: nothing.
    """

    name: str
    modules: list[dict[str, Any]] = field(default_factory=list)
    at: float = 0.0
    why: str = ""

    def silent(self, now: float) -> str:
        """Why it counts as silent; empty: it does not."""
        return self.why or ("" if now - self.at < PATIENCE else ABSENT)


class Looker:
    """Asks all servers over and over, each by itself, so that a slow one delays no other."""

    def __init__(self, session: Session, names: list[tuple[str, bool]]) -> None:
        self._pool = ThreadPoolExecutor(min(MOST, len(names)))
        self._sessions = {name: session if this else Session(session.here, name) for name, this in names}
        self._asked: dict[str, Future[dict[str, Any]]] = {}
        self.seen = {name: Seen(name) for name, _ in names}

    def look(self, limit: float) -> None:
        """Ask those that are not being asked, and take what has come within so many seconds."""
        for name, session in self._sessions.items():
            if name not in self._asked:
                self._asked[name] = self._pool.submit(session.call, "GET", "/status")
        end = time.monotonic() + limit
        for name, future in list(self._asked.items()):
            with contextlib.suppress(TimeoutError):
                try:
                    found = future.result(max(0.0, end - time.monotonic()))
                except SafekitError as error:
                    self.seen[name].why = error.problems[0].message
                else:
                    self.seen[name] = Seen(name, found["modules"], time.monotonic())
                del self._asked[name]

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def view(seen: list[Seen], now: float, clock: str, module: str | None = None) -> RenderableType:
    """The screen.

    :param now: of the monotonic clock.
    :param clock: the time of day, to be shown.
    """
    from rich.console import Group  # noqa: PLC0415 - loaded only where needed
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    gone = [each for each in seen if each.silent(now)]
    head = f"{len(seen)} server{'' if len(seen) == 1 else 's'}" + (f", {len(gone)} {ABSENT}" if gone else "")
    title = Text.assemble((head, "red bold" if gone else "bold"), f"   {clock}   q: quit")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    names = {item["name"] for each in seen for item in each.modules if module in (None, item["name"])}
    widths = {
        "MODULE": min(14, max(map(len, names), default=0)),
        "SERVER": min(16, max((len(each.name) for each in seen), default=0)),
        "STATE": 15,
        "SINCE": 6,
        "SHARE": 6,
    }
    for column, width in widths.items():
        table.add_column(column, no_wrap=True, overflow="ellipsis", width=max(len(column), width))
    table.add_column("WHY", overflow="ellipsis", no_wrap=True, ratio=1)
    for name in sorted(names):
        first = name
        for each in seen:
            item = next((item for item in each.modules if item["name"] == name), None)
            if each.silent(now):
                table.add_row(Text(first, "bold"), each.name, Text("?", "red"), "", "", Text(each.silent(now), "red"))
            elif item is None:
                table.add_row(Text(first, "bold"), each.name, Text("-", "bright_black"), "", "", "not installed")
            else:
                table.add_row(Text(first, "bold"), each.name, *_cells(item, each.name))
            first = ""
    parts: list[RenderableType] = [title, Text()]
    if not table.rows:
        parts += [Text(f"{each.name}: {each.silent(now)}", "red") for each in gone]
        parts.append(Text("No module is installed. Next: safekit-py module install apache.zip"))
    else:
        parts.append(table)
    problems = [(each.name, item, problem) for each in seen for item in each.modules for problem in item["problems"]]
    parts += [Text(f"{name}: {item['name']}: {p['message']} -> {p['remedy']}", "red") for name, item, p in problems]
    return Group(*parts)


def _cells(item: dict[str, Any], server: str) -> Iterator[Any]:
    from rich.text import Text  # noqa: PLC0415 - loaded only where needed

    readiness = item["readiness"]
    yield Text(f"{item['state']} {readiness}".strip(), style=tables.COLOURS.get(readiness, "red"))
    yield tables.age(item["age"])
    shares = next((m["shares"] for m in item["report"].get("members", ()) if m["name"] == server), ())
    yield f"{shares[0]:.1f}%" if shares else ""
    meaning = item["reason"] or meanings.of(item["mode"], item["state"], readiness)
    yield f"{item['busy']}: {meaning}" if item["busy"] and readiness == "Transient" else meaning


def changes(before: dict[tuple[str, str], str], seen: list[Seen], now: float) -> Iterator[str]:
    """A line for each server or module whose state is another one than before; ``before`` is brought up to date."""
    for each in seen:
        if not each.at and not each.why:
            continue  # it was not asked yet
        states = {(each.name, ""): each.silent(now)}
        if not each.silent(now):
            for item in each.modules:
                why = f": {item['reason']}" if item["reason"] else ""
                states[each.name, item["name"]] = f"{item['state']} {item['readiness']}{why}"
        for (server, name), state in states.items():
            known = before.get((server, name), "")
            if known != state and (name or known or state):
                yield f"{server} {name} {state}" if name else f"{server} {state or 'answers'}"
            before[server, name] = state


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Read keys one by one, without showing them; gives a function that waits for ``q``."""
    if not sys.stdin.isatty():
        yield _pause
        return
    import termios  # noqa: PLC0415 - only for a terminal
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def quits(seconds: float) -> bool:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(ready) and sys.stdin.read(1) in ("q", "Q")

    try:
        yield quits
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def run(session: Session, module: str | None) -> None:
    """Watch until Ctrl-C, or q."""
    nodes = session.call("GET", "/cluster")["nodes"]
    names = [(node["name"], bool(node["this"])) for node in nodes]
    if session.node or not any(this for _, this in names):
        names = [(session.call("GET", "/status")["server"], True)]
    looker = Looker(session, names)
    try:
        if sys.stdout.isatty():
            _live(looker, module)
        else:
            _lines(looker, module)
    except KeyboardInterrupt:
        return
    finally:
        looker.close()


def _clock() -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall()))


def _live(looker: Looker, module: str | None) -> None:
    from rich.live import Live  # noqa: PLC0415 - loaded only where needed

    from safekit_py.cli.screen import Screen  # noqa: PLC0415 - loaded only where needed

    looker.look(REFRESH)
    with _keys() as quits, Live(console=Screen(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(view(list(looker.seen.values()), time.monotonic(), _clock(), module), refresh=True)
            if quits(REFRESH):
                return
            looker.look(REFRESH)


def _lines(looker: Looker, module: str | None) -> None:
    before: dict[tuple[str, str], str] = {}
    while True:
        looker.look(REFRESH)
        for line in changes(before, list(looker.seen.values()), time.monotonic()):
            if module is None or line.split()[1:2] in ([module], []):
                click.echo(f"{_clock()} {set_in(line)}")
        time.sleep(REFRESH)
