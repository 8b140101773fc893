"""A mount namespace for a test: what it mounts is seen by nobody else, and is gone when it ends."""

import ctypes
import os
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
        assert libc.setns(before, NEW_NS) == 0, os.strerror(ctypes.get_errno())
        os.close(before)
        os.chdir(home)
