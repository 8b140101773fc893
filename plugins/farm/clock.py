"""The kernel's clock of ticks, by which the filter tells whether the lease is over: reading it costs nothing there.

Jiffies count the ticks of CLOCK_MONOTONIC. They can be read by programs in the kernel only, so one is run to see both
clocks at an instant; from then on one follows from the other.
"""

from __future__ import annotations

import os
import struct
import time

from . import bpf

_HELPER = 118  # bpf_jiffies64
_MONOTONIC_COARSE = 6  # of Linux: advances with the ticks; Python has no name for it
_CALL, _SHIFT_RIGHT, _EXIT = 0x85, 0x77, 0x95
_EMPTY = bytes(14)  # a frame: the least that a trial takes
_CLOSE = 1_000_000  # ns: the two clocks were read within this
_TRIES = 20


class TickClock:
    """Converts instants of CLOCK_MONOTONIC to jiffies.

    :param seen: jiffies at some instant, and the latest that this instant can have been, in ns of CLOCK_MONOTONIC.
    :param tick: ns between two ticks.
    """

    def __init__(self, seen: tuple[int, int], tick: int) -> None:
        self._seen, self.tick = seen, tick

    @classmethod
    def of_kernel(cls) -> TickClock:
        """This kernel's.

        :raises OSError: it does not run the program that reads it.
        """
        tick = round(time.clock_getres(_MONOTONIC_COARSE) * 1e9)
        low, high = _load(0), _load(32)
        try:
            return cls(_read(low, high), tick)
        finally:
            os.close(low)
            os.close(high)

    def jiffies_at(self, instant: int) -> int:
        """What the kernel's count is at least at this instant, should it not lag."""
        count, at = self._seen
        return count + (instant - at) // self.tick


def _load(shift: int) -> int:
    """A program that returns the 32 bits of the count from that one on."""
    code = struct.pack("=BBhi", _CALL, 0, 0, _HELPER)
    code += struct.pack("=BBhi", _SHIFT_RIGHT, 0, 0, shift) if shift else b""
    return bpf.load_program(code + struct.pack("=BBhi", _EXIT, 0, 0, 0), "safekit_clock", "GPL")


def _read(low: int, high: int) -> tuple[int, int]:
    found = []
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        upper = bpf.run_program(high, _EMPTY).code
        lower = bpf.run_program(low, _EMPTY).code
        again = bpf.run_program(high, _EMPTY).code
        after = time.monotonic_ns()
        if upper == again:  # else the lower half has wrapped meanwhile
            found.append((after - before, (upper << 32 | lower, after)))
            if after - before < _CLOSE:
                break
    if not found:
        raise OSError("the kernel's count of ticks could not be read")
    return min(found)[1]
