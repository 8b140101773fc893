"""Every test of this folder runs on plain ext4 and on a mounted volume, and what it notes must be the same on both.

The plain one is what a volume must equal: the same image with the same mkfs, on a loop device without our process.
"""

import contextlib
import uuid

import pytest
from disks import MIB, local_volume, plain_ext4

SIZE = 256 * MIB
MEDIA = {"ext4": plain_ext4, "volume": local_volume}


@pytest.fixture(scope="module", params=list(MEDIA))
def medium(request, tmp_path_factory):
    """Name, and the folder on which it is mounted."""
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(MEDIA[request.param](tmp_path_factory.mktemp(request.param), SIZE))
        yield request.param, path


@pytest.fixture
def folder(medium, request):
    """An empty folder on the medium, and gone into."""
    made = medium[1] / f"{request.node.originalname}-{uuid.uuid4().hex[:6]}"
    made.mkdir()
    with contextlib.chdir(made):
        yield made


@pytest.fixture(scope="module")
def noted():
    """What tests saw on the first medium."""
    return {}


@pytest.fixture
def note(noted, medium, request):
    """Note what was seen: on the second medium it must be what it was on the first."""

    def same(seen):
        key = request.node.name.replace(f"[{medium[0]}", "[", 1)
        before = noted.setdefault(key, seen)
        assert seen == before, f"on {medium[0]}: {seen}; on ext4: {before}"

    return same
