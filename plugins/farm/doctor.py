"""``farm doctor``: what could hinder a farm on this server, each with its remedy.

Flows through it: what the kernel, the devices, the firewall and the agent tell in; findings out. It runs in the process
of the command line, as root: so it may load what the agent must not.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ..vip.model import INVISIBLE
from . import bpf, compiler, needs, ready
from .compiled import LICENCE, FilterObject
from .devices import OK, PROBLEM, WARNING, facts, notes

# Calls of the kernel that filter.c makes and that older kernels lack: number, and since when there is one for tc.
CALLS = {
    "bpf_skc_lookup_tcp": (99, "5.2"),
    "bpf_tcp_check_syncookie": (100, "5.2"),
    "bpf_jiffies64": (118, "5.5"),
    "bpf_clone_redirect": (13, "4.2"),
}
MISSING = ("unknown func", "invalid func", "cannot use helper", "cannot call")  # the verifier's words
MEMLOCK = 64 << 20  # bytes: the tables of sixteen groups, twice, and the rest
COUNTED_TO_MEMORY = (5, 11)  # since this kernel maps are no locked memory any more
CAPABILITIES = {"CAP_NET_ADMIN": needs.CAP_NET_ADMIN, "CAP_BPF": needs.CAP_BPF, "CAP_PERFMON": needs.CAP_PERFMON}
HARMLESS = {"unproven"}  # the first heartbeats of a server that has just started
SILENT_AFTER = 1.0  # seconds without a heartbeat on a LAN
COARSE = 6  # CLOCK_MONOTONIC_COARSE


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what was seen.

    :param state: ``ok``, ``warning`` or ``problem``.
    """

    area: str
    state: str
    text: str
    remedy: str = ""


def server(agent: int | None) -> Iterator[Finding]:
    """What every farm of this server needs.

    :param agent: its process id, or None when none runs.
    """
    yield from _kernel()
    yield from _filter()
    yield from _limits(agent)


def _kernel() -> Iterator[Finding]:
    release = os.uname().release
    for problem in needs.requirements():
        yield Finding("kernel", PROBLEM, problem.message, problem.remedy)
    exit_now = bytes.fromhex("b700000000000000 9500000000000000")
    try:
        os.close(bpf.load_program(exit_now, "probe", LICENCE))
    except OSError as error:
        remedy = "run it as root; a kernel that is locked down, or in a container, must be told to allow bpf(2)"
        yield Finding("kernel", PROBLEM, f"it takes no program for tc: {error}", remedy)
        return
    yield Finding("kernel", OK, f"Linux {release} takes programs for tc")
    for name, (number, since) in CALLS.items():
        if _has(number):
            yield Finding("kernel", OK, f"it has {name}")
        else:
            yield Finding("kernel", PROBLEM, f"it lacks {name}", f"use Linux {since} or newer")
    try:
        probe = bpf.Map.create(bpf.MapLayout("probe", 2, 4, 8, 2))
        try:
            read = len(probe.all_values())
        finally:
            probe.close()
    except OSError as error:
        yield Finding("kernel", PROBLEM, f"it reads no map as a whole: {error}", "use Linux 5.6 or newer")
    else:
        yield Finding("kernel", OK, f"it reads a map of {read} bytes by one call")


def _has(number: int) -> bool:
    """Whether the verifier knows a call: it refuses one without arguments, but in other words than one unknown."""
    code = bytes([0x85, 0, 0, 0]) + number.to_bytes(4, "little") + bytes.fromhex("b700000000000000 9500000000000000")
    try:
        os.close(bpf.load_program(code, "probe", LICENCE))
    except OSError as error:
        return not any(each in str(error) for each in MISSING)
    return True


def _filter() -> Iterator[Finding]:
    shipped = ready.shipped()
    if shipped is None:
        text = f"no filter ships for {os.uname().machine}, or filter.c was changed after it"
        yield Finding("filter", WARNING, f"{text}: it is compiled at the first start", "make filter, in a checkout")
    elif words := _refusal(shipped):
        yield Finding("filter", WARNING, f"the kernel refuses the filter that ships: {words}", "safekit-py farm build")
    else:
        yield Finding("filter", OK, "the kernel takes the filter that ships")
    lacking = list(needs.for_building())
    if shipped is None:
        for each in lacking:
            yield Finding("filter", PROBLEM, each.message, each.remedy)
    elif not lacking:
        yield Finding("filter", OK, f"it could be compiled here ({compiler.bcc_folder()})")


def _refusal(made: FilterObject) -> str:
    """Why the kernel does not take a filter; empty: it does."""
    maps: dict[str, bpf.Map] = {}
    try:
        for layout in made.maps:
            maps[layout.name] = bpf.Map.create(layout)
        os.close(bpf.load_program(made.linked({name: each.fd for name, each in maps.items()}), "probe", LICENCE))
    except OSError as error:
        return str(error)
    finally:
        for each in maps.values():
            each.close()
    return ""


def _limits(agent: int | None) -> Iterator[Finding]:
    if agent is None:
        yield Finding("agent", PROBLEM, "no agent runs on this server", "systemctl start safekit-py")
        return
    status = Path(f"/proc/{agent}/status").read_text(encoding="ascii", errors="replace")
    held = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    absent = [name for name, number in CAPABILITIES.items() if not held >> number & 1]
    if absent and not (held >> needs.CAP_SYS_ADMIN & 1 and held >> needs.CAP_NET_ADMIN & 1):
        yield Finding("agent", PROBLEM, f"it lacks {', '.join(absent)}", "run it by its systemd unit, or as root")
    else:
        yield Finding("agent", OK, "it may load programs and change devices")
    version = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2])
    limit = resource.prlimit(agent, resource.RLIMIT_MEMLOCK)[0]
    shown = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
    if version < COUNTED_TO_MEMORY and limit != resource.RLIM_INFINITY and limit < MEMLOCK:
        remedy = "LimitMEMLOCK=infinity in its systemd unit"
        yield Finding("agent", PROBLEM, f"it may lock {shown} of memory, too little for the maps", remedy)
    else:
        yield Finding("agent", OK, f"it may lock {shown} of memory, which is enough with this kernel")


def module(place: Mapping[str, Any], report: Mapping[str, Any], name: str, agent: int) -> Iterator[Finding]:
    """What a farm module of this server needs.

    :param place: what its ``explain("place")`` gives.
    :param report: of its status.
    :param agent: the agent's process id.
    """
    yield from _devices(place["devices"], report)
    yield from _heartbeats(place, report, name)
    if report["view"]:
        yield _priority(agent)
    tick = time.clock_getres(COARSE)
    text = f"the kernel's clock ticks every {tick * 1e3:g} ms, and the lease is {place['lease'] * 1e3:.0f} ms"
    if tick * 5 > place["lease"]:
        yield Finding("clock", WARNING, text, "raise pulse or the counts of <farm>, or use a kernel with more ticks")
    else:
        yield Finding("clock", OK, text)


def _devices(devices: Sequence[Mapping[str, str]], report: Mapping[str, Any]) -> Iterator[Finding]:
    if not devices:
        yield Finding("device", WARNING, "the module is stopped: its devices are not known", "start it, and look again")
        return
    for each in devices:
        try:
            found = facts(each["name"])
        except (LookupError, OSError) as error:
            yield Finding("device", PROBLEM, str(error), f"ip link show {each['name']}")
            continue
        for note in notes(found, each["kind"]):
            yield Finding("device", note.state, note.text, note.remedy)
        shown = ", ".join(
            f"{name} {'?' if on is None else 'on' if on else 'off'}" for name, on in found.offloads.items()
        )
        yield Finding("offloads", OK, f"{found.name} ({found.driver or found.kind or 'no driver'}): {shown}")
        if each["kind"] == INVISIBLE:
            yield from _switch(found.name, each["vmac"])
    packets = {verdict: count for verdict, count in report["packets"].items() if verdict != "passed"}
    if packets:
        text = ", ".join(f"{count} {verdict}" for verdict, count in sorted(packets.items()))
        yield Finding("packets", OK, f"frames for the addresses arrive: {text}")
    else:
        remedy = "ask from a client; if none comes, look whether the switch floods the virtual MAC to this port"
        yield Finding("packets", WARNING, "no frame for the addresses has come since the start", remedy)


def _switch(device: str, vmac: str) -> Iterator[Finding]:
    """Whether a bridge of this machine has learned a MAC that no frame ever comes from."""
    learned = []
    with IPRoute() as netlink:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
        with contextlib.suppress(NetlinkError):  # a kernel without bridges
            entries = list(netlink.fdb("dump"))
            for entry in entries:
                own = entry["ndm_type"] == 0 and entry["state"] & 0x80  # permanent: set by hand or by a driver
                if entry.get_attr("NDA_LLADDR") == vmac and entry.get_attr("NDA_MASTER") and not own:
                    learned.append(names.get(entry["ifindex"], str(entry["ifindex"])))
    if learned:
        text = f"a bridge of this machine has learned {vmac} on {', '.join(learned)}: it floods such frames no more"
        remedy = f"find what sends from {vmac}; then bridge fdb del {vmac} dev {learned[0]} master"
        yield Finding("switch", PROBLEM, text, remedy)
    else:
        text = f"no bridge of this machine has learned {vmac}; other switches can only be asked themselves"
        yield Finding("switch", OK, f"{device}: {text}")


def _heartbeats(place: Mapping[str, Any], report: Mapping[str, Any], name: str) -> Iterator[Finding]:
    ports = [int(each["port"]) for each in report["ports"]]
    said = ", ".join(map(str, ports))
    if not report["view"]:
        yield Finding("heartbeats", WARNING, f"the module is stopped: nobody listens on UDP {said}", f"start {name}")
    else:
        bound = {int(line.split()[1].rpartition(":")[2], 16) for line in _sockets()}
        for port in ports:
            state, remedy = (OK, "") if port in bound else (PROBLEM, f"safekit-py log {name} says why")
            yield Finding("heartbeats", state, f"UDP {port} is {'' if port in bound else 'not '}open here", remedy)
    yield from firewall(ports)
    servers = {server for server, word in report["servers"].items() if server}
    others = servers - {own for own in servers if own == report.get("server")}
    for lan in place["lans"]:
        heard = {server: age for server, age in report["lans"].get(lan, {}).items() if age < SILENT_AFTER}
        silent = sorted(others - set(heard))
        if heard:
            yield Finding("heartbeats", OK, f"heard on the LAN {lan}: {', '.join(sorted(heard))}")
        if silent and report["view"]:
            remedy = (
                f"is the module started there? let UDP {said} through between the servers; same key, same cluster.xml?"
            )
            yield Finding("heartbeats", PROBLEM, f"not heard on the LAN {lan}: {', '.join(silent)}", remedy)
    for why, count in sorted(report["rejected"].items()):
        if why in HARMLESS:
            continue
        remedy = "safekit-py cluster state on each server: keys and cluster.xml must be equal"
        yield Finding("heartbeats", WARNING, f"{count} datagrams were rejected: {why}", remedy)


def _sockets() -> list[str]:
    found = []
    for path in (Path("/proc/net/udp"), Path("/proc/net/udp6")):
        with contextlib.suppress(FileNotFoundError):
            found += path.read_text(encoding="ascii").splitlines()[1:]
    return found


def firewall(ports: Sequence[int], protocol: str = "UDP") -> Iterator[Finding]:
    """Whether the packet filter of this server has a chain for what comes in that drops what no rule names."""
    try:
        done = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True, timeout=10)
        rules = json.loads(done.stdout)["nftables"]
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        yield Finding("firewall", WARNING, f"it cannot be asked: {error}", "apt-get install nftables")
        return
    chains = [each["chain"] for each in rules if "chain" in each]
    shut = [each["name"] for each in chains if each.get("hook") == "input" and each.get("policy") == "drop"]
    text = json.dumps([each for each in rules if "rule" in each])
    unnamed = [str(port) for port in ports if f'"right": {port}' not in text]
    if shut and unnamed:
        told = f"the chain {', '.join(shut)} drops what no rule lets in, and none names {protocol} {', '.join(unnamed)}"
        yield Finding("firewall", WARNING, told, f"let {protocol} {', '.join(unnamed)} in from the other servers")
    elif shut:
        yield Finding("firewall", OK, "it drops what no rule lets in, and rules name our ports")
    else:
        yield Finding("firewall", OK, "no chain of nftables drops by itself what comes in")


def _priority(agent: int) -> Finding:
    policies = {os.sched_getscheduler(int(task.name)) for task in Path(f"/proc/{agent}/task").iterdir()}
    if policies & {os.SCHED_FIFO, os.SCHED_RR}:
        return Finding("agent", OK, "its heartbeats have real-time priority")
    text = "no thread of it has real-time priority: on a busy server heartbeats may be late"
    return Finding("agent", WARNING, text, "LimitRTPRIO=50 in its systemd unit, or run it as root")
