"""``doctor``: looks at a server before and after the installation, with a remedy for everything that is wrong.

Flows through it: what the kernel, the files, the ports, the clock and the other servers tell in; findings out. It works
without an agent, and changes nothing.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import FAILED, Command, Session, emit, json_option
from safekit_py.errors import SafekitError
from safekit_py.model.paths import Paths
from safekit_py.runtime.clock import wall

OK, WARNING, PROBLEM = "ok", "warning", "problem"
COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
PORTS = {"API and console": (socket.SOCK_STREAM, 9453), "health answers": (socket.SOCK_STREAM, 9010)}
LITTLE, LEAST = 0.05, 500 << 20  # part of a disk, and bytes, below which it is called nearly full
SKEW, WRONG = 2.0, 60.0  # seconds between the clocks of two servers
UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
SECRETS = ("cluster/cluster.key", "tls/ca.key", "tls/server.key", "tls/own.key", "access.json")
OLDEST = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what was seen.

    :param state: ``ok``, ``warning`` or ``problem``.
    """

    area: str
    state: str
    text: str
    remedy: str = ""


def files(paths: Paths) -> Iterator[Finding]:
    """Folders that must be writable and not full, and secrets that nobody else may read."""
    for path in (paths.var, paths.modules, paths.run):
        there = next(each for each in (path, *path.parents) if each.exists())
        usage = shutil.disk_usage(there)
        free = f"{usage.free >> 20} MiB free"
        if usage.free < LEAST or usage.free < usage.total * LITTLE:
            yield Finding("disk", WARNING, f"{path} is on a disk that is nearly full: {free}", "make room")
        else:
            yield Finding("disk", OK, f"{path}: {free}")
    open_to_others = []
    for name in SECRETS:
        path = paths.var / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            open_to_others.append(name)
            yield Finding("secrets", PROBLEM, f"others may read {path}", f"chmod 600 {path}")
    if not open_to_others:
        yield Finding("secrets", OK, "keys and accounts are for root only")


def ports(running: bool) -> Iterator[Finding]:
    """Whether our ports are free, or ours.

    :param running: an agent runs.
    """
    for what, (kind, port) in PORTS.items():
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - it is only tried
            except OSError as error:
                if running:
                    yield Finding("ports", OK, f"TCP {port} ({what}) is in use")
                else:
                    text = f"TCP {port} ({what}) cannot be used: {error.strerror}"
                    yield Finding("ports", PROBLEM, text, f"find out who has it: ss -lntp 'sport = :{port}'")
            else:
                state = "not in use: nobody may call yet" if running else "free"
                yield Finding("ports", OK, f"TCP {port} ({what}) is {state}")


def clock() -> Iterator[Finding]:
    """Whether something keeps the clock right."""
    found = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    if found == UNSYNCHRONISED:
        text, remedy = "the kernel's clock is not kept right by anything", "apt-get install chrony"
        yield Finding("clock", WARNING, f"{text}: logs and certificates want it", remedy)
    elif found >= 0:
        yield Finding("clock", OK, "the kernel says that the clock is synchronised")


def own_addresses() -> set[str]:
    """The addresses of this server."""
    import psutil  # noqa: PLC0415 - loaded only where needed

    cards = psutil.net_if_addrs().values()
    return {each.address.partition("%")[0] for card in cards for each in card}


def addresses(document: dict[str, Any], own: set[str]) -> Iterator[Finding]:
    """Whether this server has the addresses that cluster.xml gives it.

    :param document: of the cluster.
    """
    mine = [node for node in document["nodes"] if node["this"]]
    if not document["configured"]:
        remedy = "safekit-py cluster init, or cluster join ADDRESS --token TOKEN"
        yield Finding("cluster", WARNING, "this server is in no cluster", remedy)
        return
    if not mine:
        remedy = "safekit-py cluster config FILE --node NAME says which one it is"
        yield Finding("cluster", PROBLEM, "cluster.xml has no server of this one's name", remedy)
    for node in mine:
        for lan, address in node["addresses"].items():
            resolved = _resolved(address)
            if resolved & own:
                yield Finding("cluster", OK, f"{address} of the LAN {lan} is on this server")
            else:
                text = f"{address}, its address in the LAN {lan}, is not on this server"
                yield Finding("cluster", PROBLEM, text, "set it up, or correct cluster.xml")


def _resolved(name: str) -> set[str]:
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(name, None)}
    except OSError:
        return {name}


def others(session: Session, document: dict[str, Any]) -> Iterator[Finding]:
    """Whether the other servers answer, have the same key and cluster.xml, and about the same time."""
    names = [node["name"] for node in document["nodes"] if not node["this"]]

    def ask(name: str) -> tuple[float, dict[str, Any] | SafekitError, float]:
        before = wall()
        try:
            return before, dict(Session(session.here, name).call("GET", "/cluster")), wall()
        except SafekitError as error:
            return before, error, wall()

    if not names:
        return
    with ThreadPoolExecutor(len(names)) as pool:
        for name, (before, found, after) in zip(names, pool.map(ask, names), strict=True):
            yield from _other(name, found, document, (before, after))


def _other(
    name: str, found: dict[str, Any] | SafekitError, document: dict[str, Any], asked: tuple[float, float]
) -> Iterator[Finding]:
    if isinstance(found, SafekitError):
        problem = found.problems[0]
        yield Finding("servers", PROBLEM, f"{name}: {problem.message}", problem.remedy)
        return
    same = True
    for key, what, remedy in (
        ("signature", "cluster.xml", 'safekit-py -H "*" -G makes them equal'),
        ("key", "cluster key", "safekit-py cluster key show, on both"),
    ):
        if found[key] != document[key]:
            same = False
            yield Finding("servers", PROBLEM, f"{name} has another {what} ({found[key] or 'none'})", remedy)
    skew = max(asked[0] - found["now"], found["now"] - asked[1], 0.0)
    if skew > SKEW:
        state = PROBLEM if skew > WRONG else WARNING
        yield Finding("clock", state, f"{name}'s clock differs by {skew:.0f} s", "apt-get install chrony, on both")
    if same:
        yield Finding("servers", OK, f"{name} answers, with the same key and cluster.xml")


def modules(document: dict[str, Any]) -> Iterator[Finding]:
    """What keeps a module from running.

    :param document: of the status.
    """
    for module in document["modules"]:
        bad = [*module["problems"], *module["pending"]]
        for problem in bad:
            state = PROBLEM if problem["severity"] == "error" else WARNING
            yield Finding(f"module {module['name']}", state, problem["message"], problem["remedy"])
        if not bad:
            yield Finding(f"module {module['name']}", OK, f"{module['state']} {module['readiness']}".strip())


def python() -> Iterator[Finding]:
    """The interpreter."""
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST:
        yield Finding("python", OK, f"Python {here}, {sys.executable}")
    else:
        yield Finding("python", PROBLEM, f"Python {here} is too old", "use 3.11 or newer")


def kernel(agent: int | None) -> Iterator[Finding]:
    """What farms need of the kernel, and whether the firewall lets calls in."""
    made: Any = importlib.import_module("safekit_py.plugins.farm.doctor")
    for each in (*made.server(agent), *made.firewall([PORTS["API and console"][1]], "TCP")):
        yield Finding(each.area, each.state, each.text, each.remedy)


def examine(session: Session) -> Iterator[Finding]:
    """All of it."""
    from safekit_py.cli.farmlook import agent_pid  # noqa: PLC0415 - loaded only where needed

    agent = agent_pid(session)
    yield from python()
    yield from kernel(agent)
    yield from files(session.paths)
    yield from ports(agent is not None)
    yield from clock()
    if agent is None:
        remedy = "systemctl enable --now safekit-py; before the installation this is as it should be"
        yield Finding("agent", WARNING, "no agent runs", remedy)
        return
    yield Finding("agent", OK, f"the agent runs as process {agent}")
    document = session.call("GET", "/cluster")
    yield from addresses(document, own_addresses())
    yield from others(session, document)
    yield from modules(session.call("GET", "/status"))


@click.command(cls=Command)
@json_option
@click.pass_obj
def doctor(session: Session, as_json: bool) -> None:
    """Check this server, before and after the installation; exit code 1 if anything is wrong, with a remedy each.

    Looks at Python, kernel, files and their permissions, ports, firewall, clock, addresses, the other servers and the
    modules. Needs root. farm doctor looks closer at farms.
    """
    found = list(examine(session))
    if as_json:
        emit([asdict(each) for each in found])
    else:
        from rich.text import Text  # noqa: PLC0415 - loaded only where needed

        overview = tables.table("AREA", "STATE", "WHAT WAS SEEN", "WHAT TO DO")
        for each in found:
            overview.add_row(each.area, Text(each.state, COLOURS[each.state]), Text(each.text), Text(each.remedy))
        tables.show(overview)
    if any(each.state == PROBLEM for each in found):
        sys.exit(FAILED)
