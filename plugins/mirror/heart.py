"""The heart of a mirror: ``<heart>`` -> heartbeats with the other server; what it says -> the agent's event loop.

One thread of real-time priority serves the hearts of all mirror modules of this agent, so that a busy agent is not
taken for a dead one. What may be concluded from a beat stands in ``safekit_py/net/pair.py``: above all, that only an
echo shows that the other server was there *after* something that happened here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from safekit_py.api import (
    Cluster,
    Heard,
    Link,
    ModuleContext,
    Pair,
    PairListener,
    Problem,
    RealtimeThread,
    SafekitError,
    Severity,
    SystemProblem,
    group_id,
    is_literal,
    resolve,
)

from . import model
from .neighbours import Neighbours
from .seams import Beat

FIRST_PORT = 8888
RESOLVE_AGAIN = 5.0  # seconds between two attempts to resolve a host name


@functools.cache
def _thread() -> RealtimeThread:
    return RealtimeThread()


def make(context: ModuleContext, heart: model.Heart) -> Heart:
    """The heart of a module; those of one process share a thread, which is there from the first one's start on."""
    return Heart(context, heart, _thread())


@dataclass(frozen=True, slots=True)
class Place:
    """One network of ``<heart>``: its number in cluster.xml, this server's address there, and the other's."""

    index: int
    name: str
    local: str
    other: str
    pulse: float


def places(cluster: Cluster, node: str, heart: model.Heart) -> tuple[str, tuple[Place, ...]]:
    """The other server's name, and the networks.

    :raises SafekitError: ``heart.servers``: each network must have this server and one other, the same on all.
    """
    found, others = [], set()
    names = [lan.name for lan in cluster.lans]
    for each in heart.lans:
        nodes = [n for lan in cluster.lans if lan.name == each.name for n in lan.nodes]
        addresses = {n.name: n.addr for n in nodes}
        if node not in addresses or len(addresses) != 2:
            here = ", ".join(addresses) or "no server"
            raise _servers(f"the network {each.name} of <heart> must be that of {node} and one other server: {here}")
        (other,) = set(addresses) - {node}
        others.add(other)
        found.append(
            Place(names.index(each.name), each.name, addresses[node], addresses[other], each.pulse or heart.pulse)
        )
    if len(others) != 1:
        raise _servers(f"the networks of <heart> must lead to one other server: {', '.join(sorted(others)) or 'none'}")
    return others.pop(), tuple(found)


def _servers(message: str) -> SafekitError:
    return SafekitError(Problem("heart.servers", message, "give the two servers of the module a <lan> of their own"))


class Heart:
    """See ``HeartLink``. Constructing it changes nothing.

    :param thread: one for all mirror modules of the process.
    :param on_beat_sent: called in that thread with the monotonic clock, in nanoseconds, from just before a beat that
        went out on at least one network. It must be quick.
    :raises SafekitError: ``heart.servers``.
    """

    def __init__(
        self,
        context: ModuleContext,
        heart: model.Heart,
        thread: RealtimeThread,
        on_beat_sent: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._context, self._thread = context, thread
        self.port = heart.port or FIRST_PORT + context.module_id
        self.other, self._places = places(context.cluster, context.node, heart)
        nodes = context.cluster.nodes
        self._pair = Pair(
            nodes.index(context.node),
            nodes.index(self.other),
            keys=context.keys,
            group=group_id(",".join(nodes), f"heart/{context.name}"),
            boot=int.from_bytes(os.urandom(8), "big") | 1,
            thread=thread,
            listener=PairListener(self._words, on_beat_sent, self._reached),
        )
        self._neighbours = Neighbours(context, "heart") if heart.permanent_arp else None
        self._pinning: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: Callable[[Beat], None] = lambda _: None
        self._closed = threading.Event()

    def start(self, told: Callable[[Beat], None]) -> None:
        """Begin. A network whose addresses are names joins when they are resolved.

        :raises SystemProblem: ``heart.no-socket``: another program has the port.
        """
        self._loop, self._told = asyncio.get_running_loop(), told
        if self._neighbours is not None:
            self._neighbours.release()  # what an earlier run left
        literal = [p for p in self._places if is_literal(p.local) and is_literal(p.other)]
        links: list[Link] = []
        try:
            links += map(self._open, literal)
        except OSError as error:
            for link in links:
                link.close()
            raise SystemProblem(self._no_socket(error)) from error
        for link in links:
            self._pair.add(link)
        self._thread.start(self._pair)
        named = [place for place in self._places if place not in literal]
        if named:  # a name server that does not answer must hold nobody up
            threading.Thread(target=self._resolve, args=(named,), name="resolve", daemon=True).start()

    def say(self, words: Mapping[str, Any]) -> None:
        """What each beat carries from now on; one is sent at once. Before the first words no beat goes out.

        When it has returned, no beat goes out with older words. So a server that has promised something for as long as
        it hears the other takes it back by saying so first; ``last().at`` then is not before anything that it has
        echoed under the promise.

        :raises SafekitError: ``heart.words``: more than 30,000 bytes as JSON, or no JSON.
        """
        try:
            self._pair.say(words)
        except (ValueError, TypeError) as error:
            message = f"what this server would tell the other does not fit into a heartbeat: {error}"
            raise SafekitError(Problem("heart.words", message, "let checkers give shorter values")) from error

    def last(self) -> Beat | None:
        """The last one heard in this run, on any network; of the other's new run not before its words are whole."""
        heard = self._pair.last
        return None if heard is None else _beat(heard)

    def lans(self) -> Mapping[str, float]:
        """By network: seconds since the other was heard there; infinite when never."""
        return {**{place.name: float("inf") for place in self._places}, **self._pair.lans()}

    @property
    def sent(self) -> int:
        """Monotonic clock, in nanoseconds, from just before the last beat that went out on some network; 0 for none."""
        return self._pair.sent

    def silence(self) -> float:
        """Seconds for which this server has listened in vain on every network; its own pauses do not count."""
        return self._pair.silence()

    def answered(self, since: int) -> bool:
        """Whether the other server has spoken after an instant of this server's monotonic clock, in nanoseconds.

        It has when it had heard words that this server sent after it: so this server must have said something new
        since. That a beat came in after it shows nothing: it may have waited in a queue.
        """
        heard = self._pair.last
        return heard is not None and heard.echo > since

    def rejected(self) -> Mapping[str, int]:
        """How many datagrams were not believed, by reason."""
        found: Mapping[str, int] = self.snapshot()["rejected"]
        return found

    def snapshot(self) -> dict[str, Any]:
        """Counters, as plain values."""
        return self._pair.snapshot()

    def close(self) -> None:
        """Repeat the last words, stop, and close the sockets; ``told`` is called no more."""
        self._closed.set()
        self._thread.stop(self._pair)
        for task in self._pinning:
            task.cancel()
        if self._neighbours is not None:
            self._neighbours.release()

    def _open(self, place: Place) -> Link:
        local, other = resolve(place.local, self.port), resolve(place.other, self.port)
        return Link(place.index, place.name, local, other, round(place.pulse * 1e9))

    def _no_socket(self, error: OSError) -> Problem:
        where = ", ".join(place.local for place in self._places)
        message = f"heartbeats cannot use port {self.port} of {where}: {error.strerror or error}"
        return Problem("heart.no-socket", message, "another program may use the port: <heart port> takes another")

    def _resolve(self, waiting: list[Place]) -> None:
        """In a thread of its own, until every name has been resolved."""
        said = ""
        while waiting and not self._closed.is_set():
            for place in list(waiting):
                try:
                    self._pair.add(self._open(place))
                    waiting.remove(place)
                except OSError as error:
                    text = f"the network {place.name} cannot be used yet: {error.strerror or error}"
                    if text != said:
                        said = text
                        self._hop(functools.partial(self._context.log, Severity.WARNING, text))
            self._closed.wait(RESOLVE_AGAIN if waiting else 0)

    # --- in the heartbeat thread ----------------------------------------------------------------

    def _words(self, heard: Heard) -> None:
        self._hop(lambda: self._told(_beat(heard)))

    def _reached(self, name: str) -> None:
        if self._neighbours is not None:
            self._hop(lambda: self._pin(name))

    def _hop(self, call: Callable[[], None]) -> None:
        """Go on in the agent's event loop, unless that or this has ended."""
        with contextlib.suppress(RuntimeError):  # the loop may close between the question and the call
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(lambda: None if self._closed.is_set() else call())

    # --- in the event loop ----------------------------------------------------------------------

    def _pin(self, name: str) -> None:
        others = [resolve(p.other, self.port)[1][0] for p in self._places if p.name == name and is_literal(p.other)]
        task = asyncio.get_running_loop().create_task(self._hold(map(str, others)))
        self._pinning.add(task)
        task.add_done_callback(self._pinning.discard)

    async def _hold(self, addresses: Iterable[str]) -> None:
        assert self._neighbours is not None, "asked for with permanent_arp only"
        for address in addresses:
            try:
                await asyncio.to_thread(self._neighbours.hold, address)
            except OSError as error:
                message = f"permanent_arp: no lasting entry for {address}: {error.strerror or error}"
                self._context.log(Severity.WARNING, message)


def _beat(heard: Heard) -> Beat:
    return Beat(heard.at, heard.says, heard.echo)
