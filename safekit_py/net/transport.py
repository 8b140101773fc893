"""Runs the membership core of one or more groups in one heartbeat thread.

Flows through it: datagrams and the thread's clock, once a pulse, in; heartbeats out, and calls of ``on_install``,
``on_lease`` and ``on_note`` in that thread. The thread is its own, and asks for real-time priority, so that a busy
agent is not taken for a dead one.
"""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import logging
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from safekit_py.core import membership, replay
from safekit_py.core.group import (
    Command,
    Event,
    Heartbeat,
    Install,
    Lease,
    Leave,
    Note,
    Received,
    Send,
    SetInfo,
    SetPowers,
    Settings,
    Tick,
    View,
)
from safekit_py.net import wire

log = logging.getLogger("safekit.pulse")
PRIORITY = 10  # of SCHED_FIFO, where permitted
BURST = 64  # datagrams read from a socket before the clock is looked at again
BUFFER = 4 << 20  # bytes that may queue on a LAN in a pulse: a flood of foreign datagrams must not crowd out heartbeats
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

    on_install: Callable[[View, bool], None]
    on_lease: Callable[[int], None]
    on_note: Callable[[str], None]


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
        try:  # without SO_REUSEADDR, which on UDP would let a second group take this one's datagrams unnoticed
            self.socket.bind(local)
        except OSError:
            self.socket.close()
            raise
        self.counter = 0
        self.send_errors = 0
        self.heard: dict[int, int] = {}

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
        key: bytes,
        group: bytes,
        boot: int,
        lans: tuple[LanAddresses, ...],
        callbacks: Callbacks,
    ) -> None:
        self.settings = settings
        self._key, self._group, self._boot, self._callbacks = key, group, boot, callbacks
        self.lans: list[_Lan] = []
        try:
            for place, lan in enumerate(lans):
                self.lans.append(_Lan(place if lan.index is None else lan.index, lan))
        except OSError:
            self.close()
            raise
        now = time.monotonic_ns()
        self._state = membership.new(settings, boot, now)
        self.due = now
        self._guards = dict.fromkeys(self._state.peers, replay.Guard())
        self._assemblers = {server: wire.Assembler() for server in self._state.peers}
        self._greeted: set[tuple[int, int, int]] = set()
        self._asked: dict[int, int] = {}  # the number that a server's next boot must send back
        self.rejected: collections.Counter[str] = collections.Counter()

    def close(self) -> None:
        """Close the sockets."""
        for lan in self.lans:
            lan.socket.close()

    # --- called in the heartbeat thread ---------------------------------------------------------

    def pulse(self, now: int) -> None:
        """A pulse is due: read what has arrived since the last one, then let the clock tick.

        Sockets are read here and not when a datagram arrives: waking up costs more than all else that is done.
        After a pause the clock comes first: the core must know of it before it reads what has queued up meanwhile.
        """
        late = now > self.due + self.settings.pulse
        self.due = max(self.due + self.settings.pulse, now)
        self._greeted.clear()
        if late:
            self.take(Tick(now))
        for lan in self.lans:
            self.read(lan)
        if not late:
            self.take(Tick(time.monotonic_ns()))

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
        datagram = wire.unseal(self._key, self._group, data)
        sender = datagram.sender
        if sender not in self._guards or datagram.lan != lan.index:
            raise wire.Rejected("sender")
        message = wire.decode_heartbeat(datagram.payload) if datagram.kind == wire.HEARTBEAT else None
        if message is not None and len(message.powers) != self.settings.groups:
            # Configured otherwise: it is alive, but it can take nothing.
            message = replace(message, powers=(0,) * self.settings.groups)
        echoes = self._echoes(datagram, message)
        guard, verdict = replay.admit(self._guards[sender], datagram.boot, datagram.counter, lan.index, echoes=echoes)
        if verdict == replay.UNPROVEN:
            self._greet(lan, sender, datagram.boot)
        if verdict != replay.ADMITTED:
            raise wire.Rejected(verdict)
        if guard.boot != self._guards[sender].boot:  # parts that its last boot left behind must not stand in the way
            self._assemblers[sender] = wire.Assembler()
            self._asked.pop(sender, None)
        self._guards[sender] = guard
        now = time.monotonic_ns()
        lan.heard[sender] = now
        if datagram.kind == wire.ASK:
            to, number = wire.decode_hello(datagram.payload)
            if to == self.settings.me:
                self._send(lan, wire.ANSWER, wire.encode_hello(sender, number), (sender,))
        if datagram.kind == wire.VIEW_PART:
            message_or_none: Any = self._assemblers[sender].add(datagram.payload)
        else:
            message_or_none = message
        if message_or_none is not None:
            self.take(Received(now, sender, datagram.boot, message_or_none))

    def _echoes(self, datagram: wire.Datagram, message: Heartbeat | None) -> bool:
        """Whether the datagram proves that its boot is the sender's present one.

        This server's boot in it shows that it is younger than this server. That is not enough to replace a boot that is
        known: it may have been held back on the way since before that one. So a later boot is asked for a number.
        """
        word: tuple[int, int] | None = None
        if datagram.kind in (wire.HELLO, wire.ASK, wire.ANSWER):
            word = wire.decode_hello(datagram.payload)
        elif datagram.kind not in (wire.HEARTBEAT, wire.VIEW_PART):
            raise wire.Rejected("malformed")
        if self._guards[datagram.sender].boot not in (0, datagram.boot):
            asked = self._asked.get(datagram.sender)
            return datagram.kind == wire.ANSWER and asked is not None and word == (self.settings.me, asked)
        if message is not None:
            return any(k.server == self.settings.me and k.boot == self._boot for k in message.known)
        return datagram.kind == wire.HELLO and word == (self.settings.me, self._boot)

    def _greet(self, lan: _Lan, sender: int, boot: int) -> None:
        """Answer a boot that has not proved itself, once a pulse: it will echo this server's boot, or was a replay."""
        if (lan.index, sender, boot) not in self._greeted:  # a replayed boot must not use up the answer to the real one
            self._greeted.add((lan.index, sender, boot))
            self._send(lan, wire.HELLO, wire.encode_hello(sender, boot), (sender,))
            if self._guards[sender].boot not in (0, boot):
                asked = self._asked.setdefault(sender, secrets.randbits(64))
                self._send(lan, wire.ASK, wire.encode_hello(sender, asked), (sender,))

    def _send(self, lan: _Lan, kind: int, payload: bytes, to: tuple[int, ...]) -> None:
        lan.counter += 1
        datagram = wire.Datagram(kind, self.settings.me, lan.index, self._boot, lan.counter, payload)
        data = wire.seal(self._key, self._group, datagram)
        for server in to:
            lan.send(data, server)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Send):
            to = command.to if command.to is not None else tuple(self._state.peers)
            if isinstance(command.message, View):
                kind, payloads = wire.VIEW_PART, wire.parts_of(command.message)
            else:
                kind, payloads = wire.HEARTBEAT, [wire.encode_heartbeat(command.message)]
            for lan in self.lans:
                for payload in payloads:
                    self._send(lan, kind, payload, to)
        elif isinstance(command, Lease):
            self._callbacks.on_lease(command.until)
        elif isinstance(command, Install):
            self._callbacks.on_install(command.view, command.owning)
        elif isinstance(command, Note):
            self._callbacks.on_note(command.text)

    # --- called from any thread -----------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What an operator may want to see, as plain values; ages in seconds."""
        state, now = self._state, time.monotonic_ns()
        return {
            "epoch": state.number.epoch,
            "coordinator": state.coordinator,
            "owning": state.owning,
            "doubt": bool(state.doubt),
            "alive": sorted(s for s, p in state.peers.items() if now - p.alive_at < self.settings.lost_after),
            "heard": {lan.name: {s: (now - at) / 1e9 for s, at in lan.heard.copy().items()} for lan in self.lans},
            "send_errors": {lan.name: lan.send_errors for lan in self.lans},
            "rejected": dict(self.rejected),
        }


class PulseThread:
    """The heartbeat thread of this process; it runs while it has a group."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._groups: list[GroupTransport] = []
        self._orders: collections.deque[Callable[[], None]] = collections.deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, group: GroupTransport) -> None:
        """Run this group from now on."""

        def order() -> None:
            self._groups.append(group)
            group.due = time.monotonic_ns()

        self._order(order)

    def remove(self, group: GroupTransport) -> None:
        """Say goodbye to the group's other servers and stop; returns when its callbacks are called no more."""
        done = threading.Event()

        def order() -> None:
            try:
                if group in self._groups:
                    self._groups.remove(group)
                    group.take(Leave(time.monotonic_ns()))
            finally:
                group.close()
                done.set()

        self._order(order)
        done.wait(5)

    def set_powers(self, group: GroupTransport, powers: tuple[int, ...]) -> None:
        """Announce what this server is ready to take in each bucket table."""
        self._order(lambda: group.take(SetPowers(time.monotonic_ns(), powers)))

    def set_info(self, group: GroupTransport, info: bytes) -> None:
        """Announce the data plane's addresses."""
        self._order(lambda: group.take(SetInfo(time.monotonic_ns(), info)))

    def _order(self, order: Callable[[], None]) -> None:
        with self._lock:
            self._orders.append(order)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
                self._thread.start()
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # not permitted everywhere: then at the agent's own priority
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        while True:
            now = time.monotonic_ns()
            for group in self._groups:
                if group.due <= now:
                    try:
                        group.pulse(now)
                    except Exception:  # one group's fault must not silence the others
                        log.exception("the heartbeat of a group failed")
            due = min((group.due for group in self._groups), default=None)
            timeout = None if due is None else max(0, due - time.monotonic_ns()) / 1e9
            if self._selector.select(timeout):
                self._obey()

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._orders:
            try:
                self._orders.popleft()()
            except Exception:  # nor must an order that fails
                log.exception("an order to a group failed")
