"""When a file that is being edited may be read: looks in, the files that have come to rest out. Pure.

A look is what each file's entry on the disk says (size, times, inode), or nothing for one that is not there.
Invariant: a file is handed on only when every look of the last ``quiet`` seconds has shown it as it is now, and never
twice as it is. Once the looks no longer differ and go on, every file is handed on as the last look shows it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

QUIET = 0.3  # seconds that a file must have been as it is: longer than an editor takes to write one


@dataclass(frozen=True, slots=True)
class Seen:
    """One file: how it is, since when, and whether it was handed on so."""

    look: Hashable
    since: float
    told: bool = False


@dataclass(frozen=True, slots=True)
class Settler:
    """What is known of the files.

    :param quiet: seconds.
    """

    quiet: float = QUIET
    seen: tuple[tuple[str, Seen], ...] = ()

    def look(self, now: float, looks: Mapping[str, Hashable]) -> tuple[Settler, tuple[str, ...], float | None]:
        """Take a look in.

        :param now: seconds of a monotonic clock.
        :param looks: the files that are there; with None, one that should be and is not.
        :return: what is known now; the files that have come to rest, also those that have gone; and when to look again,
            or None when nothing is moving.
        """
        seen, ready, due = dict(self.seen), [], None
        for name in sorted({*seen, *looks}):
            entry, look = seen.get(name), looks.get(name)
            if entry is None or entry.look != look:
                entry = Seen(look, now)
            if not entry.told and now >= entry.since + self.quiet:  # as ``due`` says, to the last bit
                entry = Seen(look, entry.since, told=True)
                ready.append(name)
            if not entry.told:
                due = min(due or entry.since + self.quiet, entry.since + self.quiet)
            if look is None and entry.told and name not in looks:
                del seen[name]
            else:
                seen[name] = entry
        return Settler(self.quiet, tuple(seen.items())), tuple(ready), due

    def again(self, name: str) -> Settler:
        """Hand this file on once more, as if it had just changed; for one that could not be taken."""
        return Settler(self.quiet, tuple((each, entry) for each, entry in self.seen if each != name))
