"""How a request goes to the secondary: as frames of the one ordered stream."""

from __future__ import annotations

from .frames import Kind, head
from .link import Link
from .request import Request

KINDS = {"write": Kind.WRITE, "discard": Kind.DISCARD, "zero": Kind.ZERO}
PART = 1 << 30  # bytes of one discard on the wire


def forward(link: Link, number: int, request: Request, *, copy: bool) -> None:
    """Behind everything that was sent before.

    :param copy: the kernel's memory is used again before this was acknowledged.
    """
    kind = KINDS[request.kind]
    if request.data is not None:
        data = bytes(request.data) if copy else request.data
        link.put(head(kind, request.volume, len(data), request.size, number, request.offset), data)
        return
    end = request.offset + request.size
    for at in range(request.offset, end, PART):
        size = min(PART, end - at)
        # Only the last part has the number: what is acknowledged is there as a whole.
        link.put(head(kind, request.volume, 0, size, number if at + size == end else 0, at))
