"""Two servers of one volume in one process: the real images, maps, generations and both sides of replication; the
kernel, the network and the power are the test's.

Every page of 4 KiB holds the number of the write that made it, so what an image has can be compared with what was
promised. A ``Pair`` checks with each answer and after each step that no promise is broken.
"""

import errno
import os
import random
import select
import socket
import time
from contextlib import suppress

from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.volume.flusher import Flusher
from safekit_py.plugins.mirror.volume.image import ImageFile, create
from safekit_py.plugins.mirror.volume.link import Link, Names
from safekit_py.plugins.mirror.volume.request import Request
from safekit_py.plugins.mirror.volume.serving import Primary
from safekit_py.plugins.mirror.volume.store import load, store
from safekit_py.plugins.mirror.volume.taking import Secondary
from safekit_py.plugins.mirror.volume.zones import ZONE, ZoneMap

from safekit_py.model.keys import first

PAGE = 4096
SIZE = 3 * ZONE
KEY = first(b"k" * 32)


def content(version):
    """A page that says which write made it; 0 is a page of zeros."""
    return version.to_bytes(8, "little") * (PAGE // 8)


class Disk(ImageFile):
    """An image that knows which pages a loss of power could still take back."""

    def __init__(self, path, unsynced, refuses):
        super().__init__(path)
        self.unsynced = unsynced  # page -> what is on the platter
        self.refuses = refuses  # whether a flush fails

    def _touch(self, offset, size):
        for page in range(offset // PAGE, (offset + size + PAGE - 1) // PAGE):
            if page not in self.unsynced:
                self.unsynced[page] = os.pread(self.fd, PAGE, page * PAGE)

    def write(self, offset, data):
        self._touch(offset, len(data))
        super().write(offset, data)

    def discard(self, offset, size):
        self._touch(offset, size)
        super().discard(offset, size)

    def zero(self, offset, size):
        self._touch(offset, size)
        super().zero(offset, size)

    def sync(self):
        if self.refuses():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync()
        self.unsynced.clear()


class Host:
    """One server: its files, and its worker while it lives."""

    def __init__(self, folder, name, peer):
        self.folder, self.names = folder, Names("m", lambda: KEY, name, peer)
        folder.mkdir()
        self.unsynced = {}
        self.image = self.map = self.flusher = self.worker = None
        self.remembered = ""  # the session, as session.json has it
        self.refuses = False  # its disk fails each flush
        self.failed = False  # and has said so: what workers share
        self.weak = False  # it lost power and may lack what was answered and not flushed
        self.events, self.said = [], {}

    def open(self, sizes):
        self.close()
        path = self.folder / "v.img"
        if not path.exists():
            create(path, sizes[0])
        self.image = Disk(path, self.unsynced, lambda: self.refuses)
        self.map = ZoneMap(self.folder / "v.map", self.image.size)
        self.flusher = Flusher([self.image])
        return [self.image], [self.map], self.flusher

    def close(self):
        if self.image is not None:
            self.flusher.close()
            self.image.close()
            self.map.close()
        self.image = self.map = self.flusher = None

    def store(self, generation):
        store(self.folder, generation)
        self.remembered = self.worker.session_id if self.worker else ""

    def fail(self):
        self.failed = True

    def tell(self, kind, cause, data):
        self.events.append((kind, cause))
        self.said = data
        if kind == "synced":
            self.remembered, self.weak = data["session"], False

    @property
    def generation(self):
        return load(self.folder)

    def page(self, number):
        fd = os.open(self.folder / "v.img", os.O_RDONLY)
        try:
            return os.pread(fd, PAGE, number * PAGE)
        finally:
            os.close(fd)

    def end(self):
        """The worker is killed."""
        self.close()
        self.worker, self.remembered = None, self.remembered

    def lose_power(self, draw):
        self.end()
        self.remembered, self.weak = "", True
        if not self.unsynced:
            return
        with (self.folder / "v.img").open("r+b") as file:
            for page, old in self.unsynced.items():
                if draw.random() < 0.7:
                    file.seek(page * PAGE)
                    file.write(old)
        self.unsynced.clear()


class Kernel:
    """The session of FUSE: what was asked, and what was answered."""

    def __init__(self, pair):
        self.pair, self.open, self.unique = pair, {}, 0

    def ask(self, kind, page=0, pages=0, version=0):
        self.unique += 1
        data = bytearray(content(version) * pages) if kind == "write" else None
        asked = Request(self.unique, kind, 0, page * PAGE, pages * PAGE, data and memoryview(data), 0)
        self.open[self.unique] = (asked, version, set(self.pair.answered.items()))
        return asked

    def again(self):
        """What was not answered, asked by the kernel of a worker that follows another."""
        for unique, (asked, version, before) in list(self.open.items()):
            data = asked.data and memoryview(bytearray(asked.data))
            fresh = Request(unique, asked.kind, 0, asked.offset, asked.size, data, 0)
            self.open[unique] = (fresh, version, before)
        return [asked for asked, _, _ in self.open.values()]

    def answer(self, request, error=0, data=None):
        asked, version, before = self.open.pop(request.unique)  # KeyError: answered twice
        assert asked is request
        self.pair.on_answer(request, error, data, version, before)
        if request.data is not None:
            request.data[:] = b"\xee" * len(request.data)  # the memory is used again


class Pipe:
    """One connection: bytes wait in it until the test lets them through."""

    def __init__(self, left, right):
        self.ends, self.far = [], []
        for _ in (left, right):
            near, far = socket.socketpair()
            near.setblocking(False)
            far.setblocking(False)
            self.ends.append(near)
            self.far.append(far)
        self.links = [Link(self.ends[0], left, 60.0), Link(self.ends[1], right, 60.0)]
        self.waiting = [bytearray(), bytearray()]

    def move(self, side, limit):
        """Bytes of one side to the other, at most so many."""
        with suppress(BlockingIOError):
            while more := self.far[side].recv(1 << 20):
                self.waiting[side] += more
        part = self.waiting[side][:limit]
        try:
            sent = self.far[1 - side].send(part) if part else 0
        except BlockingIOError:
            sent = 0
        del self.waiting[side][:sent]
        return sent

    def close(self):
        for each in (*self.ends, *self.far):
            each.close()


class Pair:
    """The two, and what was promised to the application."""

    def __init__(self, folder, seed=0, sync="none"):
        self.draw, self.sync = random.Random(seed), sync
        self.hosts = [Host(folder / "a", "A", "B"), Host(folder / "b", "B", "A")]
        self.p, self.pipe, self.greeted = 0, None, False
        self.version = 0
        self.issued, self.answered, self.flushed = {}, {}, {}
        self.ids = 0
        self.answers = []
        self.kernel = Kernel(self)
        create(self.first.folder / "v.img", SIZE)
        self.serve(gen.first(self.new_id()))
        self.receive()

    @property
    def first(self):
        return self.hosts[self.p]

    @property
    def second(self):
        return self.hosts[1 - self.p]

    @property
    def primary(self):
        return self.first.worker

    @property
    def secondary(self):
        return self.second.worker

    def new_id(self):
        self.ids += 1
        return f"d{self.ids}"

    # --- roles ----------------------------------------------------------------------------------

    def serve(self, generation, session=""):
        host = self.first
        images, maps, flusher = host.open([SIZE])
        host.worker = None
        host.store(generation)
        host.worker = Primary(
            self.kernel, images, maps, flusher, generation,
            store=host.store, tell=host.tell, failed=host.fail, options={"sync": self.sync},
        )  # fmt: skip
        host.worker.session_id = session
        if host.failed:
            host.worker.fail()
        if generation.shared:
            host.worker.mode = "frozen"

    def receive(self, aside=None, *, fullsync=False):
        host = self.second
        host.worker = Secondary(
            host.generation, open_images=host.open, store=host.store, tell=host.tell, aside=aside, fullsync=fullsync
        )

    # --- the network ----------------------------------------------------------------------------

    def connect(self):
        if self.pipe is not None or self.primary.fenced or self.primary.failing:
            return
        self.pipe = Pipe(self.first.names, self.second.names)
        self.greeted = False
        self.primary.connected(self.pipe.links[0])
        if self.secondary.link is not None:
            self.secondary.lost("the primary has connected anew")
        self.secondary.connected(self.pipe.links[1])

    def cut(self, cause="cut"):
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            for worker in (self.primary, self.secondary):
                if worker is not None:
                    worker.lost(cause)
            pipe.close()

    def pump(self, side, limit=1 << 30):
        """Let bytes of one side through, and let the other one look at them; whether anything moved."""
        pipe = self.pipe
        if pipe is None:
            return False
        try:
            for link in pipe.links:
                link.flush()
            moved = pipe.move(side, limit)
            link = pipe.links[1 - side]
            if side == 1:
                self.primary.take_frames(link.read())
                if link.proven and not self.greeted:
                    self.greeted = True
                    self.primary.greet()
            else:
                self.secondary.take_frames(link.read())
        except ConnectionError as error:
            self.cut(str(error))
            return True
        return bool(moved)

    def finish(self):
        """Flushes in threads come to their end."""
        for host in self.hosts:
            while host.flusher is not None and host.flusher.running:
                select.select([host.flusher.fd], [], [], 10)
                try:
                    host.flusher.finish()
                except ConnectionError as error:
                    self.cut(str(error))

    def settle(self):
        """Until nothing moves any more."""
        quiet = 0
        for _ in range(2000):
            self.finish()
            moved = [self.pump(0), self.pump(1)]
            self.tick()
            still = self.pipe is None or not any(link.waiting for link in self.pipe.links)
            quiet = quiet + 1 if still and not any(moved) and not self.primary.busy else 0
            if quiet > 1:
                return
        raise AssertionError("it does not come to rest")

    def tick(self):
        if self.primary is not None:
            self.primary.tick(time.monotonic())

    def synced(self):
        """Bring both together, whatever was before."""
        if self.primary.fenced:
            self.primary.lift()
        self.connect()
        self.settle()
        assert self.primary.mode == "synced", (self.primary.mode, self.hosts[0].events[-3:], self.hosts[1].events[-3:])
        assert self.secondary.synced

    # --- the application ------------------------------------------------------------------------

    def ask(self, *whats):
        """Requests that come together: (kind, page, pages)."""
        made = []
        for kind, page, pages in whats:
            if kind in ("write", "discard", "zero"):
                self.version += 1
                for each in range(page, page + pages):
                    self.issued.setdefault(each, {0: bytes(PAGE)})[self.version] = (
                        content(self.version) if kind == "write" else bytes(PAGE)
                    )
            made.append(self.kernel.ask(kind, page, pages, self.version))
        self.primary.take(made)

    def on_answer(self, request, error, data, version, before):
        self.answers.append((request.kind, error))
        if error:
            return
        pages = range(request.offset // PAGE, (request.offset + request.size) // PAGE)
        if request.kind == "read":
            for number, page in enumerate(pages):
                assert bytes(data[number * PAGE : (number + 1) * PAGE]) == self.first.page(page)
            return
        assert not self.primary.fenced, "answered past the lease"
        assert self.first.generation == self.primary.generation, "answered before its generation is stored"
        if request.kind == "flush":
            for page, flushed in before:
                self.flushed[page] = max(self.flushed.get(page, 0), flushed)
        else:
            for page in pages:
                self.answered[page] = max(self.answered.get(page, 0), version)
        self.check_disks(request.kind == "flush")

    # --- what must hold -------------------------------------------------------------------------

    def allowed(self, page, least):
        return {text for version, text in self.issued[page].items() if version >= least}

    def check_disks(self, flush=False):
        shared = self.primary.generation.shared
        for host in self.hosts if shared else [self.first]:
            for page in self.issued:
                least = self.answered if not host.weak else self.flushed
                assert host.page(page) in self.allowed(page, least.get(page, 0)), f"page {page} lacks what was answered"
                if flush and not (self.sync == "second" and host is self.second) and page in host.unsynced:
                    assert host.unsynced[page] in self.allowed(page, self.flushed.get(page, 0)), "it is not on disk"

    def check(self):
        """In between answers: who says that it is up to date with the primary's data has what was answered."""
        mine, theirs = self.first.generation, self.second.generation
        hosts = [self.first, *([self.second] if theirs.uptodate and theirs.data == mine.data else [])]
        for host in hosts:
            least = self.flushed if host.weak else self.answered
            for page in self.issued:
                assert host.page(page) in self.allowed(page, least.get(page, 0)), "up to date without what was answered"

    def check_equal(self):
        """Both images are the same, byte for byte."""
        one, two = (host.folder / "v.img" for host in self.hosts)
        with one.open("rb") as mine, two.open("rb") as theirs:
            for at in range(0, SIZE, 1 << 20):
                assert mine.read(1 << 20) == theirs.read(1 << 20), f"the images differ in the MiB at {at}"

    # --- faults ---------------------------------------------------------------------------------

    def alone(self):
        self.primary.alone(self.new_id())

    def kill_primary(self):
        """Its worker is killed and started again; the kernel asks again."""
        session, host, fenced = self.first.remembered, self.first, self.primary.fenced
        link, self.pipe = self.pipe, None
        host.end()
        if link is not None:
            self.secondary.lost("killed")
            link.close()
        self.serve(host.generation, session)
        if fenced:
            self.primary.fence()
        self.primary.take(self.kernel.again())

    def kill_secondary(self, *, power=False):
        self.cut("killed")
        if power:
            self.second.lose_power(self.draw)
        else:
            self.second.end()
        self.receive()

    def lose_primary(self):
        """The primary loses power and comes back as primary: what was not answered is forgotten by its application."""
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            self.secondary.lost("no power")
            pipe.close()
        self.first.lose_power(self.draw)
        self.kernel.open.clear()
        self.forget_unflushed()
        self.serve(gen.promoted(self.first.generation))

    def take_over(self):
        """The primary loses power; the secondary goes on, and the old primary comes back as its secondary."""
        mine, theirs = self.first.generation, self.second.generation
        if not theirs.uptodate or theirs.data != mine.data or self.second.weak:
            return False
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            self.secondary.lost("no power")
            pipe.close()
        self.first.lose_power(self.draw)
        self.kernel.open.clear()
        self.second.end()
        self.p = 1 - self.p
        for page, least in self.answered.items():
            assert self.first.page(page) in self.allowed(page, least), "taken over without what was answered"
        self.rebase()
        self.serve(gen.alone(self.first.generation, self.new_id()))
        self.receive()
        return True

    def forget_unflushed(self):
        for page, least in self.flushed.items():
            assert self.first.page(page) in self.allowed(page, least), "lost what a flush had promised"
        self.answered = dict(self.flushed)

    def rebase(self):
        """What the primary's image has is the truth from here on."""
        self.version += 1
        for page in self.issued:
            self.issued[page][self.version] = self.first.page(page)
            self.answered[page] = self.version

    def close(self):
        self.cut()
        for host in self.hosts:
            host.close()
