"""Asks on a device whether others hold an address, and hears whoever says so: frames out, MAC addresses in.

The socket stays open between two questions: an announcement is heard at once, and closing a packet socket makes the
kernel wait for all processors. A filter in the kernel keeps every other frame away from this process.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable

from . import dad
from .netlink import Ip, Link

SO_ATTACH_FILTER = 26
SIZE = 2048  # bytes of the largest frame of interest
AT_ONCE = 64  # frames that are read before others have their turn


class Claims:
    """What is said about one address on one device.

    :param heard: is called after a claim has been heard.
    :raises OSError: the device is gone, or this process may not open a packet socket (CAP_NET_RAW).
    """

    def __init__(self, ip: Ip, link: Link, heard: Callable[[], None]) -> None:
        self.ip, self.link, self._heard = ip, link, heard
        self._macs: set[bytes] = set()
        self._failure: OSError | None = None
        # Protocol 0 hears nothing: the filter must be there before the first frame.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            _attach(self._socket, dad.filter_for(ip))
            self._socket.bind((link.name, dad.ARP if ip.version == 4 else dad.IPV6))
            asyncio.get_running_loop().add_reader(self._socket, self._readable)
        except OSError:
            self._socket.close()
            raise

    def ask(self) -> None:
        """Send the question.

        :raises OSError: the device takes no frame.
        """
        self._socket.send(dad.question(self.ip, self.link.mac))

    def take(self) -> frozenset[bytes]:
        """The MACs that have claimed the address since the last call.

        :raises OSError: the device has been set down or is gone.
        """
        found, self._macs = frozenset(self._macs), set()
        if self._failure is not None:
            raise self._failure
        return found

    async def close(self) -> None:
        """Hear no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        await asyncio.to_thread(self._socket.close)

    def _readable(self) -> None:
        try:
            for _ in range(AT_ONCE):
                mac = dad.claimant(self._socket.recv(SIZE), self.ip)
                if mac is not None:
                    self._macs.add(mac)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failure = error
        if self._macs or self._failure is not None:
            self._heard()


def _attach(raw: socket.socket, program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
