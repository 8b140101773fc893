"""A loaded filter, pinned in a BPF file system of this test run.

It is mounted in a mount namespace of the run's own: a run that is killed leaves neither mount nor pins.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from safekit_py.plugins.farm import compiler
from safekit_py.plugins.farm.loader import Filter

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000


@pytest.fixture(scope="session")
def bpffs(tmp_path_factory):
    if os.geteuid():
        pytest.skip("needs root")
    if ctypes.CDLL(None).unshare(CLONE_NEWNS):
        pytest.skip("needs mount namespaces")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    folder = tmp_path_factory.mktemp("bpffs")
    subprocess.run(["mount", "-t", "bpf", "bpf", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def filter_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def filter_object(filter_cache):
    return compiler.object_for(filter_cache)


@pytest.fixture
def farm_filter(bpffs, filter_object):
    loaded = Filter.load(filter_object, bpffs / "unit")
    yield loaded
    loaded.unpin()
    loaded.close()


@pytest.fixture
def three_groups(bpffs, filter_object):
    loaded = Filter.load(filter_object, bpffs / "unit", 3)
    yield loaded
    loaded.unpin()
    loaded.close()


@pytest.fixture
def new_network():
    """This thread in an empty network namespace of its own, and back."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(CLONE_NEWNET):
            pytest.skip("needs network namespaces")
        yield
        assert libc.setns(before.fileno(), CLONE_NEWNET) == 0
