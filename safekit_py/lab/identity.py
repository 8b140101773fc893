"""Which process is meant: a process id together with its start time, so that a recycled id is never taken for ours."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this machine.

    :param pid: its id in the machine's own namespace.
    :param started: clock ticks from the machine's boot to its start (field 22 of /proc/PID/stat).
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now; None when there is none, or when it has ended and was not yet reaped."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The command's name stands in parentheses and may hold any character, so count from the last one.
        fields = text[text.rindex(")") + 2 :].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.of(self.pid) == self

    def kill(self, timeout: float = 10.0) -> bool:
        """SIGKILL, and wait for the end; False when it did not run.

        The descriptor is opened before the start time is compared: from then on the id cannot change its meaning.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], timeout)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True
