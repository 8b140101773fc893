"""The replication engine ``block``: what the agent asks of the volume process, and everything around it.

Flows through it: the calls of ``seams.Engine`` in; the keeper started and stopped, volumes adopted, mounted and
unmounted (in threads: a disk may be slow), orders to the worker as JSON lines; its events out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safekit_py.api import ModuleContext, SafekitError, Severity

from .. import generation as gen
from ..generation import Generation
from ..heart import places
from ..model import Heart, Rfs
from ..seams import VolumeEvent
from . import adopt, store, system
from .place import Place
from .processes import Processes, problem

FIRST_PORT, PORTS_EACH = 5600, 4
LAST_LOOK = 1.0  # seconds in which the worker says how it is before it is let go
WORKER = "safekit_py.plugins.mirror.volume.process"


class BlockEngine:
    """See ``seams.Engine``."""

    replicates = True

    def __init__(self, context: ModuleContext, rfs: Rfs) -> None:
        self._context, self._rfs = context, rfs
        self.port = rfs.port or FIRST_PORT + PORTS_EACH * context.module_id
        self.folder = context.paths.var / "volumes" / context.name
        self._run = context.paths.run / "volume"
        self.places = [
            Place(each, self.folder, self._run / f"{context.name}.staging", rfs.mountoversuffix,
                  rfs.durability == "write")
            for each in rfs.replicated
        ]  # fmt: skip
        self._generation: Generation | None = None
        self._stamp: tuple[int, ...] = ()  # of the file that it was read from
        self._told: Callable[[VolumeEvent], None] = lambda _: None
        self._processes = Processes(
            context.name, self._run, log=context.log, told=self._tell, heard=self._heard, met=self._met
        )
        self._until = 0
        self._guarded: tuple[tuple[str, str], ...] = ()
        self._role = ""
        self._catching_up: asyncio.Task[None] | None = None

    # --- what is known --------------------------------------------------------------------------

    def generation(self) -> Generation:
        """What this server has. While no volume process writes it, a person may have: that is seen."""
        if not self._processes.connected and (stamp := store.stamp(self.folder)) != self._stamp:
            self._generation, self._stamp = None, stamp
        if self._generation is None:
            self._generation = store.known(self.folder)
        return self._generation

    def covers(self) -> tuple[str, ...]:
        """Directories whose own content a volume will take the place of for the first time."""
        return tuple(str(each.dir) for each in self.places if each.record() is None and each.has_content())

    def listen(self, told: Callable[[VolumeEvent], None]) -> None:
        """Be told what happens."""
        self._told = told

    def status(self) -> Mapping[str, Any]:
        """What the worker said last."""
        images = {each.volume.dir: _size(each.image) for each in self.places}
        own = {"role": self._role, "restarts": self._processes.restarts, "images": images, "promise": self._promise()}
        return {**self._processes.status, **own}

    def _promise(self) -> str:
        what = "each write()" if self._rfs.durability == "write" else "what fsync acknowledged"
        where = "in the memory of the secondary and on this disk" if self._rfs.sync == "second" else "on both disks"
        return f"{what} is {where} while both servers are there"

    # --- while the agent's process is replaced --------------------------------------------------

    async def hand_over(self) -> Mapping[str, Any]:
        """Keeper and worker go on."""
        with suppress(SafekitError):  # what was known last stands
            self._processes.status = await self._processes.order("status", limit=LAST_LOOK)
        values = {"role": self._role, "until": self._until, "guarded": self._guarded}
        values |= {"restarts": self._processes.restarts, "status": dict(self._processes.status)}
        self._processes.leave()
        return values

    async def take_over(self, left: Mapping[str, Any]) -> None:
        """Go on with keeper and worker."""
        self._role, self._until, self._guarded = left["role"], left["until"], left["guarded"]
        self._processes.status = left["status"]
        if not self._role:
            return
        try:
            await self._processes.adopt()
        except OSError:
            self._told(VolumeEvent("failed", "the keeper of the volume has ended"))
            return
        self._catching_up = asyncio.create_task(self._catch_up(left))

    async def _catch_up(self, left: Mapping[str, Any]) -> None:
        """Tell what the worker has told nobody."""
        if self._processes.restarts > left["restarts"]:
            self._told(VolumeEvent("restarted", "the volume's process died and was started again"))
        with suppress(SafekitError):  # it dies: its successor tells what is to be told
            for event in missed(left["status"], await self._processes.order("status")):
                self._told(event)

    # --- roles ----------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take away what an earlier run left."""
        await self._processes.stop()
        await asyncio.to_thread(self._clean)
        self._generation = None

    def _clean(self) -> None:
        for each in self.places:
            each.recover()
        self._take_off()

    def _take_off(self) -> None:
        """The volumes' files: a keeper that was killed leaves them mounted and dead."""
        for mount in reversed(system.mounts()):
            if mount.target == self._run / self._context.name:
                with suppress(OSError):
                    system.umount(mount.target, system.MNT_DETACH)

    async def serve(self, *, new: str = "") -> None:
        """Become the primary."""
        await self.release(force=True)
        for place in self.places:
            if not place.image.exists():
                if self.generation().data:
                    text = f"{place.image} is missing, although this server has had data"
                    raise problem("rfs.image-missing", text, "take the other server as primary, or restore the image")
                self._context.log(Severity.INFO, f"{place.dir} becomes a volume: its content is copied")
                await asyncio.to_thread(adopt.adopt, place)
        await self._start()
        self._role = "primary"
        await self._processes.order("serve", new=new, until=max(self._until, _boottime() + 10**9))

    async def mount(self) -> None:
        """Mount the volumes over their directories."""
        await self._processes.order_keeper("mount")
        for place in self.places:
            await asyncio.to_thread(place.mount, self._run / self._context.name / place.volume.name)

    async def receive(self, *, fullsync: bool = False, aside: bool = False) -> None:
        """Become the secondary."""
        await self.release(force=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._start()
        self._role = "secondary"
        mine = self.generation()
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{mine.data[:8]}" if aside else ""
        await self._processes.order("receive", fullsync=fullsync, aside=name)
        if name:
            self._told(VolumeEvent("aside", f"what only this server has is kept in {self.folder / 'aside' / name}"))

    async def alone(self, new: str) -> None:
        """The primary goes on without the other."""
        await self._processes.order("alone", new=new)

    async def outdate(self) -> None:
        """This server's data are not the newest any more."""
        if self._processes.connected:
            await self._processes.order("outdate")
        else:
            self._generation = gen.outdated(self.generation())
            await asyncio.to_thread(store.store, self.folder, self._generation)

    async def release(self, *, force: bool = False) -> None:
        """Unmount, and serve or receive no more."""
        if self._role == "primary" and self._processes.connected:
            if force:
                with suppress(SafekitError):
                    await self._processes.order("release", force=True)
            clean = True
            for place in reversed(self.places):
                clean = await asyncio.to_thread(partial(place.umount, force=force)) and clean
            if not force:
                await self._processes.order("release")
                if not clean:
                    self._context.log(Severity.INFO, "processes still had files open on the replicated directories")
        await self._processes.stop()
        if force:
            for place in reversed(self.places):
                await asyncio.to_thread(partial(place.umount, force=True))
        self._role = ""
        self._generation = None

    def lease(self, until: int) -> None:
        """The primary may acknowledge until then."""
        self._until = until
        self._processes.send({"do": "lease", "until": until})

    def limit(self, bandwidth: int) -> None:
        """Of a resynchronisation, in bytes a second."""
        self._rfs = replace(self._rfs, bandwidth=bandwidth)
        self._processes.send({"do": "limit", "bandwidth": bandwidth})

    def guard(self, addresses: tuple[tuple[str, str], ...]) -> None:
        """Addresses that must not outlive the lease."""
        self._guarded = addresses
        self._processes.send({"do": "guard", "addresses": [list(each) for each in addresses]})

    def settled(self) -> None:
        """The module has been Ready: the directories' original content is not needed any more."""
        for place in self.places:
            place.settled()

    # --- commands -------------------------------------------------------------------------------

    async def verify(self) -> Mapping[str, Any]:
        """Compare both images while they are used."""
        if self._role != "primary":
            raise problem("rfs.not-primary", "the primary compares the data", "give the command on the primary")
        found = await self._processes.order("verify", limit=24 * 3600.0)
        names = [each.volume.dir for each in self.places]
        places = [f"{names[volume]}: {size} bytes at {offset}" for volume, offset, size in found["ranges"]]
        different = int(found["different"])
        text = f"{different} bytes differ" if different else "the data of both servers are the same"
        return {"text": text, "different": different, "differences": places}

    async def external(self, role: str, uid: str) -> Mapping[str, Any]:
        """Both servers have the same copy, made by other means."""
        for place in self.places:
            if not place.image.exists():
                raise problem("rfs.image-missing", f"{place.image} is not there", "copy it from the other server first")
            place.image.with_suffix(".map").unlink(missing_ok=True)
        self._generation = gen.copied(uid, primary=role == "prim")
        await asyncio.to_thread(store.store, self.folder, self._generation)
        return {"text": f"this server has the copy {uid}; start it as {role}"}

    async def resize(self, directory: str, size: str) -> Mapping[str, Any]:
        """Let a volume grow while it is used."""
        place, number = self._place(directory)
        if self._role != "primary":
            raise problem("rfs.not-primary", "the primary lets a volume grow", "give the command on the primary")
        wanted = _bytes(size)
        now = _size(place.image)
        if wanted <= now:
            raise problem("rfs.too-small", f"{directory} has {now >> 20} MiB already", "name a larger size")
        if place.volume.filesystem == "ext4" and not system.has_capability(system.CAP_SYS_RESOURCE):
            text = f"the agent lacks CAP_SYS_RESOURCE, without which ext4 does not grow while it is used ({directory})"
            raise problem("rfs.no-capability", text, "give it to the agent: its unit file lists capabilities")
        await self._processes.order("resize", volume=number, size=wanted)
        file = self._run / self._context.name / place.volume.name
        await asyncio.to_thread(place.grow, file)
        return {"text": f"{directory} has {wanted >> 20} MiB now"}

    async def export(self, directory: str) -> Mapping[str, Any]:
        """A replicated directory becomes a plain one again."""
        place, _ = self._place(directory)
        await asyncio.to_thread(adopt.export, place)
        return {"text": f"{directory} is an ordinary directory again"}

    def _place(self, directory: str) -> tuple[Place, int]:
        for number, place in enumerate(self.places):
            if str(place.dir) == directory.rstrip("/"):
                return place, number
        known = ", ".join(str(each.dir) for each in self.places)
        raise problem("rfs.no-such-directory", f"{directory} is not replicated by this module", f"one of: {known}")

    # --- keeper and worker ----------------------------------------------------------------------

    def _plan(self) -> str:
        context, rfs = self._context, self._rfs
        heart = context.config.one("heart")
        assert isinstance(heart, Heart)
        lan = next((each.name for each in heart.lans if each.flow), heart.lans[0].name)
        peer = places(context.cluster, context.node, heart)[0]
        options = {
            "key": str(context.paths.cluster_key),
            "me": context.node,
            "peer": peer,
            "address": [context.cluster.address(context.node, lan), self.port],
            "peer_address": [context.cluster.address(peer, lan), self.port],
            "timeout": min(rfs.iotimeout, heart.timeout),
            "sync": rfs.sync,
            "bandwidth": rfs.bandwidth,
            "compression": rfs.compression,
        }
        volumes = [[each.volume.name, _size(each.image)] for each in self.places]
        names = {"module": context.name, "folder": str(self.folder), "run": str(self._run), "worker": WORKER}
        return json.dumps({**names, "volumes": volumes, "options": options})

    async def _start(self) -> None:
        self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(self._take_off)
        await self._processes.start(self._plan(), self._context.paths.module_var(self._context.name))

    def _tell(self, event: VolumeEvent) -> None:
        self._told(event)

    def _heard(self, said: Mapping[str, Any]) -> None:
        found = said.get("generation") or (said.get("ok") or {}).get("generation")
        if found:
            self._generation = Generation.from_dict(found)

    def _met(self) -> None:
        self.lease(self._until)
        self.guard(self._guarded)
        self.limit(self._rfs.bandwidth)


def missed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[VolumeEvent]:
    """The events between two words of a worker about itself, so that whoever hears them knows what it is now. Pure."""
    if (failure := now.get("failure")) and not before.get("failure"):
        yield VolumeEvent("failed", failure["cause"], failure["data"])
    was, mode = before.get("mode"), now.get("mode")
    if mode == was:
        return
    if mode in ("synced", "fenced"):
        yield VolumeEvent(mode, "seen after the agent's process was replaced")
    elif was == "synced" or mode == "frozen":
        yield VolumeEvent("lost", "seen after the agent's process was replaced", {"frozen": mode == "frozen"})


def _size(image: Path) -> int:
    try:
        return image.stat().st_size
    except OSError:
        return 0


def _bytes(text: str) -> int:
    unit = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:].upper(), 0)
    number = text[:-1] if unit else text
    if not number.isdigit():
        raise problem("rfs.bad-size", f"'{text}' is no size", "write one such as 20G")
    return int(number) << unit & ~((4 << 20) - 1)


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
