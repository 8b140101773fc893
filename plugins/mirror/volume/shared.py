"""What the keeper and its workers know in common, also when a worker is dead: a few bytes of memory that they share.

``resends``: whether the kernel asks again for what a worker that died had read and not answered (Linux 6.9 and later).
A worker learns it, from the kernel's first words or from a refusal; the keeper needs it when that worker is dead.

``failed``: this server's disk has refused data, and nothing may be acknowledged any more. That must hold for the worker
that follows too, and a file could not tell it: its disk refuses data.
"""

from __future__ import annotations

import mmap

UNKNOWN, YES, NO = range(3)
RESENDS, FAILED = range(2)  # places
DENY = "SAFEKIT_NO_RESEND"
"""In the keeper's environment, for tests: the kernel counts as an old one, whatever it says."""
OLD = "Linux older than 6.9: when the volume's process dies, the data are served no more, and the module fails over"


class Shared:
    """Made before the fork.

    :param denied: the kernel counts as one that does not ask again.
    """

    def __init__(self, *, denied: bool = False) -> None:
        self._bytes, self._denied = mmap.mmap(-1, 2), denied

    @property
    def resends(self) -> bool | None:
        """None until the kernel has said it."""
        return {YES: True, NO: False}.get(self._bytes[RESENDS])

    def learnt(self, resends: bool) -> None:
        """The kernel has said whether it does, or has refused."""
        self._bytes[RESENDS] = YES if resends and not self._denied else NO

    @property
    def failed(self) -> bool:
        """Whether nothing may be acknowledged any more."""
        return self._bytes[FAILED] == YES

    @failed.setter
    def failed(self, is_so: bool) -> None:
        self._bytes[FAILED] = YES if is_so else NO
