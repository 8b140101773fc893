"""Google's Maglev hashing (NSDI 2016, section 3.4), as the peer of bench/buckets.py: a table that knows no history."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

SIZE = 65537  # prime, and as large as Katran's


def table(powers: Mapping[int, int]) -> list[int]:
    """Owner of each entry; servers take turns, as many in a round as their power says."""
    walks = {server: _walk(server) for server, power in sorted(powers.items()) if power}
    owners = [-1] * SIZE
    left = SIZE
    while True:
        for server, walk in walks.items():
            for _ in range(powers[server]):
                while owners[entry := next(walk)] >= 0:
                    pass
                owners[entry] = server
                left -= 1
                if not left:
                    return owners


def _walk(server: int):
    digest = hashlib.blake2b(str(server).encode(), digest_size=16).digest()
    offset = int.from_bytes(digest[:8]) % SIZE
    skip = int.from_bytes(digest[8:]) % (SIZE - 1) + 1
    while True:
        yield offset
        offset = (offset + skip) % SIZE
