"""A deterministic network of servers that run the membership core: virtual time, seeded faults, no sleep."""

import heapq
import itertools
import random

from safekit_py.core import membership
from safekit_py.core.buckets import NOBODY
from safekit_py.core.group import (
    Heartbeat,
    Install,
    Leave,
    Received,
    Send,
    SetInfo,
    SetPowers,
    Settings,
    Tick,
    View,
)
from safekit_py.core.trail import admitted

MS = 1_000_000
PULSE = 35 * MS


class Server:
    def __init__(self, world, number, offset):
        self.world, self.number = world, number
        self.settings = Settings(number, tuple(range(world.size)), 1, PULSE)
        self.up, self.paused, self.state, self.installed = False, False, None, None
        self.backlog, self.incarnation = [], 0
        self.power = 1
        self.boot(offset)

    def boot(self, offset=0):
        self.up, self.paused, self.backlog = True, False, []
        self.incarnation += 1
        self.installed, self.rows, self.owned = None, b"", 0
        boot = self.world.random.getrandbits(63) + 1
        self.state = membership.new(self.settings, boot, self.world.now)
        self.take(SetPowers(self.world.now, (self.power,)))
        self.take(SetInfo(self.world.now, bytes([self.number])))
        self.world.at(offset, self.tick, self.incarnation)

    def crash(self):
        self.up = False

    def tick(self, incarnation):
        if not self.up or incarnation != self.incarnation:
            return
        if not self.paused:
            self.take(Tick(self.world.now))
        self.world.at(PULSE + self.world.random.randrange(-2 * MS, 3 * MS), self.tick, incarnation)

    def resume(self):
        self.paused = False
        late, self.backlog = self.backlog, []
        for message in late:
            self.receive(*message)

    def receive(self, sender, boot, message):
        if not self.up:
            return
        if self.paused:
            self.backlog = [*self.backlog[:200], (sender, boot, message)]
            return
        self.take(Received(self.world.now, sender, boot, message))

    def take(self, event):
        self.state, commands = membership.step(self.settings, self.state, event)
        for command in commands:
            if isinstance(command, Send):
                self.world.send(self.number, self.state.boot, command)
            elif isinstance(command, Install):
                self.installed = command
                rows = membership.owner_entries(command.view, 0, owning=command.owning, me=self.number)
                self.rows, self.owned = admitted(rows, self.owned, command.waiting, self.number)
                self.world.check(self, command)

    def table(self):
        if self.installed is None:
            return bytes([NOBODY]) * 65536
        return self.rows[::4]

    def leave(self):
        self.take(Leave(self.world.now))
        self.crash()


class World:
    def __init__(self, size, seed=0, *, start=True):
        self.size, self.random = size, random.Random(seed)
        self.now, self.queue, self.order = 0, [], itertools.count()
        self.loss = self.duplicate = 0.0
        self.delay = (0, 3 * MS)
        self.cuts = set()
        self.views = {}
        self.servers = [Server(self, n, self.random.randrange(PULSE)) for n in range(size)] if start else []
        self.sent = 0

    def at(self, after, what, *arguments):
        heapq.heappush(self.queue, (self.now + after, next(self.order), what, arguments))

    def run(self, duration):
        end = self.now + duration
        while self.queue and self.queue[0][0] <= end:
            self.now, _, what, arguments = heapq.heappop(self.queue)
            what(*arguments)
        self.now = end

    def send(self, sender, boot, command):
        to = command.to if command.to is not None else [n for n in range(self.size) if n != sender]
        for receiver in to:
            self.sent += 1
            if (sender, receiver) in self.cuts or self.random.random() < self.loss:
                continue
            for _ in range(2 if self.random.random() < self.duplicate else 1):
                delay = self.random.randrange(self.delay[0], self.delay[1] + 1)
                self.at(delay, self.deliver, receiver, sender, boot, command.message)

    def deliver(self, receiver, sender, boot, message):
        # A boot that was replaced is refused by the replay guard, which stands before the core.
        if boot == self.servers[sender].state.boot:
            self.servers[receiver].receive(sender, boot, message)

    def check(self, server, command):
        """One number, one view: then no bucket can have two owners among those that share it."""
        view = self.views.setdefault(command.view.number, command.view)
        assert view == command.view, "two views with one number"

    def settle(self):
        self.run(membership.settled_after(self.servers[0].settings))

    def groups(self):
        """Groups of running servers that hear each other, by whatever way."""
        left = {s.number for s in self.servers if s.up and not s.paused}
        while left:
            group, edge = set(), {min(left)}
            while edge:
                one = edge.pop()
                group.add(one)
                edge |= {o for o in left - group if not {(one, o), (o, one)} & self.cuts}
            left -= group
            yield group

    def cut(self, one, other, *, one_way=False):
        self.cuts.add((one, other))
        if not one_way:
            self.cuts.add((other, one))

    def assert_owned_once(self):
        """One owner of each bucket in each connected group.

        A group that hears a server outside of it, which does not hear the group, may leave the service to that one.
        """
        running = {s.number: s for s in self.servers if s.up and not s.paused}
        owned = {n: frozenset(i for i, owner in enumerate(s.table()) if owner == n) for n, s in running.items()}
        for group in self.groups():
            union = frozenset().union(*(owned[n] for n in group))
            assert sum(len(owned[n]) for n in group) == len(union), f"a bucket has two owners in {group}"
            overhears = any((o, n) not in self.cuts for n in group for o in running.keys() - group)
            if any(running[n].power for n in group) and not overhears:
                assert len(union) == 65536, f"{65536 - len(union)} buckets have no owner in {group}"


__all__ = ["Heartbeat", "View", "World"]
