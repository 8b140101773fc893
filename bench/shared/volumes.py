"""File systems to measure: an image on a plain loop device, and volumes with their real keeper and worker.

Everything is mounted in a mount namespace of this process, so nothing is left when it ends; processes are ended by
their keeper, or by it.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from safekit_py.plugins.mirror.volume import image, loop, system
from safekit_py.plugins.mirror.volume.adopt import make

WORKER = "safekit_py.plugins.mirror.volume.process"
KEEPER = "safekit_py.plugins.mirror.volume.keeper"
NEW_NS, NEW_NET, MS_REC = 0x20000, 0x40000000, 0x4000
DAY = 86400 * 10**9
TICKS = os.sysconf("SC_CLK_TCK")


def own_namespace() -> None:
    """What is mounted from here on, and every address and port, nobody else sees; they go with this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NS | NEW_NET) != 0:
        raise SystemExit("this bench mounts file systems: run it as root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    system.mount("none", Path("/"), "", MS_REC | system.MS_PRIVATE)


def mounted(device: Path, target: Path) -> None:
    make(device, "ext4", 0)
    target.mkdir(exist_ok=True)
    system.mount(str(device), target, "ext4")


class Plain:
    """The image on a loop device, as ``losetup`` makes it."""

    def __init__(self, folder: Path, size: int, *, direct: bool) -> None:
        folder.mkdir()
        path, self.target = folder / "v.img", folder / "data"
        image.create(path, size)
        if direct:
            made, self._fd = loop.attach(path)
            device = made.device
        else:
            done = subprocess.run(["losetup", "--show", "-f", path], capture_output=True, text=True, check=True)
            device = Path(done.stdout.strip())
            self._fd = os.open(device, os.O_RDONLY)
        mounted(device, self.target)
        loop.detach(device)  # when it is unmounted, however this process ends

    def cpu(self) -> float:
        """Seconds of processor time of the processes behind it."""
        return 0.0

    def close(self) -> None:
        with suppress(OSError):
            system.umount(self.target)
        os.close(self._fd)


class Worker:
    """A keeper with its worker; one volume ``v``."""

    def __init__(self, folder: Path, size: int, options: dict[str, Any], name: str = "bench") -> None:
        folder.mkdir()
        run = folder / "run"
        plan = {"module": name, "folder": str(folder), "run": str(run), "worker": WORKER, "volumes": [["v", size]],
                "options": options}  # fmt: skip
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", KEEPER], stdin=-1, stdout=-1, stderr=log, start_new_session=True
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(plan).encode())
        self.process.stdin.close()
        if not self.process.stdout.readline():
            raise SystemExit((folder / "log").read_text())
        self._keeper, self._worker = (self._connect(run / f"{name}{suffix}") for suffix in (".keeper", ".sock"))
        self.pid = int(self.tell_keeper("status")["worker"])

    @staticmethod
    def _connect(path: Path) -> Any:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(30)
        made.connect(str(path))
        return made.makefile("rwb")

    @staticmethod
    def _ask(stream: Any, words: dict[str, Any]) -> dict[str, Any]:
        stream.write(json.dumps(words).encode() + b"\n")
        stream.flush()
        while "event" in (found := json.loads(stream.readline())):
            pass
        if "error" in found:
            raise SystemExit(f"{words}: {found}")
        return dict(found)

    def tell_keeper(self, verb: str) -> dict[str, Any]:
        return self._ask(self._keeper, {"do": verb})

    def order(self, verb: str, **values: Any) -> dict[str, Any]:
        return dict(self._ask(self._worker, {"id": 1, "do": verb, **values})["ok"])

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self.tell_keeper("stop")
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Volume:
    """A volume on its primary, with a secondary on this machine or without."""

    def __init__(self, folder: Path, size: int, *, peer: bool, sync: str = "none") -> None:
        folder.mkdir()
        self.target = folder / "data"
        key = folder / "key"
        key.write_text("00" * 32)
        # Below those that the kernel gives to connections; without a peer, where nobody listens.
        port = 10_000 + 2 * (os.getpid() % 10_000) if peer else 1
        ends = [["127.0.0.1", port], ["127.0.0.1", port + 1]]
        until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + DAY
        self._workers: list[Worker] = []
        self._parted = 0
        for number in range(2 if peer else 1):
            me, other = f"server{number + 1}", f"server{2 - number}"
            options = {"key": str(key), "me": me, "peer": other, "address": ends[number],
                       "peer_address": ends[1 - number], "timeout": 10.0, "sync": sync}  # fmt: skip
            self._workers.append(Worker(folder / me, size, options))
        self.primary, self._fd = self._workers[0], -1
        try:
            image.create(folder / "server1" / "v.img", size)
            self.primary.order("serve", new="bench", until=until)
            if peer:
                self._workers[1].order("receive")
                self._until_synced()
            self.primary.tell_keeper("mount")
            made, self._fd = loop.attach(folder / "server1/run/bench/v")
            mounted(made.device, self.target)
        except BaseException:
            self.close()
            raise

    def part(self) -> None:
        """The secondary goes; the primary goes on without it."""
        self._workers[1].order("release")
        while self.primary.order("status").get("mode") == "synced":
            time.sleep(0.05)
        self._parted += 1
        self.primary.order("alone", new=f"bench{self._parted}")

    def join(self) -> None:
        """The secondary comes back; returns when both are the same."""
        self._workers[1].order("receive")
        self._until_synced()

    def _until_synced(self) -> None:
        end = time.monotonic() + 600
        while self.primary.order("status").get("mode") != "synced":
            if time.monotonic() > end:
                raise SystemExit(f"not the same: {[each.order('status') for each in self._workers]}")
            time.sleep(0.1)

    def cpu(self) -> float:
        return sum(each.cpu() for each in self._workers)

    @property
    def pids(self) -> list[int]:
        return [each.pid for each in self._workers]

    def resident(self) -> float:
        """MB of the larger of the processes."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids]
        return max(pages) * os.sysconf("SC_PAGESIZE") / 1e6

    def close(self) -> None:
        with suppress(OSError):
            system.umount(self.target)
        if self._fd >= 0:
            os.close(self._fd)
        time.sleep(0.2)  # the loop device goes
        for each in self._workers:
            each.close()
