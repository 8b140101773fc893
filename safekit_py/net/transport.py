"""Runs the membership core of one or more groups in one heartbeat thread.

Flows through it: datagrams and the thread's clock, once a pulse, in; heartbeats out, and calls of ``on_install``,
``on_lease`` and ``on_note`` in that thread. Which datagrams are believed is ``net.peer``'s matter.
"""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from safekit_py.core import membership
from safekit_py.core.election import living
from safekit_py.core.group import (
    Command,
    Event,
    Heartbeat,
    Install,
    Lease,
    Leave,
    Look,
    Note,
    Received,
    Send,
    SetInfo,
    SetPowers,
    SetSettled,
    Settings,
    Tick,
    View,
)
from safekit_py.model.keys import Keyring
from safekit_py.net import wire
from safekit_py.net.peer import GREETINGS, Peers, Trust
from safekit_py.net.pulse import STOP_LIMIT, RealtimeThread

BURST = 64  # datagrams read from a socket before the clock is looked at again
BUFFER = 4 << 20  # bytes that may queue on a LAN in a pulse: a flood of foreign datagrams must not crowd out heartbeats
SHORT = 20_000_000  # ns: with a shorter pulse datagrams are read when they come
RINGS = 4  # early readings in a pulse: whoever rings more often is not heard before the next one
_BREATH = 1_000_000  # ns between two looks at least
_SO_RCVBUFFORCE = 33  # of Linux; Python has no name for it


@dataclass(frozen=True, slots=True)
class LanAddresses:
    """One LAN: where this server listens, and where the others do. Addresses or host names.

    :param peers: the servers that are on this LAN, without this one.
    :param index: the LAN's number, 0 to 255, the same on every server; None means its place among this server's.
    """

    name: str
    local: str
    port: int
    peers: Mapping[int, str]
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the group tells its data plane. Called in the heartbeat thread: they must be quick and must not raise."""

    on_install: Callable[[View, bool, frozenset[int]], None]
    on_lease: Callable[[int], None]
    on_note: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Left:
    """What a group's transport leaves to another process of this server that goes on in its place. Values only.

    :param state: of the core; it holds the boot id, by which the other servers know this one.
    :param counters: by LAN, of the last datagram that was sent.
    """

    state: membership.State
    trust: Trust
    counters: Mapping[int, int]


class _Lan:
    """One LAN's socket, addresses and counters."""

    def __init__(self, index: int, lan: LanAddresses) -> None:
        self.index, self.name = index, lan.name
        self.peers = {server: _resolve(host, lan.port) for server, host in lan.peers.items()}
        local = _resolve(lan.local, lan.port)
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:  # beyond the system's limit only where permitted
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        except OSError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.bell = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:  # without SO_REUSEADDR, which on UDP would let a second group take this one's datagrams unnoticed
            self.socket.bind(local)
            self.bell.bind((local[0], local[1] + 1))
        except OSError:
            self.close()
            raise
        self.counter = 0
        self.send_errors = 0
        self.heard: dict[int, int] = {}

    def close(self) -> None:
        self.socket.close()
        self.bell.close()

    def ring(self, server: int) -> None:
        """Have a server read now what it would read at its next pulse."""
        if server in self.peers:
            host, port = self.peers[server]
            with contextlib.suppress(OSError):
                self.bell.sendto(b"", (host, port + 1))

    def rung(self) -> None:
        """Take what has rung: it says nothing but that."""
        with contextlib.suppress(OSError):
            for _ in range(BURST):
                self.bell.recv(1)

    def send(self, data: bytes, server: int) -> None:
        if server not in self.peers:  # not every server need be on every LAN
            return
        try:
            self.socket.sendto(data, self.peers[server])
        except OSError:  # a link that is down must not stop the others
            self.send_errors += 1


def _resolve(host: str, port: int) -> tuple[str, int]:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host)), port
    return str(socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4][0]), port


class GroupTransport:
    """One group on this server.

    :param group: ``wire.group_id`` of the cluster and the module.
    :param boot: random and not 0; new each time.
    :raises OSError: an address cannot be resolved or bound; nothing is left open.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        keys: Keyring,
        group: bytes,
        boot: int,
        lans: tuple[LanAddresses, ...],
        callbacks: Callbacks,
    ) -> None:
        self.settings = settings
        self._callbacks = callbacks
        self._thread: RealtimeThread | None = None
        self._rings = 0
        self.lans: list[_Lan] = []
        try:
            for place, lan in enumerate(lans):
                self.lans.append(_Lan(place if lan.index is None else lan.index, lan))
        except OSError:
            self.close()
            raise
        now = time.monotonic_ns()
        self._state = membership.new(settings, boot, now)
        self.due = self._beat = now
        self._peers = Peers(keys=keys, group=group, me=settings.me, boot=boot, others=self._state.peers)
        self._assemblers = {server: wire.Assembler() for server in self._state.peers}

    def left(self) -> Left:
        """What another process needs to go on in this one's place, as the same boot; nothing may be sent afterwards."""
        peers = {server: peer._replace(accused=dict(peer.accused)) for server, peer in self._state.peers.items()}
        counters = {lan.index: lan.counter for lan in self.lans}
        return Left(replace(self._state, peers=peers), self._peers.left(), counters)

    def resume(self, left: Left) -> None:
        """Go on where another process has ended; before this one is run. It must have been given that one's boot."""
        self._state = left.state
        self._peers.resume(left.trust)
        for lan in self.lans:
            lan.counter = left.counters.get(lan.index, 0)

    @property
    def rejected(self) -> collections.Counter[str]:
        """What was not believed, by reason."""
        return self._peers.rejected

    def leave(self, now: int) -> None:
        """Say goodbye to the others."""
        self.take(Leave(now))

    def close(self) -> None:
        """Close the sockets."""
        for lan in self.lans:
            if self._thread is not None:
                self._thread.unwatch(lan.bell)
                self._thread.unwatch(lan.socket)
            lan.close()

    # --- called in the heartbeat thread ---------------------------------------------------------

    def listen(self, thread: RealtimeThread) -> None:
        """Be woken when somebody rings; with a short pulse, by each datagram: then a pulse's delay counts for much."""
        self._thread = thread
        for lan in self.lans:
            thread.watch(lan.bell, partial(self._rung, lan))
            if self.settings.pulse < SHORT:
                thread.watch(lan.socket, partial(self._arrived, lan))

    def pulse(self, now: int) -> None:
        """A pulse is due, or somebody's time is over: read what has arrived, then let the core decide.

        Sockets are read here and not when a datagram arrives, unless the pulse is short: waking up costs more than all
        else that is done. Who has a view to tell rings. After a pause the clock comes first: the core must know of it
        before it reads what has queued up meanwhile.
        """
        if now < self._beat:
            self._read_all()
            self.take(Look(time.monotonic_ns()))
        else:
            self._tick(now)
        loss = membership.next_loss(self.settings, self._state)
        self.due = self._beat if loss is None else max(min(self._beat, loss), now + _BREATH)

    def _tick(self, now: int) -> None:
        late = now > self._beat + self.settings.pulse
        self._beat = max(self._beat + self.settings.pulse, now)
        self._peers.begin()
        if self._rings >= RINGS and self._thread is not None:
            for lan in self.lans:
                self._thread.watch(lan.bell, partial(self._rung, lan))
        self._rings = 0
        if late:
            self.take(Tick(now))
        self._read_all()
        if not late:
            self.take(Tick(time.monotonic_ns()))

    def _rung(self, lan: _Lan) -> None:
        lan.rung()
        self._rings += 1
        if self._rings >= RINGS and self._thread is not None:
            for each in self.lans:
                self._thread.unwatch(each.bell)
        if time.monotonic_ns() < self._beat:  # else the pulse comes next, and it must come first after a pause
            self._read_all()

    def _arrived(self, lan: _Lan) -> None:
        if time.monotonic_ns() < self._beat:
            self.read(lan)

    def _read_all(self) -> None:
        for lan in self.lans:
            self.read(lan)

    def take(self, event: Event) -> None:
        """Give the core an event and carry out what it says."""
        self._state, commands = membership.step(self.settings, self._state, event)
        for command in commands:
            self._carry_out(command)

    def read(self, lan: _Lan) -> None:
        """Read what has arrived on one LAN, all of it unless that would take a quarter of a pulse."""
        stop = time.monotonic_ns() + self.settings.pulse // 4
        while self._burst(lan) and time.monotonic_ns() < stop:
            pass

    def _burst(self, lan: _Lan) -> bool:
        """Read up to ``BURST`` datagrams; whether there may be more."""
        for _ in range(BURST):
            try:
                data = lan.socket.recv(wire.MAX_DATAGRAM + 1)
            except BlockingIOError:
                return False
            except OSError:  # an ICMP error of an earlier send
                continue
            try:
                self._datagram(lan, data)
            except wire.Rejected as rejected:
                self.rejected[rejected.reason] += 1
        return True

    def _datagram(self, lan: _Lan, data: bytes) -> None:
        datagram = self._peers.open(lan, data)
        sender, kind = datagram.sender, datagram.kind
        if kind not in (wire.HEARTBEAT, wire.VIEW_PART, *GREETINGS):
            raise wire.Rejected("malformed")
        message = wire.decode_heartbeat(datagram.payload) if kind == wire.HEARTBEAT else None
        if message is not None and len(message.powers) != self.settings.groups:
            # Configured otherwise: it is alive, but it can take nothing.
            message = replace(message, powers=(0,) * self.settings.groups)
        if self._peers.admit(lan, datagram, echo=self._echo(message)):
            # Parts that its last boot left behind must not stand in the way.
            self._assemblers[sender] = wire.Assembler()
        now = time.monotonic_ns()
        lan.heard[sender] = now
        if kind == wire.VIEW_PART:
            message_or_none: Any = self._assemblers[sender].add(datagram.payload)
        else:
            message_or_none = message
        if message_or_none is not None:
            self.take(Received(now, sender, datagram.boot, message_or_none))

    def _echo(self, message: Heartbeat | None) -> int | None:
        """The boot of this server that a heartbeat repeats."""
        known = () if message is None else message.known
        return next((each.boot for each in known if each.server == self.settings.me), None)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Send):
            to = command.to if command.to is not None else tuple(self._state.peers)
            if isinstance(command.message, View):
                kind, payloads = wire.VIEW_PART, wire.parts_of(command.message)
            else:
                kind, payloads = wire.HEARTBEAT, [wire.encode_heartbeat(command.message)]
            for lan in self.lans:
                for payload in payloads:
                    self._peers.send(lan, kind, payload, to)
                if command.urgent:
                    for server in to:
                        lan.ring(server)
        elif isinstance(command, Lease):
            self._callbacks.on_lease(command.until)
        elif isinstance(command, Install):
            self._callbacks.on_install(command.view, command.owning, command.waiting)
        elif isinstance(command, Note):
            self._callbacks.on_note(command.text)

    # --- called from any thread -----------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What an operator may want to see, as plain values; ages in seconds."""
        state, now = self._state, time.monotonic_ns()
        alive = living(self.settings, state, now)
        return {
            "epoch": state.number.epoch,
            "coordinator": state.coordinator,
            "owning": state.owning,
            "doubt": bool(state.doubt),
            "alive": alive,
            "behind": [server for server in alive if state.peers[server].number < state.number],
            "heard": {lan.name: {s: (now - at) / 1e9 for s, at in lan.heard.copy().items()} for lan in self.lans},
            "send_errors": {lan.name: lan.send_errors for lan in self.lans},
            "rejected": dict(self.rejected),
        }


class PulseThread(RealtimeThread):
    """The heartbeat thread of this process's groups."""

    def add(self, group: GroupTransport) -> None:
        """Run this group from now on."""
        self.order(lambda: group.listen(self))
        self.start(group)

    def remove(self, group: GroupTransport) -> None:
        """Say goodbye to the group's other servers and stop; returns when its callbacks are called no more."""
        self.stop(group)

    def hand_over(self, group: GroupTransport) -> Left:
        """Stop without a goodbye, for another process goes on in this one's place; what that needs.

        :raises RuntimeError: the thread does not answer.
        """
        left: list[Left] = []
        done = threading.Event()

        def order() -> None:
            try:
                self._members.remove(group)
                left.append(group.left())
            finally:
                group.close()
                done.set()

        self.order(order)
        done.wait(STOP_LIMIT)
        if not left:
            raise RuntimeError("the heartbeat thread does not answer")
        return left[0]

    def set_powers(self, group: GroupTransport, powers: tuple[int, ...]) -> None:
        """Announce what this server is ready to take in each bucket table."""
        self.order(lambda: group.take(SetPowers(time.monotonic_ns(), powers)))

    def set_settled(self, group: GroupTransport, epoch: int) -> None:
        """Announce that this server holds no connection but in its own buckets of the view of that epoch."""
        self.order(lambda: group.take(SetSettled(time.monotonic_ns(), epoch)))

    def set_info(self, group: GroupTransport, info: bytes) -> None:
        """Announce the data plane's addresses."""
        self.order(lambda: group.take(SetInfo(time.monotonic_ns(), info)))
