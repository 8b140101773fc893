"""GlusterFS replica 2 on this machine: two bricks on one disk, on the address of a bridge of their own.

A brick refuses an address of the loopback device. The daemon runs only here, with its own folders of state and in this
process's namespaces, so a GlusterFS of this machine is not touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from safekit_py.plugins.mirror.volume import system

ADDRESS = "10.99.88.1"
STATE = (Path("/var/lib/glusterd"), Path("/var/log/glusterfs"), Path("/var/run/gluster"))
VOLUME = "bench"


def available() -> bool:
    return all(shutil.which(name) for name in ("glusterd", "gluster", "mount.glusterfs"))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=90)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stdout}{done.stderr}")


class Gluster:
    """Call it after ``volumes.own_namespace``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.target, self._pids = folder / "data", folder / "pids"
        self.target.mkdir()
        self._link = "bench"
        for path in STATE:
            inside = folder / path.name
            if path.is_dir():
                shutil.copytree(path, inside, ignore=shutil.ignore_patterns("*.log", "*.socket", "vols", "peers"))
            inside.mkdir(exist_ok=True)
            path.mkdir(parents=True, exist_ok=True)
            system.mount(str(inside), path, "none", system.MS_BIND)
        _run("ip", "link", "add", self._link, "type", "bridge")
        self._daemon: subprocess.Popen[bytes] | None = None
        try:
            _run("ip", "address", "add", f"{ADDRESS}/24", "dev", self._link)
            _run("ip", "link", "set", self._link, "up")
            with (folder / "log").open("wb") as log:
                self._daemon = subprocess.Popen(["glusterd", "-N"], stdout=log, stderr=log, start_new_session=True)
            self._wait()
            bricks = [f"{ADDRESS}:{folder}/brick{number}" for number in (1, 2)]
            _run("gluster", "--mode=script", "volume", "create", VOLUME, "replica", "2", *bricks, "force")
            _run("gluster", "--mode=script", "volume", "start", VOLUME)
            _run("mount", "-t", "glusterfs", f"{ADDRESS}:/{VOLUME}", str(self.target))
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _wait() -> None:
        end = time.monotonic() + 30
        while subprocess.run(["gluster", "volume", "info"], capture_output=True, check=False).returncode:
            if time.monotonic() > end:
                raise SystemExit("glusterd does not answer")
            time.sleep(0.2)

    def _own(self) -> list[int]:
        """The bricks, the client and what else was started in this mount namespace."""
        mine, found = Path("/proc/self/ns/mnt").stat().st_ino, []
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (each / "ns/mnt").stat().st_ino == mine and "gluster" in (each / "comm").read_text():
                    found.append(int(each.name))
        return found

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.target)], capture_output=True, check=False)
        for pid in self._own():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if self._daemon is not None:
            self._daemon.wait()
        subprocess.run(["ip", "link", "delete", self._link], capture_output=True, check=False)
        for path in STATE:
            with suppress(OSError):
                system.umount(path, system.MNT_DETACH)
