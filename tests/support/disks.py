"""Disks for tests and benchmarks, each a context manager that leaves nothing behind.

``plain_ext4`` is what a volume is compared with: the same image on a loop device, without our process between them.
``local_volume`` is a volume that replicates to nobody. ``tiny`` is full soon. ``PowerDisk`` loses power and fails when
it is told to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safekit_py.plugins.mirror.volume import adopt, image, loop, system

MIB = 1 << 20
HERE = Path(__file__).parent
PATIENCE = 10.0


def drop_caches(path: Path) -> None:
    """What is below the path is read from its disk next time; first all is written there."""
    fd = os.open(path, os.O_RDONLY)
    try:
        system.syncfs(fd)
    finally:
        os.close(fd)
    for file in path.rglob("*"):
        if file.is_file() and not file.is_symlink():
            fd = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def unmount(path: Path, patience: float = PATIENCE) -> None:
    """Unmount; what uses it a little longer is waited for, and then left to itself."""
    end = time.monotonic() + patience
    while True:
        try:
            system.umount(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            if time.monotonic() > end:
                system.umount(path, system.MNT_DETACH)
                return
            time.sleep(0.05)
        else:
            return


def free(used: loop.Loop, patience: float = PATIENCE) -> None:
    """Wait until the loop device does not have its file any more."""
    end = time.monotonic() + patience
    while used.there:
        if time.monotonic() > end:
            raise TimeoutError(f"{used.device} stays in use")
        time.sleep(0.02)


@contextlib.contextmanager
def looped(file: Path, target: Path, *, make: bool = True, quota: bool = False) -> Iterator[Path]:
    """A loop device on the file, with ext4 as volumes have it, mounted on the target."""
    used, fd = loop.attach(file)
    device = used.device
    try:
        if make:
            adopt.make(device, "ext4", 0)
            if quota:
                subprocess.run(["tune2fs", "-O", "quota", device], check=True, capture_output=True)
        target.mkdir(parents=True, exist_ok=True)
        options = "errors=remount-ro,usrquota" if quota else "errors=remount-ro"
        system.mount(str(device), target, "ext4", 0, options)
        try:
            yield target
        finally:
            unmount(target)
    finally:
        os.close(fd)
        free(used)


@contextlib.contextmanager
def plain_ext4(folder: Path, size: int, *, quota: bool = False) -> Iterator[Path]:
    """An image in the folder, on a loop device."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plain.img"
    image.create(file, size)
    try:
        with looped(file, folder / "mnt", quota=quota) as path:
            yield path
    finally:
        file.unlink()


class Keeper:
    """A keeper process and a connection to it, to mount and end its volumes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "safekit_py.plugins.mirror.volume.keeper"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(plan))
        self.process.stdin.close()
        self.said = json.loads(self.process.stdout.readline())
        self._path = f"{plan['run']}/{plan['module']}.keeper"

    def do(self, what: str) -> dict[str, Any]:
        """One command and its answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(10)
            caller.connect(self._path)
            caller.sendall(json.dumps({"do": what}).encode() + b"\n")
            answer = json.loads(caller.makefile().readline())
        assert "error" not in answer, answer
        return dict(answer)

    def close(self) -> None:
        """Stop it; kill it when it does not."""
        with contextlib.suppress(OSError, AssertionError, ValueError):
            self.do("stop")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def volume_file(
    folder: Path, size: int, *, run: Path | None = None, worker: str = "local", **options: Any
) -> Iterator[tuple[Path, Keeper]]:
    """The file that a keeper and its worker expose, without a loop device on it, and the keeper.

    :param run: of the sockets and the file; for a folder whose disk will fail, one elsewhere.
    """
    run = run or folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    file = folder / "data.img"
    image.create(file, size)
    plan = {"module": "t", "folder": str(folder), "run": str(run), "volumes": [["data", size]], "options": options,
            "worker": f"safekit_py.plugins.mirror.volume.{worker}"}  # fmt: skip
    keeper = Keeper(plan)
    try:
        keeper.do("mount")
        yield run / "t" / "data", keeper
    finally:
        keeper.close()
        for flag in (system.MNT_FORCE, system.MNT_DETACH):  # the first fails what waits, should a worker hang
            with contextlib.suppress(OSError):
                system.umount(run / "t", flag)
        with contextlib.suppress(OSError):
            file.unlink()


@contextlib.contextmanager
def local_volume(folder: Path, size: int, *, quota: bool = False) -> Iterator[Path]:
    """A volume that replicates to nobody."""
    with volume_file(folder, size) as (file, _), looped(file, folder / "mnt", quota=quota) as path:
        yield path


@contextlib.contextmanager
def tiny(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs that is full soon: ENOSPC, as of a disk."""
    folder.mkdir(parents=True, exist_ok=True)
    system.mount("sktest", folder, "tmpfs", 0, f"size={size}")
    try:
        yield folder
    finally:
        unmount(folder)


class PowerDisk:
    """A disk with ext4, that loses what was not flushed when its power is cut; and that fails when it is told to.

    ``path`` is its mount point. Cut the power after all processes that use it have been killed, or beside them: they
    get EIO then.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.path = folder / "mnt"
        self._stack = contextlib.ExitStack()
        self._loop: contextlib.ExitStack | None = None

    def __enter__(self) -> PowerDisk:
        node = self.folder / "fuse"
        node.mkdir(parents=True)
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, fd)
            options = f"fd={fd},rootmode=40700,user_id={os.getuid()},group_id={os.getgid()}"
            system.mount("skpower", node, "fuse.skpower", system.MS_NOSUID | system.MS_NODEV, options)
            stack.callback(self._quiet_umount, node)
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "powerdisk.py"), str(fd), str(self.size)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[fd],
            )  # fmt: skip
            stack.callback(self._end)
            assert self._process.stdout is not None
            json.loads(self._process.stdout.readline())
            stack.callback(self._detach)
            self._attach(make=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _quiet_umount(node: Path) -> None:
        with contextlib.suppress(OSError):
            system.umount(node, system.MNT_DETACH)

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()  # an aborted connection fails what the kernel still asks, instead of hanging
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _attach(self, *, make: bool) -> None:
        self._loop = contextlib.ExitStack()
        self._loop.enter_context(looped(self.folder / "fuse" / "disk", self.path, make=make))

    def _detach(self) -> None:
        if self._loop is not None:
            found, self._loop = self._loop, None
            found.close()

    def tell(self, what: str, **more: Any) -> dict[str, Any]:
        """A command of ``powerdisk``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer
        return dict(answer)

    def cut(self, *, share: float = 0.0, seed: int = 0) -> int:
        """Power is lost; the disk can be used again after :meth:`boot`.

        :param share: of what was not flushed, so much had been written nevertheless, by chance.
        :returns: the sectors that are lost.
        """
        lost: int = self.tell("lose", share=share, seed=seed)["lost"]
        self._detach()
        return lost

    def boot(self) -> None:
        """Power comes back: the file system is mounted again, and replays its journal."""
        self.tell("on")
        self._attach(make=False)

    def fail(self, *kinds: str, error: int = errno.EIO) -> None:
        """Requests of these kinds (``read``, ``write``, ``flush``, ``discard``, ``zero``) fail; without a kind none."""
        self.tell("fail", kinds=kinds, errno=error)
