"""A packet generator in the kernel: UDP frames of many clients, as received by a device, one after the other.

Live frames of BPF_PROG_TEST_RUN (Documentation/bpf/bpf_prog_run.rst of Linux): the cost of making and sending a packet
in the client is left out, so that a comparison shows what the servers do.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from bcc import BPF
from safekit_py.plugins.farm.bpf import NUMBERS, Map

FRAME, BATCH, LIVE_FRAMES, TEST_RUN = 60, 64, 2, 10
MOST = 4096  # clients
FIRST_CLIENT = IPv4Address("10.9.16.0")
LIBC = ctypes.CDLL(None, use_errno=True)


class Injector:
    """Frames of 60 bytes to UDP port 53 of an address."""

    def __init__(self, vip: str) -> None:
        self._bpf = BPF(src_file=str(Path(__file__).with_suffix(".c")), cflags=["-w"])
        self._program = self._bpf.load_func("inject", BPF.XDP)
        self._plan = Map.from_fd(self._bpf["plans"].map_fd)
        self._vip = vip

    def aim(self, macs: Sequence[bytes], clients: int, knows: bytes = b"") -> None:
        """What is sent from now on.

        :param macs: the destinations, up to four.
        :param clients: how many flows there are, a power of two up to 4,096; 0: each frame begins another one.
        :param knows: for each client, which of the MACs it sends to; none: the first.
        """
        rows = b"".join(mac.ljust(8, b"\0") for mac in macs).ljust(32, b"\0")
        numbers = IPv4Address(self._vip).packed + struct.pack("=I", clients)
        self._plan.update(bytes(4), rows + numbers + knows.ljust(MOST, b"\0"))

    def send(self, device: int, count: int) -> None:
        """Let a device of this network namespace, given by its index, receive so many frames.

        :raises OSError: the kernel refused.
        """
        frame = ctypes.create_string_buffer(FRAME)
        context = ctypes.create_string_buffer(struct.pack("=6I", 0, FRAME, 0, device, 0, 0), 24)
        attributes = struct.pack(
            "=IIIIQQIIIIQQIII4x",
            self._program.fd, 0, FRAME, 0, ctypes.addressof(frame), 0, count, 0, 24, 0,
            ctypes.addressof(context), 0, LIVE_FRAMES, 0, BATCH,
        )  # fmt: skip
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        if LIBC.syscall(NUMBERS[platform.machine()], TEST_RUN, buffer, len(buffer)):
            error = ctypes.get_errno()
            raise OSError(error, f"live frames: {os.strerror(error)}")
