"""Events to systemd's journal, with their fields, by its native datagrams.

Flows through it: events in, datagrams out; nothing ever waits. When the journal does not take an event, the caller is
told and writes it as a plain line instead, so that no event is lost and none is there twice.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from safekit_py.model.event import Event
from safekit_py.model.state import Severity

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "safekit-py"
PRIORITY = {
    Severity.CRITICAL: "2",
    Severity.ERROR: "3",
    Severity.WARNING: "4",
    Severity.INFO: "6",
    Severity.DEBUG: "7",
}
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
TOO_LARGE = {errno.EMSGSIZE, errno.ENOBUFS}


def fields(event: Event) -> dict[str, str]:
    """The fields of an event: those that the journal knows, and ours, each ``SAFEKIT_`` and its name."""
    found = {
        "MESSAGE": f"{event.module} {event.source}: {event.message}",
        "PRIORITY": PRIORITY[event.severity],
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "SAFEKIT_MODULE": event.module,
        "SAFEKIT_KIND": event.kind,
        "SAFEKIT_SOURCE": event.source,
        "SAFEKIT_SEVERITY": event.severity.value,
    }
    for key, value in event.data.items():
        name = re.sub(r"[^A-Z0-9_]", "_", key.upper())
        found.setdefault(f"SAFEKIT_{name}"[:64], value)  # a longer name is refused by the journal
    return found


def encode(values: Mapping[str, str]) -> bytes:
    """The datagram. A value with a line feed is written with its length, as it would end the field otherwise."""
    parts = []
    for name, value in values.items():
        data = value.encode(errors="replace")
        if b"\n" in data:
            parts += [name.encode(), b"\n", struct.pack("<Q", len(data)), data, b"\n"]
        else:
            parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


class Journal:
    """The journal's socket.

    :param path: where it is; it may come and go.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def event(self, event: Event) -> bool:
        """Send one; False when the journal is not there or its queue is full."""
        data = encode(fields(event))
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            return error.errno in TOO_LARGE and self._large(data)
        return True

    def _large(self, data: bytes) -> bool:
        """What does not fit into a datagram goes as a sealed file in memory, and the datagram is empty."""
        try:
            file = os.memfd_create(IDENTIFIER, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return False
        try:
            with open(file, "wb", closefd=False) as stream:
                stream.write(data)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
            self._socket.sendmsg([b""], [rights], 0, self._path)
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def under_systemd(stream: int = 2, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this file descriptor leads into the journal already: then events go there with their fields.

    A process that a service has started inherits the variable, but may have its output elsewhere.
    """
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    with contextlib.suppress(OSError, ValueError):
        status = os.fstat(stream)
        return (status.st_dev, status.st_ino) == (int(device), int(inode))
    return False


def sink(stream: int = 2, environment: Mapping[str, str] = os.environ, path: Path = SOCKET) -> Callable[[Event], bool]:
    """Takes events to the journal, and says of each whether it went there; what did not is to be written as a line."""
    return Journal(path).event if under_systemd(stream, environment) else lambda _: False
