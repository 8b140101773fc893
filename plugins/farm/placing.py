"""Addresses and filters put on devices, and taken off again, by a short-lived process that has the netlink library.

The library would cost the agent more memory than the whole farm. The agent asks with one JSON document on stdin:

    {"do": "find"|"up"|"down", "module": …, "folder": …, "pin": …,
     "interfaces": [{"name": …, "addresses": [[addr, netmask]…], "vmac": … or null}…]}

and gets ``{"devices": [[index, name, mac]…]}`` or ``{"problems": […]}``. What is put in place is written down first, in
``placed.json`` of the module, so that it is found and removed after any crash.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from safekit_py.api import Problem, SystemProblem

from ..vip.model import INVISIBLE, Interface, VirtualAddr

TIMEOUT = 30.0  # seconds


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


async def up(place: Place, interfaces: Iterable[Interface]) -> list[Device]:
    """Attach the filter and then add the addresses.

    :raises SystemProblem: the kernel refused; what was done is written down and :func:`down` undoes it.
    """
    return _devices(await _ask({"do": "up", **_where(place), "interfaces": _plain(interfaces)}))


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
        return {"devices": _find_or_up(netlink, request, place=request["do"] == "up")}


def _find_or_up(netlink: Any, request: dict[str, Any], *, place: bool) -> list[tuple[int, str, str]]:
    from . import addresses, attach, bpf  # noqa: PLC0415 - they load pyroute2

    interfaces = _interfaces(request)
    found = []
    for interface in interfaces:
        try:
            index, name = addresses.device_of(netlink, interface)
            found.append((index, name, addresses.mac_of(netlink, index).hex()))
        except LookupError as error:
            remedy = 'give <interface name="…"> or a virtual address of one of its networks'
            raise SystemProblem(Problem("farm.no-device", str(error), remedy)) from None
    if place:
        shared = Path(request["shared"])
        shared.mkdir(parents=True, exist_ok=True)
        note = Path(request["folder"]) / "placed.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(
            json.dumps(
                [
                    [name, [str(a.addr) for a in interface.addresses], interface.mac]
                    for (_, name, _), interface in zip(found, interfaces, strict=True)
                ]
            )
        )
        program = bpf.open_pin(Path(request["pin"]))
        try:
            for index in {index for index, _, _ in found}:
                attach.attach(netlink, index, request["module"], program, shared)
        finally:
            os.close(program)
        for (index, name, _), interface in zip(found, interfaces, strict=True):
            addresses.ask_in_own_name(name, request["module"], shared / "arp_announce.json")
            if interface.vmac:
                _listen_for(netlink, index, name, interface.vmac)
            for address in interface.addresses:
                addresses.add(netlink, index, address.addr, address.netmask)
    return found


def _listen_for(netlink: Any, index: int, name: str, vmac: bytes) -> None:
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - only this process may load it

    from . import addresses  # noqa: PLC0415

    try:
        addresses.listen_for(netlink, index, vmac)
    except NetlinkError as error:
        text = f"device {name} does not take frames for the virtual MAC {vmac.hex(':')}: {error}"
        remedy = 'write <virtual_interface type="vmac_directed">, or use another device'
        raise SystemProblem(Problem("farm.no-vmac", text, remedy)) from None


def _down(netlink: Any, request: dict[str, Any]) -> None:
    from . import addresses, attach  # noqa: PLC0415 - they load pyroute2

    shared, note = Path(request["shared"]), Path(request["folder"]) / "placed.json"
    try:
        placed = json.loads(note.read_text())
    except (OSError, ValueError):
        placed = []
    for name, its_addresses, vmac in placed:
        for index in netlink.link_lookup(ifname=name):
            for address in its_addresses:
                addresses.remove(netlink, index, ip_address(address))
            if vmac:
                addresses.listen_no_more(netlink, index, bytes.fromhex(vmac.replace(":", "")))
        addresses.ask_as_before(name, request["module"], shared / "arp_announce.json")
    # The filter goes last: as long as an address is there, something must decide who answers for it.
    attach.detach(netlink, request["module"], shared)
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
