"""Where one volume stands on this server: its image, its loop device, and the directory that it is mounted over.

The directory keeps its path for the application. What it held before is kept beside it (its name and a suffix) until
the module has been ready once; a directory that is a mount point itself cannot be renamed, so there it stays below.

Every function may be called again after it failed or after a crash at any point, and then finishes what was begun.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekit_py.api import Problem, SafekitError

from ..model import Replicated
from . import loop, system
from .image import sync_folder

PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
PATIENCE = 3.0  # seconds that an unmount waits for processes that still use the directory
LOOP_MAJOR = 7
DAMAGED = (errno.EUCLEAN, errno.EINVAL, errno.EBADMSG)
LIMIT = 3600.0  # seconds that a program on a whole file system may take


def problem(code: str, text: str, remedy: str) -> SafekitError:
    """An error that a person can act on."""
    return SafekitError(Problem(code, text, remedy))


def program(*argv: str | Path) -> None:
    """Run a program of the system.

    :raises SafekitError: it is missing, or failed; with the last line that it wrote.
    """
    found = shutil.which(str(argv[0]), path=PATH)
    if found is None:
        raise problem("rfs.no-program", f"the program {argv[0]} is missing", "install its package")
    env = {"PATH": PATH, "LC_ALL": "C"}
    done = subprocess.run([found, *map(str, argv[1:])], capture_output=True, env=env, timeout=LIMIT, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        text = f"{argv[0]} failed with exit code {done.returncode}: {said[-1] if said else 'it said nothing'}"
        raise problem("rfs.program-failed", text, "see what it says, and start the module again")


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True)
class Place:
    """One volume's place.

    :param folder: of the module's images.
    :param staging: an own empty folder below /run, on which the volume is mounted while it is filled; beside it stands
        which loop devices are used.
    :param suffix: what the name of the original content gets.
    :param sync: every write is on both disks before it returns (``durability="write"``).
    """

    volume: Replicated
    folder: Path
    staging: Path
    suffix: str = "_For_SafeKit_Replication"
    sync: bool = False

    @property
    def dir(self) -> Path:
        """The application's directory."""
        return Path(self.volume.dir)

    @property
    def image(self) -> Path:
        """The image file."""
        return self.folder / f"{self.volume.name}.img"

    @property
    def local(self) -> Path:
        """What is below the directory but not replicated."""
        return self.folder / "local" / self.volume.name

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.volume.name}.place"

    def record(self) -> dict[str, Any] | None:
        """What is known of the directory's original content; None before the volume was mounted for the first time."""
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:  # a file system without order lost it: keep whatever there is
            return {"original": "", "settled": True}
        return found if isinstance(found, dict) else {"original": "", "settled": True}

    def has_content(self) -> bool:
        """Whether anything is in the directory."""
        try:
            return any(self.dir.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def note(self, values: dict[str, Any]) -> None:
        """Store the record durably."""
        new = self._record.with_suffix(".place.new")
        with new.open("w", encoding="utf-8") as stream:
            json.dump(values, stream)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._record)
        sync_folder(self.folder)

    def forget(self) -> None:
        """The directory is a plain one again."""
        self._record.unlink(missing_ok=True)
        sync_folder(self.folder)

    # --- loop devices ---------------------------------------------------------------------------

    @property
    def _loops_file(self) -> Path:
        return self.staging.with_name(f"{self.staging.name}.{self.volume.name}.loops")

    def loops(self) -> list[loop.Loop]:
        """The loop devices of this volume that are there."""
        try:
            boot, *lines = self._loops_file.read_text(encoding="ascii").splitlines()
            found = [loop.Loop(*map(int, line.split())) for line in lines]
        except (OSError, ValueError, TypeError):
            return []
        return [each for each in found if boot == _boot() and each.there]

    def attach(self, file: Path) -> tuple[loop.Loop, int]:
        """A loop device with this file behind it, noted so that :meth:`recover` finds it; see ``loop.attach``."""
        made, fd = loop.attach(file)
        try:
            self.staging.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = [_boot(), *(f"{each.number} {each.sequence}" for each in (*self.loops(), made))]
            new = self._loops_file.with_name(self._loops_file.name + ".new")
            new.write_text("\n".join(lines), encoding="ascii")
            new.replace(self._loops_file)
        except BaseException:
            os.close(fd)
            raise
        return made, fd

    # --- the directory --------------------------------------------------------------------------

    def cover(self) -> None:
        """The directory is there to be mounted over; the content that it had is kept.

        :raises SafekitError: the kept content of an earlier time stands in the way.
        """
        record = self.record()
        if record is None:
            filled = self.dir.is_dir() and not os.path.ismount(self.dir) and any(self.dir.iterdir())
            original = self.dir.with_name(self.dir.name + self.suffix) if filled else None
            if original is not None and original.exists():
                text = f"{original} is there, so the content of {self.dir} cannot be kept under this name"
                raise problem("rfs.original-in-the-way", text, f"rename or remove {original}")
            about = self.dir.stat() if self.dir.is_dir() else None
            owner = [about.st_mode & 0o7777, about.st_uid, about.st_gid] if about is not None else [0o755, 0, 0]
            record = {"original": str(original or ""), "settled": False, "owner": owner, "kept": original is None}
            self.note(record)
        if not record.get("kept", True):
            original = Path(record["original"])
            if not original.exists():
                self.dir.rename(original)
                sync_folder(self.dir.parent)
            self.note({**record, "kept": True})
        if not self.dir.exists():
            mode, uid, gid = record.get("owner", [0o755, 0, 0])
            self.dir.mkdir(parents=True)
            os.chown(self.dir, uid, gid)
            self.dir.chmod(mode)

    def settled(self) -> None:
        """The module has been ready: the original content is not needed any more."""
        record = self.record()
        if record is None or record["settled"]:
            return
        if record["original"] and record.get("kept"):
            program("rm", "-rf", "--one-file-system", "--", record["original"])
        self.note({**record, "original": "", "settled": True})

    # --- mounting -------------------------------------------------------------------------------

    def mount(self, file: Path) -> None:
        """Mount the volume over the directory; the file system replays its journal.

        :param file: what is behind the loop device: the file that FUSE shows.
        :raises SafekitError: the file system is damaged, or a path that must be there is not.
        """
        self.cover()
        made, fd = self.attach(file)
        try:
            self.mount_device(made.device, self.dir)
        finally:
            os.close(fd)
        try:
            for path in self.volume.notreplicated:
                self._bind(path)
            missing = [path for path in self.volume.tocheck if not (self.dir / path).exists()]
            if missing:
                text = f"{self.dir} lacks {', '.join(missing)}, which <tocheck> names"
                raise problem("rfs.not-there", text, "restore it, or correct <tocheck>")
        except BaseException:
            self.umount(force=False)
            raise

    def mount_device(self, device: Path, target: Path) -> None:
        """Mount; a file system that refuses is repaired once, as far as that needs no decision."""
        flags = system.MS_SYNCHRONOUS if self.sync else 0
        kind = self.volume.filesystem
        options = "errors=remount-ro" if kind == "ext4" else "nouuid"
        try:
            system.mount(str(device), target, kind, flags, options)
        except OSError as error:
            if error.errno not in DAMAGED or kind != "ext4":
                raise problem("rfs.not-mountable", f"{self.dir}: {error}", "see the kernel's log: dmesg") from error
            program("sh", "-c", 'e2fsck -p "$1"; [ $? -le 1 ]', "sh", device)
            system.mount(str(device), target, kind, flags, options)

    def _bind(self, path: str) -> None:
        inside, outside = self.dir / path, self.local / path
        if inside.resolve() != self.dir.resolve() / path:
            text = f"{inside} is behind a link"
            raise problem("rfs.link", text, "name a path without links in <notreplicated>")
        if inside.exists() and not inside.is_dir():
            # A file that another is mounted over can be neither replaced nor removed, which is how most are written.
            text = f"{inside} is a file; <notreplicated> takes directories"
            raise problem("rfs.not-a-directory", text, "name the directory that it is in")
        inside.mkdir(parents=True, exist_ok=True)
        if not outside.exists():
            outside.mkdir(parents=True)
            shutil.copystat(inside, outside)
            about = inside.stat()
            os.chown(outside, about.st_uid, about.st_gid)
        system.mount(str(outside), inside, "none", system.MS_BIND)

    def mounted(self) -> list[system.Mount]:
        """The mounts of this volume, the newest first."""
        numbers = {os.makedev(LOOP_MAJOR, each.number) for each in self.loops()}
        return [each for each in reversed(system.mounts()) if each.device in numbers]

    def umount(self, *, force: bool) -> bool:
        """Take the mounts away.

        :param force: at once; what was written and not flushed may be lost, as after a power cut.
        :returns: False when processes still had files open: these get errors once the volume's process ends.
        """
        clean = True
        for found in self.mounted():
            for each in reversed(system.mounts()):
                if each.target != found.target and each.target.is_relative_to(found.target):
                    with suppress(OSError):
                        system.umount(each.target, system.MNT_DETACH)
            clean = self._umount(found.target, 0.0 if force else PATIENCE) and clean
        for used in self.loops():
            loop.detach(used.device)
        return clean

    @staticmethod
    def _umount(target: Path, patience: float) -> bool:
        until = time.monotonic() + patience
        while patience:
            try:
                system.umount(target)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    return error.errno == errno.EINVAL  # it is not mounted any more
            else:
                return True
            if time.monotonic() >= until:
                with suppress(OSError):
                    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
                    try:
                        system.syncfs(fd)
                    finally:
                        os.close(fd)
                break
            time.sleep(0.05)
        with suppress(OSError):
            system.umount(target, system.MNT_DETACH)
        return False

    # --- at work --------------------------------------------------------------------------------

    def grow(self, file: Path) -> None:
        """The image has grown: so do the loop device and the file system, while they are used."""
        file.stat()  # the kernel asks FUSE for the new size
        for each in self.loops():
            loop.grown(each.device)
            if self.volume.filesystem == "ext4":
                program("resize2fs", each.device)
            else:
                program("xfs_growfs", self.dir)

    def recover(self) -> None:
        """After a crash: no mount, no loop device, no half-made image, and the directory is there."""
        if not self.folder.exists():
            return
        self.umount(force=True)
        for each in (self.image.with_suffix(".img.new"), self._record.with_suffix(".place.new")):
            each.unlink(missing_ok=True)
        if self.record() is not None:
            self.cover()
