"""``<farm>`` as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Farm:
    """``<farm>``: the membership protocol.

    :param port: UDP port, 0 means the module's own: 4803 + 3 x module id.
    :param pulse: seconds between two heartbeats.
    :param mlost_count: pulses without the coordinator before a new one is elected.
    :param slost_count: pulses without a member before the coordinator removes it.
    :param lans: names of the LANs of cluster.xml that heartbeats use.
    """

    lans: tuple[str, ...]
    port: int = 0
    pulse: float = 0.035
    mlost_count: int = 5
    slost_count: int = 5
