"""Hosts of a test's own: network namespaces that are joined by a bridge."""

from __future__ import annotations

import contextlib
import ctypes
import os

from pyroute2 import IPRoute

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
OWN = "/proc/thread-self/ns/net"


class Host:
    """A network namespace that lives as long as this object's descriptor."""

    def __init__(self) -> None:
        with self._back_afterwards():
            assert LIBC.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            self.fd = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    @staticmethod
    @contextlib.contextmanager
    def _back_afterwards():
        before = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield
        finally:
            assert LIBC.setns(before, CLONE_NEWNET) == 0
            os.close(before)

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the host meanwhile; gives its netlink."""
        with self._back_afterwards():
            assert LIBC.setns(self.fd, CLONE_NEWNET) == 0
            with IPRoute() as netlink:
                yield netlink


def join(switch: Host, hosts: dict[str, Host], *, mtu: int = 1500) -> None:
    """Give each host a device ``e0`` on one bridge. By address: one that has 10.9.0.n also gets fd09::n."""
    with switch.inside() as netlink:
        netlink.link("add", ifname="br0", kind="bridge", br_mcast_snooping=0)
        bridge = netlink.link_lookup(ifname="br0")[0]
        for number, host in enumerate(hosts.values()):
            peer = {"ifname": "e0", "net_ns_fd": host.fd, "mtu": mtu}
            netlink.link("add", ifname=f"p{number}", kind="veth", mtu=mtu, peer=peer)
            netlink.link("set", index=netlink.link_lookup(ifname=f"p{number}")[0], state="up", master=bridge)
        netlink.link("set", index=bridge, state="up")
    for address, host in hosts.items():
        with host.inside() as netlink:
            index = netlink.link_lookup(ifname="e0")[0]
            netlink.addr("add", index=index, address=address, prefixlen=24)
            six = "fd09::" + address.rpartition(".")[2]
            netlink.addr("add", index=index, address=six, prefixlen=64, flags=2)  # no duplicate address detection
            netlink.link("set", index=index, state="up")
