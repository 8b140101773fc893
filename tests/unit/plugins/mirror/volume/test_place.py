"""A directory becomes a volume and an ordinary one again, with all that it holds, and after a crash at any point."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safekit_py.plugins.mirror.model import Replicated
from safekit_py.plugins.mirror.volume import adopt, image, system
from safekit_py.plugins.mirror.volume.adopt import content, size_of
from safekit_py.plugins.mirror.volume.place import Place

from safekit_py.errors import SafekitError

SIZE = 64 << 20
CAP_SYS_RESOURCE = 24


def a_place(tmp_path, **how):
    made = Replicated(**{"dir": str(tmp_path / "data"), "name": "data", "size": SIZE, **how})
    return Place(made, tmp_path / "volumes", tmp_path / "run/fill", "_Kept")


def fill(folder):
    """One of each kind."""
    folder.mkdir(exist_ok=True)
    (folder / "a file with spaces\nand a line").write_bytes(b"x" * 100000)
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/one").write_text("one")
    os.link(folder / "deep/er/one", folder / "two")
    (folder / "link").symlink_to("/nowhere")
    with (folder / "sparse").open("wb") as stream:
        stream.seek(10 << 20)
        stream.write(b"end")
    os.setxattr(folder / "two", "user.colour", b"blue")
    os.chown(folder / "deep", 1234, 5678)
    (folder / "deep").chmod(0o1770)
    os.utime(folder / "two", ns=(1, 10**18))
    folder.chmod(0o711)


def seen(folder):
    """What can be seen of a directory, by name."""
    found = {}
    for each in sorted([folder, *folder.rglob("*")]):
        about = each.lstat()
        times = about.st_mtime_ns if each.is_file() else 0
        data = each.readlink() if each.is_symlink() else each.read_bytes() if each.is_file() else ""
        links = about.st_nlink if each.is_file() else 0
        colour = os.listxattr(each, follow_symlinks=False)
        found[str(each.relative_to(folder))] = (about.st_mode, about.st_uid, about.st_gid, times, links, data, colour)
    return found


def mount_image(place):
    """On the image itself, without FUSE: the same but for the way."""
    place.mount(place.image)


def clean(place):
    place.umount(force=True)


@pytest.fixture
def place(private, tmp_path):
    made = a_place(tmp_path)
    yield made
    clean(made)


def test_content_counts_what_a_copy_needs(tmp_path):
    fill(tmp_path / "data")
    has = content(tmp_path / "data")
    assert has.entries == 7
    assert 100000 < has.size < 200000  # neither the hole nor the second name


def test_a_size_is_configured_or_that_of_the_disk(tmp_path):
    (tmp_path / "data").mkdir()
    assert size_of(a_place(tmp_path)) == SIZE
    assert size_of(a_place(tmp_path, size=1)) == 16 << 20
    about = os.statvfs(tmp_path)
    assert 0 <= size_of(a_place(tmp_path, size=0)) - about.f_blocks * about.f_frsize < 4 << 20


def test_what_does_not_fit_is_refused_and_nothing_changes(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/large").write_bytes(os.urandom(20 << 20))
    made = a_place(tmp_path, size=16 << 20)
    with pytest.raises(SafekitError) as caught:
        adopt.adopt(made)
    assert caught.value.code == "rfs.too-small"
    assert not list((tmp_path / "volumes").iterdir())
    with pytest.raises(SafekitError) as caught:
        adopt.check_room(made, adopt.Content(1 << 50, 1), 1 << 51)
    assert caught.value.code == "rfs.no-room"
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(SafekitError) as caught:
        adopt.adopt(made)
    assert caught.value.code == "rfs.directory-missing"


def test_an_unreadable_record_keeps_everything(tmp_path):
    made = a_place(tmp_path)
    made.folder.mkdir()
    (made.folder / "data.place").write_text("{")
    fill(tmp_path / "data")
    made.settled()
    made.cover()
    assert len(seen(tmp_path / "data")) == 8


@pytest.mark.parametrize("stop_before", ["note", "rename", "second note", "mkdir"])
def test_a_crash_while_the_original_is_put_aside_is_finished(tmp_path, monkeypatch, stop_before):
    made = a_place(tmp_path)
    made.folder.mkdir()
    fill(tmp_path / "data")
    before = seen(tmp_path / "data")
    notes = []

    def crash(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stop_before in ("note", "second note"):
            real = Place.note

            def note(self, values):
                notes.append(values)
                if len(notes) == (1 if stop_before == "note" else 2):
                    crash()
                real(self, values)

            patch.setattr(Place, "note", note)
        else:
            patch.setattr(type(tmp_path), stop_before, crash)
        with pytest.raises(KeyboardInterrupt):
            made.cover()
    made.recover()
    made.cover()
    assert seen(tmp_path / "data_Kept") == before
    assert not list((tmp_path / "data").iterdir())
    about = (tmp_path / "data").stat()
    assert about.st_mode & 0o7777 == 0o711
    made.settled()
    assert not (tmp_path / "data_Kept").exists()
    made.settled()
    made.cover()


def test_an_original_in_the_way_is_told(tmp_path):
    made = a_place(tmp_path)
    made.folder.mkdir()
    fill(tmp_path / "data")
    (tmp_path / "data_Kept").mkdir()
    with pytest.raises(SafekitError) as caught:
        made.cover()
    assert caught.value.code == "rfs.original-in-the-way"
    assert made.record() is None


def test_mountinfo_is_read_with_its_spaces():
    line = r"64 43 7:3 /sub /a\040b rw,relatime shared:1 - ext4 /dev/loop3 rw" + "\nnonsense\n"
    assert list(system.read_mounts(line)) == [
        system.Mount(os.makedev(7, 3), "/sub", system.Path("/a b"), "ext4", "/dev/loop3")
    ]


@pytest.mark.lab
def test_a_directory_becomes_a_volume_and_comes_back(place, tmp_path):
    fill(tmp_path / "data")
    before = seen(tmp_path / "data")
    adopt.adopt(place)
    assert seen(tmp_path / "data") == before
    assert not list((tmp_path / "run").glob("fill"))
    mount_image(place)
    assert os.path.ismount(tmp_path / "data")
    assert seen(tmp_path / "data") == before
    assert (tmp_path / "data/sparse").stat().st_blocks < 100
    assert seen(tmp_path / "data_Kept") == before
    with pytest.raises(SafekitError) as caught:
        adopt.export(place)
    assert caught.value.code == "rfs.in-use"
    (tmp_path / "data/new").write_text("new")
    now = seen(tmp_path / "data")
    place.settled()
    assert place.umount(force=False)
    assert place.loops() == []
    assert not list((tmp_path / "data").iterdir())
    away = adopt.export(place)
    assert seen(tmp_path / "data") == now
    assert away.exists()
    assert place.record() is None
    assert not place.image.exists()


@pytest.mark.lab
def test_what_is_not_replicated_stays_local(private, tmp_path):
    fill(tmp_path / "data")
    place = a_place(tmp_path, notreplicated=("deep", "cache/of it"), tocheck=("two",))
    before = seen(tmp_path / "data")
    adopt.adopt(place)
    try:
        mount_image(place)
        after = seen(tmp_path / "data")
        assert after["deep/er"] == before["deep/er"]
        assert after["deep/er/one"][5] == b"one"
        (tmp_path / "data/cache/of it/x").write_text("local")
        assert (tmp_path / "volumes/local/data/cache/of it/x").read_text() == "local"
        assert place.umount(force=False)
        assert [each.target for each in system.mounts() if str(tmp_path) in str(each.target)] == []
        missing = a_place(tmp_path, tocheck=("not there",))
        with pytest.raises(SafekitError) as caught:
            mount_image(missing)
        assert caught.value.code == "rfs.not-there"
        assert missing.mounted() == []
    finally:
        clean(place)


@pytest.mark.lab
def test_a_mount_point_keeps_its_content_below(place, tmp_path):
    (tmp_path / "data").mkdir()
    system.mount("none", tmp_path / "data", "tmpfs")
    (tmp_path / "data/x").write_text("below")
    adopt.adopt(place)
    mount_image(place)
    assert (tmp_path / "data/x").read_text() == "below"
    (tmp_path / "data/x").write_text("above")
    place.settled()
    assert place.umount(force=False)
    assert (tmp_path / "data/x").read_text() == "below"


@pytest.mark.lab
def test_two_volumes_do_not_touch_each_other(place, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "more").mkdir()
    other = Place(Replicated(str(tmp_path / "more"), "more", SIZE), place.folder, place.staging, "_Kept")
    try:
        for each in (place, other):
            adopt.adopt(each)
            mount_image(each)
        assert place.umount(force=False)
        assert os.path.ismount(tmp_path / "more")
        place.recover()
        assert os.path.ismount(tmp_path / "more")
        assert len(other.loops()) == 1
    finally:
        clean(other)


@pytest.mark.lab
def test_a_directory_in_use_is_given_up_all_the_same(place, tmp_path, monkeypatch):
    monkeypatch.setattr("safekit_py.plugins.mirror.volume.place.PATIENCE", 0.3)
    (tmp_path / "data").mkdir()
    adopt.adopt(place)
    mount_image(place)
    held = (tmp_path / "data/held").open("wb")
    held.write(b"x")
    held.flush()
    assert place.umount(force=False) is False
    assert not os.path.ismount(tmp_path / "data")
    held.close()
    mount_image(place)
    assert (tmp_path / "data/held").read_bytes() == b"x"


@pytest.mark.lab
def test_it_grows_while_it_is_used(place, tmp_path):
    (tmp_path / "data").mkdir()
    adopt.adopt(place)
    mount_image(place)
    before = os.statvfs(tmp_path / "data").f_blocks
    opened = image.ImageFile(place.image)
    opened.resize(2 * SIZE)
    opened.close()
    capable = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16) >> CAP_SYS_RESOURCE & 1
    if not capable:  # the kernel asks for it when ext4 is to grow
        with pytest.raises(SafekitError) as caught:
            place.grow(place.image)
        assert caught.value.code == "rfs.program-failed"
        made = place.loops()[0]
        assert int(Path(f"/sys/block/loop{made.number}/size").read_text()) * 512 == 2 * SIZE
        pytest.skip("ext4 can only grow here with CAP_SYS_RESOURCE; the device has grown")
    place.grow(place.image)
    assert os.statvfs(tmp_path / "data").f_blocks > before * 1.7


@pytest.mark.lab
@pytest.mark.parametrize("after", [0.02, 0.1, 0.3])
def test_a_copy_that_was_cut_short_is_begun_anew(place, tmp_path, after):
    fill(tmp_path / "data")
    (tmp_path / "data/large").write_bytes(os.urandom(8 << 20))
    before = seen(tmp_path / "data")
    code = (
        "import json, sys; sys.path[:0] = json.loads(sys.argv[2])\n"
        "from pathlib import Path; from test_place import a_place, adopt\n"
        "print('begun', flush=True); adopt.adopt(a_place(Path(sys.argv[1])))\n"
    )
    paths = json.dumps([str(Path(__file__).parent), *sys.path])
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), paths], stdout=-1, start_new_session=True)
    child.stdout.readline()
    try:
        child.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    place.recover()
    deadline = time.monotonic() + 10
    while place.loops():  # the last program on the device has just been killed
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not place.image.with_suffix(".img.new").exists()
    assert seen(tmp_path / "data") == before
    adopt.adopt(place)
    mount_image(place)
    assert seen(tmp_path / "data") == before
