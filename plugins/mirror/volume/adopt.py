"""How a directory becomes a volume, and how a volume becomes a directory again. Both whole or not at all.

*adopt* makes the image beside its final name, fills it, and renames it when it is on the disk; the directory is not
touched. *export* copies the volume beside the directory and exchanges them when the copy is on the disk.
"""

from __future__ import annotations

import math
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import image, system
from .place import Place, problem, program
from .request import BLOCK

ROUND = 4 << 20  # bytes: sizes of volumes are multiples of it
LEAST = {"ext4": 16 << 20, "xfs": 320 << 20}  # bytes
SPARE = 64 << 20  # bytes that stay free on the disk of the images
MARGIN = 1.05  # what a file system needs beyond the blocks of its files
PER_INODE = 16384  # bytes of volume for one inode, as mkfs.ext4 has it


@dataclass(frozen=True, slots=True)
class Content:
    """What a directory holds, on its own file system.

    :param size: bytes, counted as a file system of 4 KiB blocks needs them.
    :param entries: files, directories and others.
    """

    size: int
    entries: int


def content(folder: Path) -> Content:
    """Look through a directory; hard links count once, holes not at all."""
    size, entries, seen = 0, 0, set()
    device = folder.stat().st_dev
    todo = [folder]
    while todo:
        with os.scandir(todo.pop()) as found:
            for entry in found:
                about = entry.stat(follow_symlinks=False)
                if about.st_dev != device:
                    continue
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
                    size += BLOCK
                elif about.st_nlink == 1 or about.st_ino not in seen:
                    if about.st_nlink > 1:
                        seen.add(about.st_ino)
                    size += min(math.ceil(about.st_size / BLOCK) * BLOCK, about.st_blocks * 512 + BLOCK)
    return Content(size, entries)


def size_of(place: Place) -> int:
    """The size that the volume is to have: what is configured, or what the directory's file system has."""
    size = place.volume.size
    if size == 0:
        about = os.statvfs(place.dir if place.dir.is_dir() else place.dir.parent)
        size = about.f_blocks * about.f_frsize
    return max(LEAST[place.volume.filesystem], math.ceil(size / ROUND) * ROUND)


def adopt(place: Place) -> None:
    """The first configuration, on the server that has the data: the volume gets the directory's content.

    :raises SafekitError: no directory, or no room; nothing was changed.
    """
    if place.image.exists():
        return
    if not place.dir.is_dir():
        raise problem("rfs.directory-missing", f"{place.dir} is no directory", f"create it: mkdir -p {place.dir}")
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    has, size = content(place.dir), size_of(place)
    check_room(place, has, size)
    new = place.image.with_suffix(".img.new")
    new.unlink(missing_ok=True)
    image.create(new, size)
    made, fd = place.attach(new)
    try:
        make(made.device, place.volume.filesystem, max(0, has.entries))
        with Staged(place, made.device) as inside:
            with suppress(OSError):
                (inside / "lost+found").rmdir()  # databases refuse a directory with it, and e2fsck can make it
            copy(place.dir, inside)
            for path in place.volume.notreplicated:
                _keep_local(place, inside, path)
    finally:
        os.close(fd)
        place.umount(force=True)
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
    new.rename(place.image)
    image.sync_folder(place.folder)


def check_room(place: Place, has: Content, size: int) -> None:
    """Whether the content fits into the volume, and a copy of it on the disk of the images."""
    needed = int(has.size * MARGIN) + max(has.entries * 256, size // 64)
    if needed > size:
        text = f"{place.dir} holds {has.size >> 20} MiB, too much for a volume of {size >> 20} MiB"
        raise problem("rfs.too-small", text, f'write size="{math.ceil(needed * 1.1 / (1 << 20))}M" or more')
    about = os.statvfs(place.folder)
    free = about.f_bavail * about.f_frsize
    if int(has.size * MARGIN) + SPARE > free:
        text = f"the copy of {place.dir} needs {has.size >> 20} MiB, and {place.folder} has {free >> 20} MiB free"
        raise problem("rfs.no-room", text, f"make room on the disk of {place.folder}")


def make(device: Path, filesystem: str, entries: int) -> None:
    """An empty file system on a device of zeros."""
    if filesystem == "xfs":
        program("mkfs.xfs", "-q", "-f", "-K", device)
        return
    with device.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
    inodes = max(size // PER_INODE, int(entries * 1.5) + 1024)
    extended = "lazy_itable_init=0,lazy_journal_init=0,nodiscard,assume_storage_prezeroed=1"
    program("mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-m", "1", "-N", str(inodes), "-E", extended, device)


def copy(source: Path, target: Path) -> None:
    """All of a directory, and its own owner and mode; other file systems below it are left out."""
    program("cp", "-a", "--sparse=always", "--reflink=auto", "-x", "-T", "--", source, target)
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        system.syncfs(fd)
    finally:
        os.close(fd)


def _keep_local(place: Place, inside: Path, path: str) -> None:
    """What is not replicated goes into the local folder and leaves an empty directory in the volume."""
    within, outside = inside / path, place.local / path
    if not within.is_dir() or within.is_symlink():
        return
    if not outside.exists():
        outside.parent.mkdir(parents=True, exist_ok=True)
        copy(within, outside)
    for each in within.iterdir():
        program("rm", "-rf", "--", each)


class Staged:
    """The volume mounted on its staging folder, for a while."""

    def __init__(self, place: Place, device: Path) -> None:
        self._place, self._device = place, device

    def __enter__(self) -> Path:
        self._place.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place.mount_device(self._device, self._place.staging)
        return self._place.staging

    def __exit__(self, *_: object) -> None:
        for _attempt in range(2):
            with suppress(OSError):
                system.umount(self._place.staging)
                break
        with suppress(OSError):
            self._place.staging.rmdir()


def export(place: Place) -> Path:
    """The way back, while the module is stopped: the directory gets the volume's content as plain files.

    What the directory held is kept beside it when it was not empty; the image is renamed, so that it is not taken for
    the data again.

    :returns: the renamed image, which can be removed.
    :raises SafekitError: there is no image, it is in use, or there is no room; nothing was changed.
    """
    if not place.image.exists():
        raise problem("rfs.no-image", f"there is no volume of {place.dir} on this server", "see safekit-py status")
    if place.mounted():
        raise problem("rfs.in-use", f"the volume of {place.dir} is mounted", "stop the module first")
    new = place.dir.with_name(place.dir.name + ".exported")
    made, fd = place.attach(place.image)
    try:
        with Staged(place, made.device) as inside:
            has, about = content(inside), os.statvfs(place.dir.parent)
            if int(has.size * MARGIN) + SPARE > about.f_bavail * about.f_frsize:
                text = f"the content needs {has.size >> 20} MiB, more than {place.dir.parent} has"
                raise problem("rfs.no-room", text, "make room there")
            shutil.rmtree(new, ignore_errors=True)
            copy(inside, new)
            for path in place.volume.notreplicated:
                if (place.local / path).is_dir():
                    copy(place.local / path, new / path)
    finally:
        os.close(fd)
        place.umount(force=True)
    if os.path.ismount(place.dir):
        copy(new, place.dir)
        shutil.rmtree(new)
    else:
        if place.dir.is_dir() and any(place.dir.iterdir()):
            place.dir.rename(place.dir.with_name(place.dir.name + place.suffix + ".below"))
        elif place.dir.exists():
            place.dir.rmdir()
        new.rename(place.dir)
        image.sync_folder(place.dir.parent)
    away = place.image.with_suffix(".img.exported")
    place.image.rename(away)
    place.forget()
    return away
