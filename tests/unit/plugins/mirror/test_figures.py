"""What monitoring gets of a mirror."""

from safekit_py.plugins.mirror import figures


def _found(report):
    return {each.name: [value for _, value in each.samples] for each in figures.metrics({"db": report})}


def test_a_primary_that_resynchronises():
    volumes = {"marked": 4096, "sent": 10, "unsent": 3, "waiting": 1, "restarts": 2}
    volumes["resynchronisation"] = {"total": 100, "compared": 40}
    found = _found({"uptodate": True, "replicated": False, "behind": 12.5, "volumes": volumes})
    assert (found["mirror_uptodate"], found["mirror_replicated"], found["mirror_behind_seconds"]) == (
        [1.0],
        [0.0],
        [12.5],
    )
    assert (found["mirror_marked_bytes"], found["mirror_unsent_bytes"]) == ([4096.0], [3.0])
    assert (found["mirror_resync_bytes"], found["mirror_resync_done_bytes"]) == ([100.0], [40.0])
    assert (found["mirror_sent_bytes_total"], found["mirror_restarts_total"]) == ([10.0], [2.0])


def test_what_is_not_known_has_no_sample():
    found = _found({"uptodate": False, "replicated": False, "behind": None, "volumes": {}})
    assert found["mirror_behind_seconds"] == found["mirror_marked_bytes"] == found["mirror_resync_bytes"] == []
    assert not any(_found({"error": "it broke"}).values())
