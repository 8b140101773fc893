"""Names, links, folders, renames, and files that have no name any more."""

import os
import threading

import pytest
from posixcalls import RENAME_EXCHANGE, linkat_open, opened, outcome, renameat2, sync

pytestmark = pytest.mark.lab

NAMES = [
    " ", "a b", "line\nbreak", "tab\t", "back\\slash", "quote'\"", "*?[x]", "-rf", "..x", "…", "日本語", "e\u0301", "é",
    "A", "a", "\x01", "%s", "$HOME", "n" * 255, ".hidden", "~",
]  # fmt: skip


def test_any_name(folder, note):
    raw = [os.fsencode(name) for name in NAMES] + [b"\xff\xfe not utf-8"]
    for number, name in enumerate(raw):
        with open(name, "xb") as stream:
            stream.write(str(number).encode())
    assert sorted(os.listdir(b".")) == sorted(raw)
    for number, name in enumerate(raw):
        with open(name, "rb") as stream:
            assert stream.read() == str(number).encode()
    note(sorted(os.listdir(b".")))


def test_paths_with_spaces_and_newlines(folder):
    deep = folder.joinpath(*["a b\nc"] * 40)
    deep.mkdir(parents=True)
    (deep / "file\n").write_text("here")
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found == [deep / "file\n"]
    assert found[0].read_text() == "here"


def test_a_folder_of_many(folder, note):
    names = {f"{number:05d}-{'x' * (number % 40)}" for number in range(8000)}
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert set(os.listdir()) == names
    for name in sorted(names)[::2]:
        os.unlink(name)
    left = set(os.listdir())
    assert left == set(sorted(names)[1::2])
    note(len(left))


def test_listing_while_it_changes_shows_what_stayed(folder):
    stays = {f"stay{n}" for n in range(1000)}
    for name in stays:
        (folder / name).touch()
    seen = set()
    with os.scandir(".") as listing:
        for number, entry in enumerate(listing):
            seen.add(entry.name)
            os.close(os.open(f"new{number}", os.O_CREAT | os.O_WRONLY))
            if number > 3000:
                break
    assert stays <= seen | set(os.listdir())
    assert len([name for name in seen if name in stays]) == 1000 or len(seen) > 3000


def test_hard_links_are_one_file(folder, note):
    (folder / "a").write_text("one")
    os.link("a", "b")
    (folder / "b").write_text("two")
    one, two = os.stat("a"), os.stat("b")
    assert (one.st_ino, one.st_nlink) == (two.st_ino, 2)
    os.unlink("a")
    assert (folder / "b").read_text() == "two"
    note([os.stat("b").st_nlink, os.listdir()])


def test_links_are_followed_and_not(folder, note):
    os.mkdir("d")
    (folder / "d/file").write_text("x")
    os.symlink("d", "to-d")
    os.symlink("../d/file", "d/up")
    assert (folder / "to-d/file").read_text() == "x"
    assert (folder / "d/up").resolve() == (folder / "d/file").resolve()
    note([os.readlink("to-d"), os.lstat("to-d").st_size, outcome(os.rmdir, "to-d"), outcome(os.unlink, "to-d")])


def test_40_links_in_a_row_are_too_many_at_41(folder, note):
    (folder / "l0").write_text("end")
    for number in range(1, 42):
        os.symlink(f"l{number - 1}", f"l{number}")
    seen = [outcome(os.stat, "l40"), outcome(os.stat, "l41")]
    note(seen)
    assert seen == ["ok", "ELOOP"]


def test_rename_replaces_at_once(folder):
    """A reader sees the old file or the new one, never none."""
    (folder / "target").write_text("0")
    stop, bad = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                (folder / "target").read_text()
            except OSError as error:
                bad.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1500):
        (folder / "new").write_text(str(number))
        os.rename("new", "target")
    stop.set()
    reader.join()
    assert not bad
    assert (folder / "target").read_text() == "1499"


def test_exchange(folder, note):
    (folder / "a").write_text("a")
    os.mkdir("b")
    renameat2("a", "b", RENAME_EXCHANGE)
    assert (folder / "b").read_text() == "a"
    note([os.path.isdir("a"), os.path.isfile("b")])


def test_rename_between_links_of_one_file_does_nothing(folder, note):
    (folder / "a").write_text("x")
    os.link("a", "b")
    os.rename("a", "b")
    note(sorted(os.listdir()))
    assert sorted(os.listdir()) == ["a", "b"]


def test_link_counts_of_folders(folder, note):
    os.mkdir("top")
    for name in ("one", "two", "three"):
        os.mkdir(f"top/{name}")
    before = os.stat("top").st_nlink
    os.rename("top/one", "one")
    os.rmdir("top/two")
    note([before, os.stat("top").st_nlink, os.stat("one/..").st_ino == os.stat(".").st_ino])
    assert (before, os.stat("top").st_nlink) == (5, 3)


def test_an_open_file_without_a_name_lives_on(folder, note):
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"before")
    os.unlink("file")
    os.write(fd, b" after")
    about = os.fstat(fd)
    note([about.st_nlink, about.st_size, os.listdir(), outcome(os.link, f"/proc/self/fd/{fd}", "back")])
    assert os.pread(fd, 100, 0) == b"before after"
    free = os.statvfs(".").f_bfree
    os.posix_fallocate(fd, 0, 8 << 20)
    os.fsync(fd)
    assert os.statvfs(".").f_bfree < free
    os.close(fd)
    for _ in range(100):
        if os.statvfs(".").f_bfree >= free:
            break
        sync(folder)
    assert os.statvfs(".").f_bfree >= free


def test_a_removed_folder_that_one_stands_in(folder, note):
    os.mkdir("gone")
    fd = os.open("gone", os.O_RDONLY)
    os.rmdir("gone")
    seen = [os.listdir(fd), outcome(lambda: opened("x", os.O_CREAT, dir_fd=fd))]
    os.close(fd)
    note(seen)
    assert seen == [[], "ENOENT"]


def test_tmpfile_gets_a_name_at_the_end(folder, note):
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"whole")
    assert os.listdir() == []
    linkat_open(fd, "named")
    seen = [(folder / "named").read_bytes(), os.fstat(fd).st_nlink, oct(os.fstat(fd).st_mode)]
    os.close(fd)
    again = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_EXCL, 0o640)
    seen.append(outcome(linkat_open, again, "never"))
    os.close(again)
    note(seen)
    assert seen[3] == "ENOENT"


def test_deep_folders(folder, note):
    here = os.open(".", os.O_RDONLY)
    depth = 600
    try:
        for _ in range(depth):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        seen = outcome(os.stat, str(folder) + "/" + "/".join(["d" * 100] * depth))
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d" * 100)
    finally:
        os.fchdir(here)
        os.close(here)
    note([seen, os.listdir()])
    assert seen == "ENAMETOOLONG"


def test_many_create_at_once_and_one_wins(folder):
    won, gate = [], threading.Barrier(8)

    def create(number):
        gate.wait()
        for each in range(100):
            try:
                os.close(os.open(f"f{each}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                won.append(each)
            except FileExistsError:
                pass

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(100))
