"""The key file and the live keys of one server: orders, files that change by themselves, and when an old key goes."""

import asyncio
import time

import pytest

from safekit_py.core import keys as core
from safekit_py.errors import SafekitError
from safekit_py.model.keys import MAX_KEYS, first, parse, render
from safekit_py.model.paths import Paths
from safekit_py.runtime import clusterkeys
from safekit_py.runtime.clusterkeys import ClusterKeys

SECRET = "ab" * 32
OTHERS = {1: "server2", 2: "server3"}


@pytest.fixture
def made(tmp_path):
    keys = ClusterKeys(Paths(tmp_path), lambda: OTHERS)
    keys.replace(SECRET)
    keys.load()
    return keys


def file_of(keys):
    return keys._path


def code(call, *args, **named):
    with pytest.raises(SafekitError) as caught:
        call(*args, **named)
    return caught.value.problems[0].code


def hear(keys, *whom, since=0.0):
    """Those hold what is held here and have signed with the newest, as they began to so many seconds ago."""
    ring, now = keys.live.ring, time.monotonic()
    for who in whom:
        keys.live._holds[who] = tuple(key.name for key in ring.keys[::-1])
        keys.live._signed[who, ring.newest.name] = (now - since, now)


def test_a_rotation_is_on_disk_before_it_is_used_and_ends_when_all_have_it(made):
    origin = made.live.ring.origin
    made.rotate()
    assert [key.number for key in made.live.ring.keys] == [1, 2]
    assert parse(file_of(made).read_text()) == made.live.ring
    assert file_of(made).stat().st_mode & 0o777 == 0o600
    assert [(u.name, u.holds, u.signs, u.gets, u.awaited) for u in made.users()] == [
        ("server2", (), 0, 1, True),
        ("server3", (), 0, 1, True),
    ]
    assert code(made.drop, force=False) == "cluster.key-needed"
    hear(made, 1, since=1000)
    assert code(made.drop, force=False) == "cluster.key-needed"
    hear(made, 2, since=1000)
    assert [(u.holds, u.signs, u.gets, u.awaited) for u in made.users()] == [((1, 2), 2, 2, False)] * 2
    made.drop(force=False)
    assert [key.number for key in made.live.ring.keys] == [2]
    assert made.live.ring.origin == origin
    assert parse(file_of(made).read_text()) == made.live.ring
    made.drop(force=False)
    assert [key.number for key in made.live.ring.keys] == [2], "what is left is never dropped"


def test_a_person_may_drop_sooner_than_the_agent_and_by_force_at_once(made):
    made.rotate()
    hear(made, 1, 2, since=clusterkeys.SETTLED / 2)
    assert code(made.drop, force=False) == "cluster.key-needed"
    hear(made, 1, 2, since=clusterkeys.SETTLED + 1)
    assert all(user.awaited for user in made.users())
    made.drop(force=False)
    made.rotate()
    made.drop(force=True)
    assert [key.number for key in made.live.ring.keys] == [3]


def test_a_witness_is_waited_for_and_asked(made):
    asked = []

    async def ask():
        asked.append(1)
        made.live.heard("witness w", (made.live.ring.newest.name,))

    made.live.expect("witness w", ask)
    made.rotate()
    hear(made, 1, 2, since=1000)
    assert [user.name for user in made.users(0.0) if user.awaited] == ["witness w"]
    asyncio.run(made.live.ask())
    assert asked == [1]
    assert [user.name for user in made.users(0.0) if user.awaited] == []


def test_the_keys_of_another_server_are_taken_and_none_is_lost(made, tmp_path):
    other = core.rotated(core.rotated(made.live.ring, bytes([2] * 32)), bytes([3] * 32))
    made.take(render(other))
    assert made.live.ring == other
    made.take(SECRET)
    assert made.live.ring == other, "an older file takes nothing away"
    assert code(made.take, "cd" * 32) == "cluster.key-foreign"
    assert code(made.take, "nonsense") == "cluster.bad-key"
    assert made.live.ring == other
    made.rotate()
    assert len(made.live.ring.keys) == MAX_KEYS
    assert code(made.rotate) == "cluster.key-many"
    assert parse(file_of(made).read_text()) == made.live.ring


def test_without_a_key_there_is_nothing_to_rotate(tmp_path):
    keys = ClusterKeys(Paths(tmp_path), lambda: OTHERS)
    assert code(keys.load) == "cluster.no-key"
    assert code(keys.rotate) == "cluster.no-key"
    assert code(keys.take, SECRET) == "cluster.no-key"
    assert code(keys.drop, force=True) == "cluster.no-key"
    assert keys.users() == []
    assert code(keys.replace, "x") == "cluster.bad-key"
    assert not file_of(keys).exists()


def test_a_file_that_is_none_or_that_others_may_read_leaves_no_key(made):
    file_of(made).chmod(0o644)
    assert code(made.load) == "cluster.key-readable"
    assert made.live.ring.keys == ()
    file_of(made).chmod(0o600)
    made.load()
    file_of(made).write_bytes(b"\xff\xfe")
    assert code(made.load) == "cluster.bad-key"
    made.delete()
    made.delete()
    assert code(made.load) == "cluster.no-key"


def test_a_disk_that_refuses_changes_nothing(made, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = made.live.ring
    monkeypatch.setattr(clusterkeys, "write_atomically", full)
    with pytest.raises(OSError, match="No space"):
        made.rotate()
    assert made.live.ring == before
    assert parse(file_of(made).read_text()) == before


def copied(made, text, mode=0o600):
    """As scp writes a file: in place."""
    file_of(made).write_text(text)
    file_of(made).chmod(mode)


def after(seconds):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


async def watched(made, monkeypatch, holds, limit=5.0):
    monkeypatch.setattr(clusterkeys, "LOOK", 0.02)
    made.start()
    try:
        end = time.monotonic() + limit
        while not holds():
            assert time.monotonic() < end, "not in time"
            await asyncio.sleep(0.01)
    finally:
        await made.stop()


def test_a_file_that_is_copied_over_is_taken_and_nothing_that_is_needed_goes_by_it(made, monkeypatch):
    made.rotate()
    before = made.live.ring
    theirs = core.rotated(first(bytes.fromhex(SECRET)), bytes([9] * 32))
    copied(made, render(theirs))
    asyncio.run(watched(made, monkeypatch, lambda: theirs.newest in made.live.ring.keys))
    assert set(made.live.ring.keys) == {*before.keys, *theirs.keys}
    assert parse(file_of(made).read_text()) == made.live.ring, "the file has both too"


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("half a fi", 0o600, "bad-key"),
        (SECRET.replace("a", "c"), 0o600, "key-foreign"),
        (SECRET, 0o644, "key-readable"),
    ],
)
def test_a_bad_file_is_told_once_and_changes_nothing(made, monkeypatch, caplog, text, mode, said):
    before = made.live.ring
    copied(made, text, mode)
    asyncio.run(watched(made, monkeypatch, lambda: said in caplog.text))
    asyncio.run(watched(made, monkeypatch, after(0.2)))
    assert caplog.text.count(said) == 1
    assert made.live.ring == before
    assert "abababab" not in caplog.text, "no key in the log"
    assert "cbcbcbcb" not in caplog.text
    file_of(made).write_text(SECRET)
    file_of(made).chmod(0o600)
    made.rotate()
    theirs = core.rotated(before, bytes([7] * 32))
    file_of(made).write_text(render(theirs))
    asyncio.run(watched(made, monkeypatch, lambda: theirs.newest in made.live.ring.keys))


def test_the_old_key_goes_by_itself_when_nobody_has_used_it_for_long(made, monkeypatch):
    made.rotate()
    hear(made, 1, 2, since=core.QUIET - 60)
    asyncio.run(watched(made, monkeypatch, after(0.2)))
    assert len(made.live.ring.keys) == 2, "too early"
    hear(made, 1, 2, since=core.QUIET + 1)
    asyncio.run(watched(made, monkeypatch, lambda: len(made.live.ring.keys) == 1))
    assert parse(file_of(made).read_text()) == made.live.ring
