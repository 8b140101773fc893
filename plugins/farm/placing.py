"""Addresses and filters put on devices, and taken off again, by a short-lived process that has the netlink library.

The library would cost the agent more memory than the whole farm. The agent asks with one JSON document on stdin:

    {"do": "find"|"up"|"down", "module": …, "folder": …, "pin": …,
     "interfaces": [{"name": …, "addresses": [[addr, netmask]…], "vmac": … or null}…]}

and gets ``{"devices": [[index, name, mac]…], "notes": [[state, text]…]}`` or ``{"problems": […]}``. What is put in
place is written down first, in ``placed.json`` of the module, so that it is found and removed after any crash.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from safekit_py.api import Problem, Severity, SystemProblem

from ..vip.model import INVISIBLE, Interface, Ip, VirtualAddr
from .devices import PROBLEM

TIMEOUT = 30.0  # seconds
LOOPBACK = "lo"
ASKING, LISTENING = "arp_announce.json", "listening.json"  # files that all modules of this server share


@dataclass(frozen=True, slots=True)
class Device:
    """A network device of this server."""

    index: int
    name: str
    mac: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """What a module needs in the kernel, and where that is written down.

    :param folder: the module's own folder.
    :param shared: a folder for what all modules of this server share.
    :param pin: where the filter's program is pinned.
    """

    module: str
    folder: Path
    shared: Path
    pin: Path

    @property
    def note(self) -> Path:
        """The file that says what was put in place."""
        return self.folder / "placed.json"


async def devices(interfaces: Iterable[Interface]) -> list[Device]:
    """The device of each interface.

    :raises SystemProblem: there is none.
    """
    return _devices(await _ask({"do": "find", "interfaces": _plain(interfaces)}))


async def up(place: Place, interfaces: Iterable[Interface], tell: Callable[[Severity, str], None]) -> list[Device]:
    """Attach the filter and then add the addresses.

    :param tell: gets what an administrator should know of the devices.
    :raises SystemProblem: the kernel refused; what was done is written down and :func:`down` undoes it.
    """
    answer = await _ask({"do": "up", **_where(place), "interfaces": _plain(interfaces)})
    for state, text in answer["notes"]:
        tell(Severity.WARNING if state == PROBLEM else Severity.INFO, text)
    return _devices(answer)


async def down(place: Place) -> None:
    """Remove everything that :func:`up` put in place, now or in an earlier life; nothing there is fine."""
    if place.note.exists():
        await _ask({"do": "down", **_where(place)})


def _where(place: Place) -> dict[str, str]:
    return {
        "module": place.module,
        "folder": str(place.folder),
        "shared": str(place.shared),
        "pin": str(place.pin),
    }


def _plain(interfaces: Iterable[Interface]) -> list[dict[str, Any]]:
    return [
        {
            "name": i.name,
            "addresses": [[str(a.addr), a.netmask] for a in i.addresses],
            "vmac": i.vmac.hex(":") if i.vmac else None,
        }
        for i in interfaces
    ]


def _devices(answer: dict[str, Any]) -> list[Device]:
    return [Device(index, name, bytes.fromhex(mac)) for index, name, mac in answer["devices"]]


async def _ask(request: dict[str, Any]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            out, err = await process.communicate(json.dumps(request).encode())
    except TimeoutError:
        out, err = b"", f"no answer in {TIMEOUT:g} s".encode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        last = (err.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        problem = Problem(
            "farm.placing", f"addresses and filter could not be put in place: {last}", "see the agent's log"
        )
        raise SystemProblem(problem) from None
    if "problems" in answer:
        raise SystemProblem([Problem.from_dict(p) for p in answer["problems"]])
    return answer


# --- the process ------------------------------------------------------------------------------------


def _interfaces(request: dict[str, Any]) -> list[Interface]:
    return [
        Interface(
            name=each["name"],
            addresses=tuple(VirtualAddr(ip_address(addr), netmask=netmask) for addr, netmask in each["addresses"]),
            kind=INVISIBLE if each["vmac"] else "vmac_directed",
            mac=each["vmac"],
        )
        for each in request["interfaces"]
    ]


def _carry_out(request: dict[str, Any]) -> dict[str, Any]:
    from pyroute2 import IPRoute  # noqa: PLC0415 - only this process may load it

    with IPRoute() as netlink:
        if request["do"] == "down":
            _down(netlink, request)
            return {}
        return _find_or_up(netlink, request, place=request["do"] == "up")


def _find_or_up(netlink: Any, request: dict[str, Any], *, place: bool) -> dict[str, Any]:
    from . import addresses  # noqa: PLC0415 - it loads pyroute2

    interfaces = _interfaces(request)
    found = []
    for interface in interfaces:
        try:
            index, name = addresses.device_of(netlink, interface)
            found.append((index, name, addresses.mac_of(netlink, index).hex()))
        except LookupError as error:
            remedy = 'give <interface name="…"> or a virtual address of one of its networks'
            raise SystemProblem(Problem("farm.no-device", str(error), remedy)) from None
    notes = _up(netlink, request, list(zip(found, interfaces, strict=True))) if place else []
    return {"devices": found, "notes": notes}


def _up(
    netlink: Any, request: dict[str, Any], places: list[tuple[tuple[int, str, str], Interface]]
) -> list[tuple[str, str]]:
    from . import addresses, attach, bpf, devices, listening  # noqa: PLC0415 - they load pyroute2

    module, shared = request["module"], Path(request["shared"])
    shared.mkdir(parents=True, exist_ok=True)
    note = Path(request["folder"]) / "placed.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    stand = [[_stands(a.addr, i, name), str(a.addr)] for (_, name, _), i in places for a in i.addresses]
    note.write_text(json.dumps({"devices": [name for (_, name, _), _ in places], "addresses": stand}))
    program = bpf.open_pin(Path(request["pin"]))
    try:
        for index in {index for (index, _, _), _ in places}:
            attach.attach(netlink, index, module, program, shared)
    finally:
        os.close(program)
    notes = []
    for (index, name, _), interface in places:
        addresses.ask_in_own_name(name, module, shared / ASKING)
        if interface.vmac:
            listening.listen(netlink, index, interface.vmac, module, shared / LISTENING)
        for address in interface.addresses:
            _add(netlink, index, name, interface, address)
        found = devices.facts(name)
        notes += [(each.state, str(each)) for each in devices.notes(found, interface.kind) if each.state != devices.OK]
    return list(dict.fromkeys(notes))


def _add(netlink: Any, index: int, name: str, interface: Interface, address: VirtualAddr) -> None:
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - only this process may load it

    from . import addresses  # noqa: PLC0415 - it loads pyroute2

    prefix = address.netmask
    if _stands(address.addr, interface, name) == LOOPBACK:
        index, prefix = netlink.link_lookup(ifname=LOOPBACK)[0], address.addr.max_prefixlen
    try:
        addresses.add(netlink, index, address.addr, prefix)
    except NetlinkError as error:
        text = f"{address.addr} could not be put on {name}: {error}"
        remedy = "the agent needs CAP_NET_ADMIN; for IPv6, net.ipv6.conf.*.disable_ipv6 must be 0 there"
        raise SystemProblem(Problem("vip.refused", text, remedy)) from None


def _stands(address: Ip, interface: Interface, device: str) -> str:
    """The device that gets a virtual address.

    With a virtual MAC, one of IPv6 stands on the loopback device: else the kernel would ask for its clients' MACs in
    the name of the virtual address, and give the server's own MAC for it.
    """
    return LOOPBACK if interface.vmac and address.version == 6 else device


def _down(netlink: Any, request: dict[str, Any]) -> None:
    from . import addresses, attach, listening  # noqa: PLC0415 - they load pyroute2

    module, shared, note = request["module"], Path(request["shared"]), Path(request["folder"]) / "placed.json"
    try:
        placed = json.loads(note.read_text())
    except (OSError, ValueError):
        placed = {"devices": [], "addresses": []}
    for name, address in placed["addresses"]:
        for index in netlink.link_lookup(ifname=name):
            addresses.remove(netlink, index, ip_address(address))
    for name in placed["devices"]:
        addresses.ask_as_before(name, module, shared / ASKING)
    listening.listen_no_more(netlink, module, shared / LISTENING)
    # The filter goes last: as long as an address is there, something must decide who answers for it.
    attach.detach(netlink, module, shared)
    note.unlink(missing_ok=True)


def main() -> None:
    """One request, one answer."""
    try:
        answer = _carry_out(json.load(sys.stdin))
    except SystemProblem as error:
        answer = {"problems": [p.as_dict() for p in error.problems]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
