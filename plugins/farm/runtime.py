"""One farm module at work on this server: group view -> bucket tables -> kernel filter, addresses, announcements.

Two threads meet here. The heartbeat thread installs views and renews the lease, so that a busy agent neither loses
its place in the group nor keeps an old table. Everything else runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from safekit_py.api import (
    Callbacks,
    GroupTransport,
    LanAddresses,
    Left,
    ModuleContext,
    NotFoundError,
    Problem,
    PulseThread,
    SafekitError,
    Settings,
    Severity,
    StateError,
    SystemProblem,
    View,
    admitted,
    group_id,
    owner_entries,
)

from ..vip import connections
from ..vip.model import Vip
from . import compiler, needs, placing, ready
from .announcer import Announcer, Change, Client
from .door import Door
from .hashing import bucket_of
from .history import History
from .holding import Holding, Places
from .layout import SLICES, Configuration, KernelRule
from .loader import Filter, unpin
from .model import Farm
from .picture import Asked, Picture, shown, traced
from .placing import Device, Place
from .remains import Remains

FIRST_PORT, PORTS_EACH = 4803, 3
MAC = 6  # bytes
EXACT_BELOW = 100_000_000  # ns: of shorter leases the ticks that the coarse clock may lag are too large a part


class FarmRuntime:
    """See ``ModuleRuntime``; constructing it changes nothing."""

    def __init__(self, context: ModuleContext, pulse: PulseThread) -> None:
        self._context, self._pulse = context, pulse
        farm: Farm | None = context.config.one("farm")
        assert farm is not None, "FarmType.check refuses a module without <farm>"
        self._farm = farm
        self._vip: Vip = context.config.one("vip") or Vip()
        self._me = context.cluster.nodes.index(context.node)
        self._pin = needs.BPFFS / "safekit" / context.name
        self._place = Place(
            context.name, context.paths.module_var(context.name), context.paths.var / "farm", self._pin / "program"
        )
        seed = hmac.digest(context.keys.ring.origin, f"filter seed {context.name}".encode(), "sha256")
        self._seed = int.from_bytes(seed[:4], "big")
        self._filter: Filter | None = None
        self._lock = threading.Lock()  # of the filter: views come in the heartbeat thread
        self._group: GroupTransport | None = None
        self._view: View | None = None
        self.macs: dict[int, frozenset[bytes]] = {}  # by server, as it last told them; those that left keep theirs
        self.vmacs = frozenset(i.vmac for i in self._vip.interfaces if i.vmac)
        self._owning = False
        self._history = History()
        self._devices: list[Device] = []
        self._owned: dict[int, int] = {}  # by group, what this server owns now, as ``admitted`` tells it
        self._wished = False  # scripts have asked for traffic; it counts with scriptcontrol="on"
        self._door: Door | None = None
        self._holding: Holding | None = None
        self._announcer: Announcer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sources = ""  # of which filter.c the filter was made

    @property
    def port(self) -> int:
        """The UDP port of the heartbeats."""
        return self._farm.port or FIRST_PORT + PORTS_EACH * self._context.module_id

    @property
    def _arp_group(self) -> int | None:
        """The group whose table decides ARP and ICMP: the one with a rule for arp, else the first."""
        for index, group in enumerate(self._vip.groups):
            if any(rule.proto == "arp" for rule in group.rules):
                return index
        return 0 if self._vip.groups else None

    @property
    def _powers(self) -> tuple[int, ...]:
        """What this server takes of each group when it is open."""
        node = self._context.node
        return tuple(dict(group.powers).get(node, 1) for group in self._vip.groups) or (1,)

    # --- the module's life ----------------------------------------------------------------------

    async def recover(self) -> None:
        """Remove addresses, filter and pins of a run that was killed."""
        await placing.down(self._place)
        await asyncio.to_thread(unpin, self._pin)

    async def prepare(self) -> None:
        """Load a shut filter, put it and the addresses in place, join the group with no power."""
        self._loop = asyncio.get_running_loop()
        exact = self._settings().lease < EXACT_BELOW
        cache = ready.cache_folder(self._context.paths)
        loaded, origin = await asyncio.to_thread(ready.load, cache, self._pin, len(self._powers), exact=exact)
        slots = [(a.addr, slot) for slot, i in enumerate(self._vip.interfaces) for a in i.addresses]
        vmacs = {slot: i.vmac for slot, i in enumerate(self._vip.interfaces) if i.vmac}
        try:
            loaded.configure(Configuration(self._me, self._seed, slots, self._rules(), self._arp_group, vmacs))
        except ValueError as error:
            loaded.unpin()
            loaded.close()
            raise SystemProblem(Problem("farm.too-many", str(error), "split the module into two")) from error
        self._filter = loaded
        self._sources = compiler.sources()
        self._devices = devices = await placing.up(self._place, self._vip.interfaces, self._context.log)
        self._group = await asyncio.to_thread(self._make_group)
        self._pulse.add(self._group)
        self._pulse.set_info(self._group, b"".join(device.mac for device in devices))
        self._settle(devices)
        self._context.log(Severity.INFO, f"the filter is in the kernel, {origin}")
        self._context.log(Severity.INFO, f"addresses are in place on {_names(devices)}; traffic is shut")
        if self._vip.scriptcontrol and self._wished:
            await self._let_in()

    async def hand_over(self) -> bytes:
        """Let go: the filter goes on in the kernel, on its lease, and the next process with the heartbeats."""
        group, loaded = self._group, self._filter
        if group is None or loaded is None:
            raise SafekitError(Problem("farm.not-prepared", "the farm is not prepared", "stop the module and start it"))
        if self._announcer is not None:
            self._announcer.stop()
        if self._holding is not None:
            await self._holding.finish()
        left = await asyncio.to_thread(self._pulse.hand_over, group)
        self._group = self._filter = None
        loaded.close()
        return Remains(
            *(left, self._view, self._owning, self._owned, self.macs, self._history, tuple(self._devices)),
            wished=self._wished,
            sources=self._sources,
        ).packed()

    async def take_over(self, left: bytes) -> None:
        """Go on with the filter and as the member that another process was until now; the heartbeats come first."""
        self._loop = asyncio.get_running_loop()
        found = Remains.unpacked(left)
        self._filter = Filter.reopen(self._pin)
        self._view, self._owning, self._owned = found.view, found.owning, dict(found.owned)
        self.macs, self._history, self._wished = dict(found.macs), found.history, found.wished
        self._group = self._make_group(found.group)
        self._pulse.add(self._group)
        self._settle(list(found.devices))
        if self._view is not None and self._holding is not None:
            self._holding.seen(self._view, owning=self._owning)
        self._sources = found.sources
        if found.sources != compiler.sources():
            text = "the filter in the kernel is of the version before; the next stop and start brings the new one"
            self._context.log(Severity.WARNING, text)

    def _settle(self, devices: list[Device]) -> None:
        """What goes on beside the filter and the heartbeats."""
        assert self._group is not None, "it is made before"
        self._devices = devices
        self._announcer = Announcer(
            list(zip(self._vip.interfaces, devices, strict=True)), self._my_clients, self._context.log
        )
        self._door = Door(self._pulse, self._group, self._powers, self._has_share)
        self._holding = self._make_holding()
        self._holding.begin()

    def _make_holding(self) -> Holding:
        assert self._group is not None, "it is made after the group"
        addresses = [address.addr for interface in self._vip.interfaces for address in interface.addresses]
        places = Places(addresses, self._rules(), self._seed)
        settled, held = partial(self._pulse.set_settled, self._group), partial(connections.held, addresses)
        return Holding(places, self._me, settled, self._context.log, held)

    def _rules(self) -> list[KernelRule]:
        return [
            KernelRule(rule.proto, rule.filter, index, rule.port, rule.virtual_addr)
            for index, group in enumerate(self._vip.groups)
            for rule in group.rules
            if rule.proto != "arp"
        ]

    def _settings(self) -> Settings:
        return Settings(
            self._me,
            tuple(range(len(self._context.cluster.nodes))),
            len(self._powers),
            round(self._farm.pulse * 1e9),
            self._farm.slost_count,
            self._farm.mlost_count,
        )

    def _make_group(self, left: Left | None = None) -> GroupTransport:
        cluster, nodes = self._context.cluster, self._context.cluster.nodes
        lans = []
        for index, name in enumerate(self._farm.lans):
            local = cluster.address(self._context.node, name)
            if local is None:
                continue
            peers = {n: a for n, node in enumerate(nodes) if n != self._me and (a := cluster.address(node, name))}
            lans.append(LanAddresses(name, local, self.port, peers, index))
        try:
            group = GroupTransport(
                self._settings(),
                keys=self._context.keys,
                group=group_id(",".join(nodes), self._context.name),
                boot=left.state.boot if left else int.from_bytes(os.urandom(8), "big") | 1,
                lans=tuple(lans),
                callbacks=Callbacks(self._install, self._renew, self._note),
            )
            if left is not None:
                group.resume(left)
        except OSError as error:
            raise SystemProblem(
                Problem(
                    "farm.no-socket",
                    f"heartbeats cannot use port {self.port} of {', '.join(lan.local for lan in lans)}: "
                    f"{error.strerror or error}",
                    "cluster.xml must give this server's own addresses; another program may use the port",
                )
            ) from error
        return group

    async def open(self) -> None:
        """Let clients in; with ``scriptcontrol`` only if a script has asked for it."""
        if self._vip.scriptcontrol and not self._wished:
            text = 'scriptcontrol="on": traffic opens when a script asks for it (safekit-py farm open)'
            self._context.log(Severity.INFO, text)
            return
        await self._let_in()

    async def traffic(self, *, opened: bool) -> None:
        """What a script says of the traffic; before the farm is prepared, it is remembered."""
        if not self._vip.scriptcontrol:
            text = f"the traffic of {self._context.name} opens and closes by itself"
            raise StateError(Problem("farm.no-scriptcontrol", text, 'write <vip scriptcontrol="on">'))
        self._wished = opened
        if self._door is not None:
            self._context.log(Severity.INFO, f"a script asks for traffic to be {'opened' if opened else 'closed'}")
            await (self._let_in() if opened else self._hand_over())

    async def _let_in(self) -> None:
        if self._filter is None or self._door is None:
            raise SafekitError(Problem("farm.not-prepared", "the farm is not prepared", "stop the module and start it"))
        with self._lock:
            self._filter.set_open(True)
        await self._door.open()

    async def drain(self, tell: Callable[[str], None]) -> None:
        """Give new clients to the other servers, and wait until those that are here have left."""
        self._wished = False
        await self._hand_over()
        if self._holding is not None:
            await self._holding.left(lambda count: tell(f"{count} connection{'' if count == 1 else 's'} left"))

    async def close(self) -> None:
        """Give new clients to the other servers; those that are here go on. Harmless when nothing is prepared."""
        self._wished = False
        if not await self._hand_over() and self._filter is not None:
            # Nobody may have taken over: a client that finds nobody tries again, one that is refused does not.
            with self._lock:
                self._filter.set_open(False)

    async def _hand_over(self) -> bool:
        return self._door is None or await self._door.shut()

    async def release(self) -> None:
        """End what connections are left, leave the group, then take addresses and filter away."""
        if self._holding is not None:
            await self._holding.finish()
            if self._vip.tcpreset:
                await self._holding.reset()
        if self._filter is not None:
            with self._lock:
                self._filter.set_open(False)
        if self._announcer is not None:
            self._announcer.stop()
        if self._group is not None:
            await asyncio.to_thread(self._pulse.remove, self._group)
        self._group, self._view, self._owning, self._announcer = None, None, False, None
        self._door, self._holding, self._wished = None, None, False
        self._history, self._devices = History(), []
        self._owned.clear()
        await placing.down(self._place)
        if self._filter is not None:
            self._filter.unpin()
            self._filter.close()
            self._filter = None

    # --- in the heartbeat thread ----------------------------------------------------------------

    def _install(self, view: View, owning: bool, waiting: frozenset[int]) -> None:
        tables = []
        for group in range(len(view.tables)):
            rows = owner_entries(view, group, owning=owning, me=self._me)
            rows, self._owned[group] = admitted(rows, self._owned.get(group, 0), waiting, self._me)
            tables.append(rows)
        macs = {
            (slot, member.server): member.info[slot * MAC : slot * MAC + MAC]
            for member in view.members
            for slot in range(len(member.info) // MAC)
        }
        with self._lock:
            if self._filter is not None:
                self._filter.install(tables, macs)
        self._hop(lambda: self._seen(view, owning))

    def _renew(self, until: int) -> None:
        loaded = self._filter
        if loaded is not None:
            loaded.renew(until)

    def _note(self, text: str) -> None:
        self._hop(lambda: self._context.log(Severity.INFO, self._named(text)))

    def _hop(self, call: Callable[[], None]) -> None:
        """Go on in the agent's event loop, unless that has ended."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    # --- in the event loop ----------------------------------------------------------------------

    def _seen(self, view: View, owning: bool) -> None:
        if self._group is None:
            return
        old, self._view, self._owning = self._view, view, owning
        self._history.note(view, time.monotonic())
        for member in view.members:
            if told := frozenset(member.info[at : at + MAC] for at in range(0, len(member.info), MAC)):
                self.macs[member.server] = told
        if self._door is not None:
            self._door.look()
        if self._holding is not None:
            self._holding.seen(view, owning=owning)
        if old is None or old.number != view.number:
            self._context.log(Severity.INFO, f"view {view.number.epoch}: {self._named(view.cause)}")
        picture = self._picture()
        for index, group in enumerate(self._vip.groups):
            self._context.set_resource(
                f"farm.{group.name}", f"{picture.share(index, self._me):.1f}%", self._named(view.cause)
            )
        if self._announcer is not None and (arp := self._arp_group) is not None:
            had = {m.server for m in old.members if m.powers[arp]} if old else set()
            have = sorted(m.server for m in view.members if m.powers[arp])
            speaks = owning and have[:1] == [self._me]
            self._announcer.changed(Change(not had and bool(have), bool(had - set(have)) and bool(have), speaks))

    def _has_share(self) -> bool:
        view = self._view
        return view is not None and self._owning and any(m.server == self._me and any(m.powers) for m in view.members)

    def _my_clients(self) -> list[Client]:
        """The clients that have asked for an address and whose bucket is this server's."""
        arp, view = self._arp_group, self._view
        if self._filter is None or view is None or arp is None or not self._owning:
            return []
        table = view.tables[arp].expand()
        return [
            Client(addr, mac)
            for addr, mac, _ in self._filter.clients()
            if table[bucket_of(addr, self._seed)] == self._me
        ]

    def _named(self, text: str) -> str:
        """Server numbers of the core's words as names."""
        nodes = self._context.cluster.nodes
        return re.sub(r"\b(join|lost|power|settled) (\d+)", lambda m: f"{m[1]} {nodes[int(m[2])]}", text)

    def _picture(self) -> Picture:
        return Picture(
            tuple(self._context.cluster.nodes),
            self._me,
            self._seed,
            self._vip,
            self._arp_group,
            self._view,
            self._owning,
            self._group.snapshot() if self._group else {},
            self._history,
            time.monotonic(),
        )

    def report(self) -> Mapping[str, Any]:
        """What ``status`` shows."""
        picture = self._picture()
        return picture.report(self._named) | {
            "port": self.port,
            "ports": [
                {"port": self.port, "protocol": "udp", "purpose": "heartbeats between the servers"},
                {"port": self.port + 1, "protocol": "udp", "purpose": "a new view of the farm has come"},
            ],
            "packets": self._packets(),
        }

    def _packets(self) -> dict[str, int]:
        """Packets by verdict since the start, all groups together."""
        found: dict[str, int] = {}
        if self._filter is not None:
            for (_, verdict), count in self._filter.counters().items():
                found[verdict] = found.get(verdict, 0) + count
        return found

    def explain(self, what: str, words: tuple[str, ...]) -> Mapping[str, Any]:
        """``show``, ``trace`` or ``place``, for the commands ``farm show``, ``farm trace`` and ``farm doctor``."""
        picture, loaded = self._picture(), self._filter
        if what == "show":
            return shown(picture, loaded.counters() if loaded else {}, self._named)
        if what == "trace":
            slices = loaded.slices if loaded else lambda _: [{}] * SLICES
            return traced(picture, Asked.of(words), slices, self._named)
        if what == "place":
            return {
                "devices": [
                    {"name": device.name, "kind": interface.kind, "vmac": (interface.vmac or b"").hex(":")}
                    for interface, device in zip(self._vip.interfaces, self._devices, strict=False)
                ],
                "lease": self._settings().lease / 1e9,
                "lans": list(self._farm.lans),
            }
        raise NotFoundError(Problem("command.unknown", f"a farm tells no {what}", "show, trace or place"))


def _names(devices: list[Device]) -> str:
    return ", ".join(sorted({device.name for device in devices})) or "no device"
