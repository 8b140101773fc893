"""``permanent_arp="on"``: lasting entries for the other server in the kernel's table of neighbours.

What was made lasting is written down first, in ``neighbours.json`` of the module, so that it is found and let go after
any crash. An entry is made out of the one that the kernel has found by itself, and becomes an ordinary one again.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import struct
import threading
import time

from safekit_py.api import ModuleContext

from ..checkers import netlink, network

ACK, REPLACE, CREATE = 0x4, 0x100, 0x400  # flags of a message
STALE, PERMANENT = 0x04, 0x80  # states of a neighbour
ATTEMPTS, PAUSE = 5, 0.2  # the kernel may still be asking for the neighbour's MAC


class Neighbours:
    """The lasting entries of one module. Its methods block for a moment; they may be called from any thread."""

    def __init__(self, context: ModuleContext, name: str) -> None:
        self._note = context.paths.module_var(context.name) / f"{name}-neighbours.json"
        self._lock = threading.Lock()

    def hold(self, address: str) -> None:
        """Make the entry of a neighbour last.

        :raises OSError: the kernel does not know the neighbour, or refuses.
        """
        with self._lock:
            for attempt in range(ATTEMPTS):
                found = _find(address)
                if found is not None:
                    break
                time.sleep(PAUSE * attempt)
            else:
                raise OSError(f"the kernel knows no hardware address of {address}")
            index, mac = found
            held = [each for each in self._held() if each[0] != address]
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps([*held, [address, index, mac.hex()]]))
            _set(address, index, mac, PERMANENT)

    def release(self) -> None:
        """Let all of them go, of this run and of earlier ones; one that is gone is fine."""
        with self._lock:
            for address, index, mac in self._held():
                try:
                    if _find(address) == (index, bytes.fromhex(mac)):
                        _set(address, index, bytes.fromhex(mac), STALE)
                except OSError:  # the device is gone, and the entry with it
                    continue
            self._note.unlink(missing_ok=True)

    def _held(self) -> list[tuple[str, int, str]]:
        try:
            return [(str(address), int(index), str(mac)) for address, index, mac in json.loads(self._note.read_text())]
        except (OSError, ValueError, TypeError):
            return []


def _find(address: str) -> tuple[int, bytes] | None:
    """Device and MAC of a neighbour."""
    wanted = ipaddress.ip_address(address)
    for message in network.dump(netlink.GET_NEIGH, netlink.NEIGHBOUR.size):
        found = netlink.neighbour_of(message.body)
        if found is not None and found[0] == wanted:
            return netlink.NEIGHBOUR.unpack_from(message.body)[1], found[1]
    return None


def _set(address: str, index: int, mac: bytes, state: int) -> None:
    raw = ipaddress.ip_address(address).packed
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    body = netlink.NEIGHBOUR.pack(family, index, state, 0, 0)
    for kind, value in ((netlink.NDA_DST, raw), (netlink.NDA_LLADDR, mac)):
        attribute = netlink.ATTRIBUTE.pack(netlink.ATTRIBUTE.size + len(value), kind) + value
        body += attribute + bytes(-len(attribute) % 4)
    flags = netlink.REQUEST | ACK | REPLACE | CREATE
    head = netlink.HEADER.pack(netlink.HEADER.size + len(body), netlink.NEW_NEIGH, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, network.ROUTE) as asking:
        asking.settimeout(network.DUMP_LIMIT)
        asking.send(head + body)
        for answer in netlink.messages(asking.recv(network.SIZE)):
            if answer.type == netlink.ERROR and (code := -struct.unpack_from("=i", answer.body)[0]):
                raise OSError(code, os.strerror(code))
