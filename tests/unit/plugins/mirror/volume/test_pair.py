"""Both sides of replication joined: nothing that was promised is lost, whatever is cut, killed or without power."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_of_two import PAGE, Pair, content
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.volume import flusher, stream, warm
from safekit_py.plugins.mirror.volume.frames import HEAD

PAGES = [0, 1, 2, 15, 16, 1023, 1024, 1025, 2040, 2048, 3000]


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Zones are unmarked as soon as a flush of both allows it."""
    monkeypatch.setattr(warm, "COLD", -1.0)


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path)
    yield made
    made.close()


def marks(pair):
    return [sorted(host.map.marked) for host in pair.hosts]


def test_a_first_synchronisation_makes_both_the_same(pair):
    pair.ask(("write", 0, 4), ("write", 1030, 2), ("flush", 0, 0))
    pair.finish()
    assert [kind for kind, _ in pair.answers] == ["write", "write", "flush"]
    pair.synced()
    pair.check_equal()
    assert pair.second.generation.uptodate
    assert pair.first.generation.shared


def test_zones_are_unmarked_once_both_disks_have_them(pair):
    pair.ask(("write", 0, 1))
    pair.synced()
    pair.settle()
    assert marks(pair) == [[], []]


def test_a_write_is_answered_when_the_secondary_has_it(pair):
    pair.synced()
    pair.answers.clear()
    pair.ask(("write", 3, 1))
    assert not pair.answers
    pair.pump(0)
    assert not pair.answers
    pair.pump(1)
    assert pair.answers == [("write", 0)]


def test_a_discard_of_several_parts_is_answered_when_the_secondary_has_the_last(pair, monkeypatch):
    monkeypatch.setattr(stream, "PART", 8 * PAGE)
    pair.ask(("write", 0, 20))
    pair.synced()
    pair.answers.clear()
    pair.ask(("discard", 0, 20))
    for _ in range(2):
        assert pair.pump(0, HEAD.size)
        pair.pump(1)
        assert not pair.answers
    pair.pump(0)
    pair.pump(1)
    assert pair.answers == [("discard", 0)]
    pair.check_equal()


def test_a_flush_is_answered_when_both_disks_have_it(pair):
    pair.synced()
    pair.answers.clear()
    pair.ask(("write", 3, 1), ("flush", 0, 0))
    pair.pump(0)
    pair.finish()
    assert 3 not in pair.second.unsynced
    assert not pair.answers
    pair.pump(1)
    assert [kind for kind, _ in pair.answers] == ["write", "flush"]


def test_what_a_cut_connection_swallowed_is_sent_again(pair):
    """Both processes live on, the connection does not: a resumed session alone would leave the write on one side."""
    pair.synced()
    pair.answers.clear()
    pair.ask(("write", 7, 1), ("flush", 0, 0))
    pair.cut()
    assert pair.primary.mode == "frozen"
    pair.ask(("write", 8, 1))
    assert not pair.answers
    pair.synced()
    assert len(pair.answers) == 3
    pair.check_equal()


def test_alone_is_refused_while_the_secondary_is_there(pair):
    pair.synced()
    with pytest.raises(OSError, match="the secondary is there"):
        pair.alone()


def test_alone_is_refused_while_the_secondary_is_being_told_that_it_has_everything(pair):
    pair.synced()
    pair.cut()
    pair.connect()
    while not pair.primary._said:
        pair.pump(0)
        pair.pump(1, 200)
    with pytest.raises(OSError, match="just being told"):
        pair.alone()
    pair.settle()
    assert pair.primary.mode == "synced"


def test_a_process_that_follows_one_that_went_alone_compares(pair):
    """It was killed after the generation was stored and before anything else was."""
    pair.synced()
    pair.cut()
    remembered = pair.first.remembered
    assert remembered
    pair.alone()
    pair.ask(("write", 5, 1))
    pair.first.remembered = remembered
    pair.kill_primary()
    pair.synced()
    pair.check_equal()


def test_a_flush_that_meets_a_broken_connection_is_answered_alone(pair):
    pair.synced()
    pair.pipe.far[0].close()
    pair.ask(("write", 1, 1), ("flush", 0, 0))
    pair.answers.clear()
    pair.cut()
    pair.alone()
    pair.finish()
    assert sorted(pair.answers) == [("flush", 0), ("write", 0)]


def test_what_is_given_up_by_force_is_not_sent(pair):
    """The memory of what was answered is used again: the secondary must not get what lies there then."""
    pair.synced()
    pair.ask(("write", 9, 8))
    pair.primary.fail()
    assert ("write", 5) in pair.answers
    assert pair.primary.link is None
    pair.ask(("write", 9, 1), ("read", 9, 1))
    assert pair.answers[-2:] == [("write", 5), ("read", 5)]


@pytest.mark.parametrize("little", [8 << 20, -1], ids=["in place", "in the thread"])
@pytest.mark.parametrize("mode", ["alone", "synced"])
def test_a_flush_that_the_primarys_disk_refuses_is_the_last_word(pair, monkeypatch, mode, little):
    """The kernel forgets what it could not write: a later flush would say that all is well."""
    monkeypatch.setattr(flusher, "LITTLE", little)
    if mode == "synced":
        pair.synced()
    pair.finish()
    pair.answers.clear()
    pair.first.refuses = True
    pair.ask(("write", 3, 1), ("flush", 0, 0), ("flush", 0, 0))
    pair.finish()
    assert [error for kind, error in pair.answers if kind == "flush"] == [5, 5]
    assert [kind for kind, _ in pair.first.events].count("failed") == 1
    pair.first.refuses = False
    pair.answers.clear()
    pair.ask(("write", 4, 1), ("flush", 0, 0), ("read", 0, 1))
    assert [error for _, error in pair.answers] == [5, 5, 5]
    assert pair.primary.link is None
    with pytest.raises(OSError, match="refused data"):
        pair.alone()
    pair.kill_primary()
    pair.ask(("write", 4, 1))
    assert pair.answers[-1] == ("write", 5)


def test_a_flush_of_its_own_that_is_refused_is_the_last_word_too(pair):
    pair.synced()
    pair.ask(("write", 3, 1))
    pair.first.refuses = True
    pair.tick()
    assert pair.primary.failing
    assert pair.answers[-1] == ("write", 5)


def test_nothing_is_answered_past_the_lease(pair):
    pair.synced()
    pair.answers.clear()
    pair.ask(("write", 1, 1))
    pair.primary.fence()
    pair.cut()
    pair.ask(("write", 2, 1), ("flush", 0, 0))
    assert not pair.answers
    pair.primary.lift()
    assert not pair.answers
    pair.synced()
    assert len(pair.answers) == 3
    pair.check_equal()


def test_alone_past_the_lease_not_even_what_is_done_is_answered(pair, monkeypatch):
    held = []
    with monkeypatch.context() as patch:
        patch.setattr(pair.first.flusher, "flush", held.extend)
        pair.ask(("write", 1, 1), ("flush", 0, 0))
        assert pair.answers == [("write", 0)]
        pair.primary.fence()
        pair.ask(("write", 2, 1))
        for done in held:
            done(None)
    assert pair.answers == [("write", 0)]
    assert pair.first.page(2) == bytes(PAGE)
    pair.primary.lift()
    assert pair.answers == [("write", 0), ("flush", 0), ("write", 0)]


def test_a_zone_that_is_written_during_the_flush_stays_marked(pair, monkeypatch):
    pair.synced()
    pair.settle()
    assert marks(pair) == [[], []]
    held = []
    with monkeypatch.context() as patch:
        patch.setattr(pair.first.flusher, "flush", held.extend)
        pair.ask(("write", 0, 1))
        pair.tick()
        assert held
        pair.ask(("write", 1, 1))
        pair.pump(0)
        pair.finish()
        pair.pump(1)
        for done in held:
            done(None)
        pair.pump(0)
    assert marks(pair) == [[0], [0]]
    pair.settle()
    assert marks(pair) == [[], []]


def test_reads_are_answered_in_every_mode(pair):
    pair.ask(("write", 1, 2))
    pair.synced()
    pair.cut()
    pair.answers.clear()
    pair.ask(("read", 0, 4))
    pair.primary.fence()
    pair.ask(("read", 0, 4))
    assert pair.answers == [("read", 0), ("read", 0)]


def test_the_secondary_is_not_up_to_date_while_it_is_being_changed(pair):
    pair.ask(("write", 0, 8))
    pair.synced()
    pair.cut()
    pair.alone()
    pair.ask(("write", 0, 4), ("write", 1500, 4))
    assert pair.second.generation.uptodate
    pair.connect()
    while pair.second.page(1500) == bytes(PAGE):
        pair.pump(0)
        pair.pump(1)
        pair.tick()
    assert not pair.second.generation.uptodate
    pair.settle()
    assert pair.second.generation.uptodate
    assert pair.second.generation.data == pair.first.generation.data


def test_aside_keeps_what_is_overwritten(pair, tmp_path):
    pair.ask(("write", 0, 3))
    pair.synced()
    pair.cut()
    pair.second.end()
    lost = pair.version + 1
    pair.p = 1
    pair.serve(pair.first.generation)
    pair.alone()
    pair.ask(("write", 1, 1))
    pair.first.end()
    pair.p = 0
    pair.rebase()
    pair.serve(pair.first.generation)
    pair.alone()
    pair.ask(("write", 2, 1))
    pair.receive(tmp_path / "aside")
    pair.synced()
    pair.check_equal()
    kept = (tmp_path / "aside/v.blocks").read_bytes()
    assert kept[PAGE : 2 * PAGE] == content(lost)
    lines = (tmp_path / "aside/list").read_text().splitlines()
    assert any(int(at) <= PAGE < int(at) + int(size) for _, at, size in map(str.split, lines))


def test_a_secondary_with_newer_data_refuses(pair):
    pair.synced()
    pair.cut()
    pair.second.end()
    pair.p = 1
    pair.serve(pair.first.generation)
    pair.alone()
    pair.first.end()
    pair.p = 0
    pair.serve(pair.first.generation)
    pair.receive()
    before = pair.second.generation
    pair.connect()
    pair.settle()
    assert pair.pipe is None
    assert pair.second.generation == before
    assert [each for each in pair.second.events if each[0] == "failed"] == [
        ("failed", "this server has newer data than the primary")
    ]


@pytest.mark.parametrize(
    ("mine", "code"),
    [
        (Generation(data="feed", uptodate=True), "volume.unrelated"),
        (Generation(data="feed", history=("d1",), uptodate=True), "volume.diverged"),
        (Generation(data="feed", history=("d2", "d1"), uptodate=True), "volume.newer-here"),
    ],
)
def test_data_that_do_not_follow_are_refused_with_their_reason_and_stay(pair, mine, code):
    pair.synced()
    pair.cut()
    pair.alone()
    pair.second.end()
    pair.second.store(mine)
    before = (pair.second.folder / "v.img").read_bytes()
    pair.ask(("write", 3, 1))
    pair.receive()
    pair.connect()
    pair.settle()
    assert pair.pipe is None
    assert pair.second.said["code"] == code
    assert "errno" not in pair.second.said, "its disk is well"
    assert pair.secondary.broken
    assert pair.second.generation == mine
    assert (pair.second.folder / "v.img").read_bytes() == before


def test_a_secondary_whose_disk_refuses_ejects_itself(pair, monkeypatch):
    pair.synced()
    pair.ask(("write", 3, 1))

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pair.second.image, "write", refuse)
    pair.pump(0)
    assert pair.pipe is None
    assert not pair.second.generation.uptodate
    assert ("failed", "No space left on device") in pair.second.events
    assert pair.primary.mode == "frozen"
    pair.alone()
    assert pair.answers[-1] == ("write", 0)
    pair.receive()
    pair.synced()
    pair.check_equal()


def test_a_verification_finds_what_differs(pair):
    pair.synced()
    found = []
    pair.primary.verify(found.append)
    pair.settle()
    assert found[-1]["different"] == 0
    with (pair.second.folder / "v.img").open("r+b") as file:
        file.seek(1100 * PAGE)
        file.write(b"x" * 10)
    pair.primary.verify(found.append)
    pair.settle()
    assert found[-1] == {"different": PAGE, "ranges": [(0, 1100 * PAGE, PAGE)]}


def test_a_verification_whose_connection_is_lost_says_so(pair):
    pair.synced()
    found = []
    pair.primary.verify(found.append)
    pair.cut()
    assert isinstance(found[-1], OSError)


def test_with_sync_second_zones_wait_for_the_secondarys_disk(tmp_path, monkeypatch):
    """A flush is answered from the secondary's memory; a zone is unmarked only when its disk has it."""
    monkeypatch.setattr(flusher, "LITTLE", -1)
    pair = Pair(tmp_path, sync="second")
    try:
        pair.synced()
        held = []
        monkeypatch.setattr(pair.second.flusher, "flush", held.extend)
        pair.ask(("write", 3, 1), ("flush", 0, 0))
        for _ in range(20):
            pair.finish()
            pair.pump(0)
            pair.pump(1)
            pair.tick()
        assert ("flush", 0) in pair.answers
        assert marks(pair) == [[0], [0]]
        for done in held:
            done(None)
        monkeypatch.undo()
        monkeypatch.setattr(warm, "COLD", -1.0)
        pair.settle()
        assert marks(pair) == [[], []]
    finally:
        pair.close()


# --- histories ------------------------------------------------------------------------------------

SIMPLE = ["connect", "cut", "alone", "fence", "lift", "tick", "finish", "settle",
          "kill_primary", "kill_secondary", "power_secondary", "power_primary", "take_over"]  # fmt: skip
ASKED = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "flush", "discard", "zero", "read"]),
        st.sampled_from(PAGES),
        st.integers(1, 20),
    ),
    min_size=1,
    max_size=4,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), ASKED),
        st.tuples(st.just("pump"), st.integers(0, 1), st.sampled_from([1, 50, 5000, 1 << 30])),
        st.tuples(st.sampled_from(SIMPLE)),
    ),
    min_size=5,
    max_size=60,
)


def run(pair, step):
    what = step[0]
    if what == "ask":
        pair.ask(*((kind, 0, 0) if kind == "flush" else (kind, page, count) for kind, page, count in step[1]))
    elif what == "pump":
        pair.pump(*step[1:])
    elif what == "connect":
        pair.connect()
    elif what == "alone":
        if pair.primary.mode == "frozen" and not (pair.primary._said and pair.primary.link is not None):
            pair.alone()
    elif what == "fence":
        pair.primary.fence()
        pair.cut("fenced")
    elif what == "lift":
        pair.primary.lift()
    elif what == "power_secondary":
        pair.kill_secondary(power=True)
    elif what == "power_primary":
        pair.lose_primary()
    elif what == "settle":
        if pair.pipe is not None:
            pair.settle()
    else:
        getattr(pair, what)()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.sampled_from(["none", "second"]), st.sampled_from([8 << 20, -1]), st.integers(0, 9))
def test_no_history_breaks_a_promise(tmp_path_factory, steps, sync, little, seed):
    before, flusher.LITTLE = flusher.LITTLE, little
    pair = Pair(tmp_path_factory.mktemp("pair"), seed, sync)
    try:
        pair.synced()
        for step in steps:
            run(pair, step)
            pair.check()
        pair.synced()
        pair.settle()
        pair.check()
        pair.check_equal()
        assert not pair.kernel.open, "never answered"
    finally:
        flusher.LITTLE = before
        pair.close()


AFTER = ["connect", "cut", "fence", "lift", "tick", "finish", "kill_primary", "alone"]
LATER = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), ASKED),
        st.tuples(st.just("pump"), st.integers(0, 1), st.sampled_from([50, 1 << 30])),
        st.tuples(st.sampled_from(AFTER)),
    ),
    max_size=20,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, LATER, st.sampled_from(["none", "second"]), st.sampled_from([8 << 20, -1]), st.integers(0, 9))
def test_after_a_refused_flush_no_history_acknowledges_or_sends(tmp_path_factory, steps, later, sync, little, seed):
    """And the secondary has all that was acknowledged before."""
    before, flusher.LITTLE = flusher.LITTLE, little
    pair = Pair(tmp_path_factory.mktemp("pair"), seed, sync)
    try:
        pair.synced()
        for step in steps:
            run(pair, step)
        pair.synced()
        pair.settle()
        pair.first.refuses = True
        pair.ask(("write", 1, 1), ("flush", 0, 0))
        pair.finish()
        assert pair.primary.failing
        pair.pump(0)  # what had been sent before
        pair.cut()
        pair.first.refuses = False
        pair.answers.clear()
        there = (pair.second.folder / "v.img").read_bytes()
        stored = pair.first.generation
        for step in later:
            if step == ("alone",):
                with pytest.raises(OSError, match="refused data"):
                    pair.alone()
            else:
                run(pair, step)
        assert all(error for _, error in pair.answers), pair.answers
        assert not pair.kernel.open, "never answered"
        assert (pair.second.folder / "v.img").read_bytes() == there
        assert pair.first.generation == stored
        assert pair.take_over()
    finally:
        flusher.LITTLE = before
        pair.close()
