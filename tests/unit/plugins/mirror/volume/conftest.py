"""A mount namespace for a test: what it mounts is seen by nobody else, and is gone when it ends."""

import ctypes
import os
import time
from pathlib import Path

import pytest
from safekit_py.plugins.mirror.volume import system

NEW_NS, MS_REC = 0x20000, 0x4000


@pytest.fixture
def private():
    libc = ctypes.CDLL(None, use_errno=True)
    home, before = Path.cwd(), os.open("/proc/self/ns/mnt", os.O_RDONLY)
    assert libc.unshare(NEW_NS) == 0, os.strerror(ctypes.get_errno())
    system.mount("none", "/", "", MS_REC | system.MS_PRIVATE)
    try:
        yield
    finally:
        end = time.monotonic() + 2
        while libc.setns(before, NEW_NS) != 0:  # a thread that has just ended may still be counted
            assert time.monotonic() < end, os.strerror(ctypes.get_errno())
            time.sleep(0.01)
        os.close(before)
        os.chdir(home)
