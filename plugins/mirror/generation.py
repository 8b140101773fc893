"""What a server has of a mirror's data, and how it came to it: the value that decides who may be primary.

Pure. Each transition is stored (``store.py``) before what it stands for happens.

Invariant, held by tests/unit/plugins/mirror/test_exploration.py: a server whose generation is ``uptodate`` and not
``shared`` has every write that was ever acknowledged, or its data have diverged from the other's and both can see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from safekit_py.api import Problem, SafekitError

HISTORY = 32  # identifiers that are kept; older data are compared as unrelated ones


@dataclass(frozen=True, slots=True)
class Generation:
    """The data of one server.

    :param data: identifier of the data; empty: this server never had any. A new one begins whenever a server goes on
        without the other.
    :param history: the identifiers before it, newest first.
    :param uptodate: whether the image holds all of ``data``: not while it is being resynchronised, and not once the
        other server has said that it goes on without this one.
    :param shared: whether the other server may have the same data and may have gone on from them: this one must then
        not become primary after a boot without having seen the other.
    :param primary: whether this server was primary when this was stored.
    :param base: the data of the other server relative to which the map of this one is complete; empty: to synchronise
        it, everything must be compared.
    :param external: name of a copy that was made by other means; see ``rfssync``.
    """

    data: str = ""
    history: tuple[str, ...] = ()
    uptodate: bool = False
    shared: bool = False
    primary: bool = False
    base: str = ""
    external: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "history": list(self.history)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Generation:
        """Read what :meth:`as_dict` made.

        :raises SafekitError: anything is missing, of another kind or unknown.
        """
        found: dict[str, Any] = {}
        for field in fields(cls):
            value = values.get(field.name)
            if field.name == "history":
                right = isinstance(value, list) and all(isinstance(each, str) for each in value)
                value = tuple(value) if right and value is not None else None
            if type(value) is not type(field.default):
                raise unreadable(f"{field.name} is {values.get(field.name)!r}")
            found[field.name] = value
        if unknown := sorted(set(values) - set(found)):
            raise unreadable(f"it has {', '.join(unknown)}")
        return cls(**found)


def unreadable(why: str) -> SafekitError:
    """The stored generation is no generation, for this reason."""
    text = f"the generation of the data cannot be read: {why}"
    remedy = "take the other server as primary; this one gets everything anew: safekit-py second NAME fullsync"
    return SafekitError(Problem("volume.generation-unreadable", text, remedy))


def first(new: str) -> Generation:
    """The first data of a module, on the server that a person made primary."""
    return Generation(data=new, uptodate=True, primary=True)


def alone(mine: Generation, new: str) -> Generation:
    """This server goes on without the other: stored before anything is acknowledged that the other has not."""
    history = (mine.data, *mine.history)[:HISTORY] if mine.data else mine.history
    base = mine.data if mine.shared else mine.base
    return replace(mine, data=new, history=history, uptodate=True, shared=False, primary=True, base=base, external="")


def promoted(mine: Generation) -> Generation:
    """This server becomes primary with the data that it has: a planned exchange, or data that it alone has."""
    return replace(mine, primary=True)


def demoted(mine: Generation) -> Generation:
    """This server is primary no more; what it acknowledged is on its disk."""
    return replace(mine, primary=False)


def resyncing(mine: Generation) -> Generation:
    """This server's image begins to change into the primary's: stored before the first byte."""
    return replace(mine, uptodate=False, primary=False, external="")


def sharing(mine: Generation) -> Generation:
    """The primary, before the other server may say that it has the same."""
    return replace(mine, shared=True, base=mine.data)


def synced(mine: Generation, primary: Generation) -> Generation:
    """This server's image is the primary's, on disk, and the primary has stored :func:`sharing`."""
    return Generation(data=primary.data, history=primary.history, uptodate=True, shared=True, base=primary.data)


def outdated(mine: Generation) -> Generation:
    """The primary goes on without this server."""
    return replace(mine, uptodate=False)


def discarded(mine: Generation) -> Generation:
    """A person gives up what this server has: everything comes anew."""
    return replace(mine, uptodate=False, shared=False, primary=False, base="", external="")


def copied(uid: str, *, primary: bool) -> Generation:
    """A person says that both servers have the same copy, made by other means and named ``uid`` on both."""
    return Generation(data=uid, uptodate=True, shared=not primary, primary=False, base=uid, external=uid)


@dataclass(frozen=True, slots=True)
class Relation:
    """How the data of two servers stand to each other.

    :param kind: ``same``; ``mine`` or ``theirs`` are newer; ``diverged``: both went on from common data;
        ``unrelated``: no common data are known; ``none``: one side never had data.
    :param by_map: whether what differs is in the maps, so that not everything must be compared.
    """

    kind: str
    by_map: bool = False


def compare(mine: Generation, theirs: Generation) -> Relation:
    """How two servers' data stand to each other."""
    if not mine.data or not theirs.data:
        return Relation("none")
    if mine.data == theirs.data:
        return Relation("same", by_map=True)
    if theirs.data in mine.history:
        return Relation("mine", by_map=mine.base == theirs.data)
    if mine.data in theirs.history:
        return Relation("theirs", by_map=theirs.base == mine.data)
    if {mine.data, *mine.history} & {theirs.data, *theirs.history}:
        return Relation("diverged", by_map=bool(mine.base) and mine.base == theirs.base)
    return Relation("unrelated")
