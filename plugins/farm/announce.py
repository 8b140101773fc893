"""ARP that tells clients which server to use now: after a change of owners, the clients need not time out first.

One server announces to all (:func:`to_all`); then each tells the clients whose ARP bucket it owns (:func:`to_client`),
so that they spread over the servers again. Frames are built by pure functions; :func:`send` puts them on a device.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address

EVERYBODY = b"\xff" * 6
ETHERNET_IPV4 = bytes.fromhex("000108000604")
REQUEST, REPLY = b"\x00\x01", b"\x00\x02"
SHORTEST = 60  # bytes of an Ethernet frame without its check sum


def to_all(vip: IPv4Address, mac: bytes) -> bytes:
    """A gratuitous ARP request by broadcast: "the VIP is at this MAC" (RFC 5227, announcement)."""
    arp = ETHERNET_IPV4 + REQUEST + mac + vip.packed + bytes(6) + vip.packed
    return (EVERYBODY + mac + b"\x08\x06" + arp).ljust(SHORTEST, b"\0")


def to_client(vip: IPv4Address, mac: bytes, client_mac: bytes) -> bytes:
    """The same to one client, as a gratuitous answer.

    Not an ordinary answer: for a second after an announcement Linux believes none that contradicts it.
    """
    arp = ETHERNET_IPV4 + REPLY + mac + vip.packed + mac + vip.packed
    return (client_mac + mac + b"\x08\x06" + arp).ljust(SHORTEST, b"\0")


def send(device: str, frames: Iterable[bytes]) -> int:
    """Send frames as they are from a device; needs CAP_NET_RAW.

    :returns: how many were sent: fewer when the device's queue is full, for an announcement is repeated anyway.
    :raises OSError: the device is gone or down, or this process may not send.
    """
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0) as raw:
        raw.bind((device, 0))
        for frame in frames:
            try:
                raw.send(frame)
            except OSError as error:
                if error.errno in {errno.ENOBUFS, errno.EAGAIN}:
                    break
                raise
            sent += 1
    return sent


def announce(device: str, vip: IPv4Address, mac: bytes, targets: Iterable[bytes], broadcast: bool = False) -> int:
    """Tell that the VIP is at this MAC.

    :param targets: MAC of each client to be told.
    :param broadcast: tell everybody first; for one server of the farm.
    :returns: how many frames were sent.
    """
    frames = [to_all(vip, mac)] if broadcast else []
    frames += [to_client(vip, mac, client_mac) for client_mac in targets if not client_mac[0] & 1]
    return send(device, frames)
