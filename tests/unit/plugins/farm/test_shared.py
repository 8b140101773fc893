"""What several modules need: what was there before comes back exactly once, with the last of them."""

from safekit_py.plugins.farm import shared


def test_what_was_before_comes_back_with_the_last_user(tmp_path):
    memory, restored = tmp_path / "deep/memory.json", []
    for user in ("web", "mail", "web"):
        shared.take(memory, "e0", user, lambda: "0" if not restored else "wrong")
    shared.take(memory, "e1", "mail", lambda: "1")
    assert shared.taken(memory, "mail") == ("e0", "e1")
    shared.give_back(memory, "e0", "web", restored.append)
    assert restored == []
    shared.give_back(memory, "e0", "mail", restored.append)
    shared.give_back(memory, "e0", "mail", restored.append)
    assert restored == ["0"]
    shared.give_back(memory, "e1", "mail", restored.append)
    assert restored == ["0", "1"]
    assert not memory.exists()


def test_a_restoration_that_fails_is_tried_again(tmp_path):
    memory, restored = tmp_path / "memory.json", []
    shared.take(memory, "e0", "web", lambda: "0")

    def fail(before):
        raise OSError(before)

    try:
        shared.give_back(memory, "e0", "web", fail)
    except OSError:
        shared.give_back(memory, "e0", "web", restored.append)
    assert restored == ["0"]


def test_a_memory_that_is_torn_is_none(tmp_path):
    memory = tmp_path / "memory.json"
    memory.write_text('{"e0": {"bef')
    assert shared.taken(memory, "web") == ()
