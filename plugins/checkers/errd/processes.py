"""One look at the processes of this server, by psutil. Imported only where ``<errd>`` is configured: it costs memory.

The names are the kernel's own, at most 15 bytes, which is what a process calls itself; psutil completes them by the
command line. A process that has ended and was not waited for by its parent is none.
"""

from __future__ import annotations

import os

import psutil

from .model import LONGEST, Process

ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def scan(*, commands: bool) -> list[Process]:
    """Every process that runs, in the process namespace of the agent. It takes milliseconds: call it in a thread.

    :param commands: read the command lines too; that takes about as long again.
    """
    found = []
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                if process.status() in ENDED:
                    continue
                name = os.fsdecode(os.fsencode(process.name())[:LONGEST])
                command = " ".join(process.cmdline()) if commands else ""
                found.append(Process(process.create_time(), process.pid, name, command))
        except psutil.Error:
            continue  # it ended while it was looked at, or nobody may look at it
    return found
