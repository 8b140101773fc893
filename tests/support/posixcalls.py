"""Calls that Python's os module lacks, and how a call's outcome is noted so that two file systems can be compared."""

import ctypes
import errno
import fcntl
import os
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
F_OFD_GETLK, F_OFD_SETLK = 36, 37
FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid


def result(value):
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


def outcome(function, *args, **named):
    """What a call did: ``ok``, or the name of its errno."""
    try:
        function(*args, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"


def opened(*args, **named):
    """Open and close."""
    os.close(os.open(*args, **named))


def sync(folder):
    """All of this folder's file system, and no other, is on its disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        result(LIBC.syncfs(fd))
    finally:
        os.close(fd)


def renameat2(old, new, flags):
    result(LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def linkat_open(fd, new):
    """Give a file without a name (O_TMPFILE) one."""
    result(LIBC.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(new), AT_SYMLINK_FOLLOW))


def fallocate(fd, mode, offset, size):
    result(LIBC.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)))


def flock_ofd(fd, command, kind, start, length):
    """An open-file-description lock; returns the type that the kernel answers."""
    return FLOCK.unpack(fcntl.fcntl(fd, command, FLOCK.pack(kind, os.SEEK_SET, start, length, 0)))[0]


def quotactl(command, kind, device, number, data=None):
    result(LIBC.quotactl((command << 8) | kind, os.fsencode(device), number, data))


def acl(*entries):
    """The bytes of a POSIX ACL: (tag, permissions, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def in_child(function):
    """Run in a child process; returns what it returns, a short string."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(function())
        except BaseException as error:
            text = f"raised {error!r}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return text


def as_nobody(function):
    """The same without root's rights."""

    def inside():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return function()

    return in_child(inside)
