"""Whether the kernel asks again for what a worker that died had read and not answered (Linux 6.9 and later).

Learnt by the worker, from the kernel's first words or from a refusal; needed by the keeper when the worker is dead. So
it is one byte of memory that both share.
"""

from __future__ import annotations

import mmap

UNKNOWN, CAN, CANNOT = range(3)
DENY = "SAFEKIT_NO_RESEND"
"""In the keeper's environment, for tests: the kernel counts as an old one, whatever it says."""
OLD = "Linux older than 6.9: when the volume's process dies, the data are served no more, and the module fails over"


class Resend:
    """What is known of it. Made before the fork; a worker's word is the keeper's.

    :param denied: the kernel counts as one that cannot.
    """

    def __init__(self, *, denied: bool = False) -> None:
        self._byte, self._denied = mmap.mmap(-1, 1), denied

    @property
    def can(self) -> bool | None:
        """None until the kernel has said it."""
        return {CAN: True, CANNOT: False}.get(self._byte[0])

    def note(self, can: bool) -> None:
        """The kernel has said it, or has refused."""
        self._byte[0] = CAN if can and not self._denied else CANNOT
