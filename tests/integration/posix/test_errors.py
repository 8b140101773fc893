"""The error code of each call, as ext4 has it."""

import errno
import os
import socket
import stat

import pytest
from posixcalls import RENAME_EXCHANGE, RENAME_NOREPLACE, as_nobody, fallocate, opened, outcome, renameat2, sync

pytestmark = pytest.mark.lab


@pytest.fixture
def things(folder):
    """One of each kind of file."""
    (folder / "file").write_bytes(b"content")
    (folder / "full").mkdir()
    (folder / "full/inside").touch()
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("file")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    os.mkfifo("fifo")
    os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    return folder


LONG, LONGER, PATH = "n" * 255, "n" * 256, "/".join(["d" * 200] * 25)
R, W, NEW = os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_CREAT | os.O_EXCL
CALLS = [
    ("open missing", lambda: opened("missing", R), "ENOENT"),
    ("open below missing", lambda: opened("missing/x", NEW), "ENOENT"),
    ("open below file", lambda: opened("file/x", R), "ENOTDIR"),
    ("open file as folder", lambda: opened("file", R | os.O_DIRECTORY), "ENOTDIR"),
    ("open file/", lambda: opened("file/", R), "ENOTDIR"),
    ("open folder to write", lambda: opened("empty", W), "EISDIR"),
    ("open exclusively", lambda: opened("file", NEW), "EEXIST"),
    ("open dangling exclusively", lambda: opened("dangling", NEW), "EEXIST"),
    ("open link, not followed", lambda: opened("link", R | os.O_NOFOLLOW), "ELOOP"),
    ("open loop", lambda: opened("loop", R), "ELOOP"),
    ("open long name", lambda: opened(LONG, NEW), "ok"),
    ("open too long name", lambda: opened(LONGER, NEW), "ENAMETOOLONG"),
    ("open too long path", lambda: opened(PATH, R), "ENAMETOOLONG"),
    ("open fifo nobody reads", lambda: opened("fifo", W | os.O_NONBLOCK), "ENXIO"),
    ("open socket", lambda: opened("socket", R), "ENXIO"),
    ("open device, nodev not set", lambda: opened("device", W), "ok"),
    ("open empty name", lambda: opened("", R), "ENOENT"),
    ("mkdir there", lambda: os.mkdir("empty"), "EEXIST"),
    ("mkdir over link", lambda: os.mkdir("dangling"), "EEXIST"),
    ("mkdir below file", lambda: os.mkdir("file/x"), "ENOTDIR"),
    ("mkdir too long", lambda: os.mkdir(LONGER), "ENAMETOOLONG"),
    ("rmdir full", lambda: os.rmdir("full"), "ENOTEMPTY"),
    ("rmdir file", lambda: os.rmdir("file"), "ENOTDIR"),
    ("rmdir .", lambda: os.rmdir("."), "EINVAL"),
    ("rmdir ..", lambda: os.rmdir("empty/.."), "ENOTEMPTY"),
    ("rmdir missing", lambda: os.rmdir("missing"), "ENOENT"),
    ("rmdir", lambda: os.rmdir("empty"), "ok"),
    ("unlink folder", lambda: os.unlink("empty"), "EISDIR"),
    ("unlink missing", lambda: os.unlink("missing"), "ENOENT"),
    ("unlink file/", lambda: os.unlink("file/"), "ENOTDIR"),
    ("unlink link", lambda: os.unlink("link"), "ok"),
    ("link there", lambda: os.link("file", "link"), "EEXIST"),
    ("link folder", lambda: os.link("empty", "x"), "EPERM"),
    ("link missing", lambda: os.link("missing", "x"), "ENOENT"),
    ("link across", lambda: os.link("file", "/dev/shm/x"), "EXDEV"),
    ("link fifo", lambda: os.link("fifo", "fifo2"), "ok"),
    ("symlink there", lambda: os.symlink("a", "file"), "EEXIST"),
    ("symlink long", lambda: os.symlink("x" * 4095, "s"), "ok"),
    ("symlink too long", lambda: os.symlink("x" * 4096, "s"), "ENAMETOOLONG"),
    ("symlink to nothing", lambda: os.symlink("", "s"), "ENOENT"),
    ("readlink file", lambda: os.readlink("file"), "EINVAL"),
    ("rename missing", lambda: os.rename("missing", "x"), "ENOENT"),
    ("rename file over folder", lambda: os.rename("file", "empty"), "EISDIR"),
    ("rename folder over file", lambda: os.rename("empty", "file"), "ENOTDIR"),
    ("rename folder over full", lambda: os.rename("empty", "full"), "ENOTEMPTY"),
    ("rename folder over empty", lambda: os.rename("full", "empty"), "ok"),
    ("rename into itself", lambda: os.rename("full", "full/x"), "EINVAL"),
    ("rename onto itself", lambda: os.rename("file", "file"), "ok"),
    ("rename .", lambda: os.rename(".", "x"), "EBUSY"),
    ("rename too long", lambda: os.rename("file", LONGER), "ENAMETOOLONG"),
    ("rename across", lambda: os.rename("file", "/dev/shm/x"), "EXDEV"),
    ("rename, not replacing", lambda: renameat2("file", "link", RENAME_NOREPLACE), "EEXIST"),
    ("rename, not replacing, free", lambda: renameat2("file", "x", RENAME_NOREPLACE), "ok"),
    ("exchange", lambda: renameat2("file", "full", RENAME_EXCHANGE), "ok"),
    ("exchange with missing", lambda: renameat2("file", "missing", RENAME_EXCHANGE), "ENOENT"),
    ("truncate folder", lambda: os.truncate("empty", 0), "EISDIR"),
    ("truncate below zero", lambda: os.truncate("file", -1), "EINVAL"),
    ("truncate beyond ext4", lambda: os.truncate("file", 1 << 44), "EFBIG"),
    ("truncate to 15 TiB", lambda: os.truncate("file", 15 << 40), "ok"),
    ("truncate missing", lambda: os.truncate("missing", 0), "ENOENT"),
    ("stat below file", lambda: os.stat("file/x"), "ENOTDIR"),
    ("stat dangling", lambda: os.stat("dangling"), "ENOENT"),
    ("chmod missing", lambda: os.chmod("missing", 0o600), "ENOENT"),
    ("mknod there", lambda: os.mknod("fifo", stat.S_IFIFO), "EEXIST"),
    ("listdir file", lambda: os.listdir("file"), "ENOTDIR"),
    ("getxattr missing", lambda: os.getxattr("file", "user.none"), "ENODATA"),
    ("setxattr of a foreign space", lambda: os.setxattr("file", "strange.x", b""), "ENOTSUP"),
    ("setxattr too large", lambda: os.setxattr("file", "user.x", bytes(65537)), "E2BIG"),
    ("setxattr of user on a link", lambda: os.setxattr("link", "user.x", b"", follow_symlinks=False), "EPERM"),
    ("setxattr replace", lambda: os.setxattr("file", "user.x", b"", os.XATTR_REPLACE), "ENODATA"),
    ("removexattr missing", lambda: os.removexattr("file", "user.none"), "ENODATA"),
]


@pytest.mark.parametrize(("call", "expected"), [each[1:] for each in CALLS], ids=[each[0] for each in CALLS])
def test_by_path(things, note, call, expected, request):
    seen = outcome(call)
    note(seen)
    assert seen == expected


def seek_hole(fd):
    return os.lseek(fd, 100, os.SEEK_HOLE)


ON_FILE = [
    ("write read-only", R, lambda fd: os.write(fd, b"x"), "EBADF"),
    ("read write-only", W, lambda fd: os.read(fd, 1), "EBADF"),
    ("truncate read-only", R, lambda fd: os.ftruncate(fd, 0), "EINVAL"),
    ("seek before begin", R, lambda fd: os.lseek(fd, -1, os.SEEK_SET), "EINVAL"),
    ("seek for a hole behind the end", R, seek_hole, "ENXIO"),
    ("fallocate read-only", R, lambda fd: fallocate(fd, 0, 0, 10), "EBADF"),
    ("fallocate nothing", W, lambda fd: fallocate(fd, 0, 0, 0), "EINVAL"),
    ("fallocate below zero", W, lambda fd: fallocate(fd, 0, -1, 10), "EINVAL"),
    ("punch without keeping the size", W, lambda fd: fallocate(fd, 2, 0, 10), "ENOTSUP"),
    ("fallocate beyond ext4", W, lambda fd: fallocate(fd, 0, 1 << 44, 10), "EFBIG"),
    ("pwrite beyond ext4", W, lambda fd: os.pwrite(fd, b"x", 1 << 44), "EFBIG"),
    ("pwrite below zero", W, lambda fd: os.pwrite(fd, b"x", -1), "EINVAL"),
    ("fsync read-only", R, os.fsync, "ok"),
    ("readdir of a file", R, os.listdir, "ENOTDIR"),
    ("chdir to a file", R, os.fchdir, "ENOTDIR"),
]


@pytest.mark.parametrize(("flags", "call", "expected"), [e[1:] for e in ON_FILE], ids=[e[0] for e in ON_FILE])
def test_by_descriptor(things, note, flags, call, expected):
    fd = os.open("file", flags)
    try:
        seen = outcome(call, fd)
    finally:
        os.close(fd)
    note(seen)
    assert seen == expected


def test_closed_descriptor(folder):
    fd = os.open("file", NEW)
    os.close(fd)
    for call in (os.fsync, os.fstat, os.fdatasync):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call(fd)


def test_too_many_links(folder, note):
    os.mkdir("many")
    (folder / "file").touch()
    seen, why = 1, ""
    try:
        for number in range(70_000):
            os.link("file", f"many/{number}")
            seen += 1
    except OSError as error:
        why = errno.errorcode[error.errno]
    note(seen)
    assert why == "EMLINK"
    assert seen == 65_000 == os.stat("file").st_nlink


RIGHTS = [
    ("read another's", lambda: opened("private", R), "EACCES"),
    ("write another's", lambda: opened("shared", W), "EACCES"),
    ("read what all may", lambda: opened("shared", R), "ok"),
    ("create in another's", lambda: opened("new", NEW), "EACCES"),
    ("unlink in another's", lambda: os.unlink("shared"), "EACCES"),
    ("unlink another's in a sticky folder", lambda: os.unlink("sticky/theirs"), "EPERM"),
    ("create in a sticky folder", lambda: opened("sticky/mine", NEW), "ok"),
    ("chmod another's", lambda: os.chmod("shared", 0o666), "EPERM"),
    ("chown", lambda: os.chown("shared", 65534, -1), "EPERM"),
    ("search without x", lambda: os.stat("closed/file"), "EACCES"),
    ("list without r", lambda: os.listdir("unlisted"), "EACCES"),
    ("reach without r", lambda: os.stat("unlisted/file"), "ok"),
    ("utime of another's", lambda: os.utime("shared", (1, 1)), "EPERM"),
    ("mknod", lambda: os.mknod("sticky/device", 0o600 | stat.S_IFCHR, os.makedev(1, 3)), "EPERM"),
    ("trusted attribute", lambda: os.setxattr("sticky", "trusted.x", b"1"), "EPERM"),
]


def test_without_roots_rights(medium, folder, note):
    folder.chmod(0o755)
    for name, mode in (("private", 0o600), ("shared", 0o644)):
        (folder / name).touch()
        (folder / name).chmod(mode)
    for name, mode in (("sticky", 0o1777), ("closed", 0o666), ("unlisted", 0o711)):
        (folder / name).mkdir()
        (folder / name / "file").touch()
        (folder / name / "theirs").touch()
        (folder / name).chmod(mode)
    here = os.open(".", R)

    def inside():
        os.fchdir(here)
        return [f"{name}: {outcome(call)}" for name, call, _ in RIGHTS]

    seen = as_nobody(inside)
    os.close(here)
    note(seen)
    assert seen == str([f"{name}: {expected}" for name, _, expected in RIGHTS])


def allocated(name, size):
    fd = os.open(name, NEW)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


def test_a_full_file_system_says_so_and_goes_on(medium, folder, note):
    about = os.statvfs(folder)
    assert about.f_bavail * about.f_frsize < 256 << 20
    fd = os.open("filler", NEW)
    seen = []
    try:
        while True:
            os.write(fd, bytes(4 << 20))
    except OSError as error:
        seen.append(errno.errorcode[error.errno])
    finally:
        os.close(fd)
    seen.extend([outcome(allocated, "more", 16 << 20), outcome(os.unlink, "filler")])
    os.unlink("more")
    sync(folder)
    (folder / "again").write_bytes(b"x" * (8 << 20))
    note(seen)
    assert seen == ["ENOSPC", "ENOSPC", "ok"]
