"""Hosts for the tests of this folder: network namespaces of the test's own, a bridge between them, what was on it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket

from pyroute2 import IPRoute

CLONE_NEWNET = 0x40000000
ALL_FRAMES = 0x0003
LIBC = ctypes.CDLL(None, use_errno=True)


class Host:
    """A network namespace that lives as long as this object's descriptor; ``with host:`` is in it."""

    def __init__(self) -> None:
        with self._back_afterwards():
            assert LIBC.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    @staticmethod
    @contextlib.contextmanager
    def _back_afterwards():
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield
        finally:
            assert LIBC.setns(before, CLONE_NEWNET) == 0
            os.close(before)

    @contextlib.contextmanager
    def inside(self):
        with self._back_afterwards():
            assert LIBC.setns(self.fd, CLONE_NEWNET) == 0
            with IPRoute() as netlink:
                yield netlink


class Capture:
    """Every frame on a device of a host, with what the host itself sends."""

    def __init__(self, host: Host, device: str) -> None:
        with host.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            self._socket.bind((device, 0))
            self._socket.setblocking(False)

    def frames(self) -> list[bytes]:
        """Those since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(1 << 16))
        return found

    def close(self) -> None:
        self._socket.close()


def plug(switch: Host, host: Host, device: str, port: str, bridge: str, *addresses: str) -> None:
    """Connect a device of a host to a bridge of the switch, which is made when it is not there."""
    with switch.inside() as netlink:
        if not netlink.link_lookup(ifname=bridge):
            netlink.link("add", ifname=bridge, kind="bridge")
            netlink.link("set", index=netlink.link_lookup(ifname=bridge)[0], state="up")
        master = netlink.link_lookup(ifname=bridge)[0]
        netlink.link("add", ifname=port, kind="veth", peer={"ifname": device, "net_ns_fd": host.fd})
        netlink.link("set", index=netlink.link_lookup(ifname=port)[0], state="up", master=master)
    with host.inside() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname="lo")[0], state="up")
        index = netlink.link_lookup(ifname=device)[0]
        for each in addresses:
            address, prefix = each.split("/")
            more = {"flags": 0x02} if ":" in address else {}  # no waiting for the detection of duplicates
            netlink.addr("add", index=index, address=address, prefixlen=int(prefix), **more)
        netlink.link("set", index=index, state="up")
