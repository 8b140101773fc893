"""``safekit-py farm show``, ``trace``, ``doctor``: what a farm does, who has a client, what could hinder it."""

from __future__ import annotations

import contextlib
import importlib
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any

import click

from safekit_py.cli import tables
from safekit_py.cli.common import Command, Session, emit, json_option, module_option
from safekit_py.errors import NotFoundError, Problem, SafekitError

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
MODE = "farm"


def _farms(session: Session) -> list[str]:
    return [each["name"] for each in session.call("GET", "/status")["modules"] if each["mode"] == MODE]


def the_farm(session: Session, named: str | None) -> str:
    """The module that is meant: the one that is named, else the only farm of this server."""
    if named:
        return named
    found = _farms(session)
    if len(found) != 1:
        known = ", ".join(found) or "none"
        text = f"this server has {len(found)} farms: which one is meant?" if found else "this server has no farm"
        raise NotFoundError(Problem("farm.which", text, f"name one: {known}"))
    return found[0]


def optional_module(function: Callable[..., Any]) -> Callable[..., Any]:
    """``NAME`` or ``-m NAME``; may be left out when there is one farm."""
    return module_option(function, required=False)


@click.command(cls=Command)
@optional_module
@click.option("--interval", type=click.FloatRange(0, 60), default=1.0, metavar="SECONDS",
              help="Between the two readings of the counters; 0: no rates.")  # fmt: skip
@json_option
@click.pass_obj
def show(session: Session, module: str | None, interval: float, as_json: bool) -> None:
    """Show a farm: members, powers, shares, packets per second on this server, moved buckets, and its last change."""
    name = the_farm(session, module)
    first = _explain(session, name, "show")
    if interval:
        time.sleep(interval)
        found = _explain(session, name, "show")
        earlier = {(each["group"], each["verdict"]): each["packets"] for each in first["counters"]}
        span = max(found["at"] - first["at"], 0.001)
        for each in found["counters"]:
            each["per_second"] = round((each["packets"] - earlier.get((each["group"], each["verdict"]), 0)) / span, 1)
    else:
        found = first
    if as_json:
        emit({"module": name} | found)
        return
    _paint(name, found)


def _paint(name: str, found: dict[str, Any]) -> None:
    if not found["view"]:
        click.echo(f"{name}: this server has no view of the farm: the module is stopped, or it is on its way")
        return
    click.echo(f"{name} on {found['server']}: view {found['view']}, coordinator {found['coordinator'] or 'none'}")
    change = found["change"]
    click.echo(f"last change {tables.age(change['age'])} ago: {change['cause']} ({change['moved']} buckets moved)")
    groups = [each["name"] for each in found["groups"]]
    columns = [f"{group} {what}" for what in ("POWER", "SHARE") for group in groups]
    overview = tables.table("SERVER", "STATE", *columns, "HEARD")
    for each in found["members"]:
        heard = {lan: ages[each["name"]] for lan, ages in found["lans"].items() if each["name"] in ages}
        ago = ", ".join(f"{lan} {age * 1e3:.0f} ms ago" for lan, age in heard.items())
        powers = [str(power) for power in each["powers"]] or ["-"] * len(groups)
        overview.add_row(each["name"], each["state"], *powers, *(f"{share:.2f}%" for share in each["shares"]), ago)
    tables.show(overview)
    moved = tables.table("GROUP", "MOVED BUCKETS", "WHO MAY HOLD OLDER CONNECTIONS", "RULES")
    for each in found["groups"]:
        held = ", ".join(f"{server} ({count})" for server, count in sorted(each["held"].items())) or "nobody"
        moved.add_row(each["name"], str(each["moved"]), held, "; ".join(each["rules"]))
    tables.show(moved)
    counted = tables.table("GROUP", "VERDICT", "PACKETS HERE", "PER SECOND")
    for each in found["counters"]:
        rate = f"{each['per_second']:.0f}" if "per_second" in each else ""
        counted.add_row(each["group"] or "(none)", each["verdict"], str(each["packets"]), rate)
    tables.show(counted)


def _explain(session: Session, module: str, what: str, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = session.call("GET", f"/modules/{module}/explain/{what}", params={"word": list(words)})
    return answer


def client_of(text: str) -> tuple[str, str]:
    """Address and port, empty when there is none, of ``ADDR``, ``ADDR:PORT`` or ``[ADDR]:PORT``."""
    address, port = text, ""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        fits = rest in ("", f":{port}") and "]" in text
    elif text.count(":") == 1:
        address, port = text.split(":")
        fits = bool(port)
    else:
        fits = True
    with contextlib.suppress(ValueError):
        ip_address(address)
        if fits and (not port or (port.isascii() and port.isdigit() and int(port) < 65536)):
            return address, port
    raise click.BadParameter(f"{text} is neither ADDR nor ADDR:PORT; an IPv6 address with a port is [ADDR]:PORT")


@click.command(cls=Command)
@optional_module
@click.option("--client", required=True, metavar="ADDR[:PORT]", help="The client; IPv6 with a port in brackets.",
              callback=lambda _, __, value: client_of(value))  # fmt: skip
@click.option("--vip", default="", metavar="ADDR", help="Only at this virtual address.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Only at this port of it.")
@click.option("--proto", type=click.Choice(["tcp", "udp", "arp"]), help="Only by this protocol.")
@json_option
@click.pass_obj
def trace(
    session: Session,
    module: str | None,
    client: tuple[str, str],
    vip: str,
    port: int | None,
    proto: str | None,
    as_json: bool,
) -> None:
    """Say which server has a client, why and since when, and who may still hold older connections of it."""
    name = the_farm(session, module)
    found = _explain(session, name, "trace", *client, vip, proto or "", str(port or ""))
    if as_json:
        emit({"module": name} | found)
        return
    for row in found["rows"]:
        owner = row["owner"] or ("nobody" if row["bucket"] is not None else "it depends")
        here = ", this server" if owner == found["server"] else ""
        click.echo(f"{click.style(owner, bold=True)}{here}: {row['rule']} (group {row['group']}, at {row['vip']})")
        click.echo(f"  why: {row['why']}")
        if row["since"] is not None:
            since = row["since"]
            earlier = ", or earlier: nothing older is remembered here" if since["or_earlier"] else ""
            click.echo(f"  since: view {since['view']}, {tables.age(since['age'])} ago ({since['cause']}){earlier}")
        if row["bucket"] is not None:
            click.echo(f"  older connections may be on: {', '.join(row['holders']) or 'no other server'}")
            counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(row["slice"].items()))
            click.echo(f"  packets here of its 256th of the clients: {counts or 'none yet'}")


@click.command(cls=Command)
@optional_module
@json_option
@click.pass_obj
def doctor(session: Session, module: str | None, as_json: bool) -> None:
    """Look for what could hinder a farm on this server, with a remedy each; exit code 1 when there is a problem.

    Without a name all farms of this server are looked at. Needs root.
    """
    made: Any = importlib.import_module("safekit_py.plugins.farm.doctor")
    agent = agent_pid(session)
    found = [("", each) for each in made.server(agent)]
    names = [module] if module else _farms(session) if agent else []
    for name in names:
        report = session.call("GET", f"/modules/{name}")["report"]
        shown = _explain(session, name, "show")
        report = report | {"lans": shown["lans"], "server": shown["server"]}
        found += [(name, each) for each in made.module(_explain(session, name, "place"), report, name, agent)]
    if as_json:
        emit([{"module": name} | asdict(each) for name, each in found])
    else:
        from rich.text import Text  # noqa: PLC0415 - loaded only where needed

        overview = tables.table("MODULE", "AREA", "STATE", "WHAT WAS SEEN", "WHAT TO DO")
        for name, each in found:
            state = Text(each.state, COLOURS[each.state])
            overview.add_row(name or "(server)", each.area, state, Text(each.text), Text(each.remedy))
        tables.show(overview)
    if any(each.state == "problem" for _, each in found):
        sys.exit(1)


def agent_pid(session: Session) -> int | None:
    """The process id of this server's agent, from the kernel; None when none runs."""
    try:
        session.call("GET", "/status")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(session.paths.socket))
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (SafekitError, OSError):
        return None
    return int(struct.unpack("3i", raw)[0])
