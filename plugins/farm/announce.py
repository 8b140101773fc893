"""Tells clients which MAC to use for a virtual address now, so that they need not time out first.

One server announces to all; then each tells the clients whose ARP bucket it owns, so that they spread over the servers
again. :func:`send` puts frames on a device.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from ..vip.frames import announcement
from ..vip.model import Ip


@dataclass(frozen=True, slots=True)
class Told:
    """What is announced, and from where.

    :param mac: what clients are to use.
    :param source: the device's own MAC, from which the frame comes.
    """

    device: str
    vip: Ip
    mac: bytes
    source: bytes


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


def announce(told: Told, targets: Iterable[bytes], broadcast: bool = False) -> int:
    """Tell where a virtual address is.

    :param targets: MAC of each client to be told.
    :param broadcast: tell everybody first; for one server of the farm.
    :returns: how many frames were sent.
    """
    frames = [announcement(told.vip, told.mac, told.source)] if broadcast else []
    frames += [announcement(told.vip, told.mac, told.source, to) for to in targets if not to[0] & 1]
    return send(told.device, frames)
