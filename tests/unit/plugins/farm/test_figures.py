"""What monitoring gets of a farm."""

from safekit_py.plugins.farm import figures

REPORT = {
    "groups": ["web"],
    "members": [
        {"name": "a", "state": "member", "shares": [66.7]},
        {"name": "b", "state": "lost", "shares": [0.0]},
    ],
    "view": 7,
    "moved": 12,
    "packets": {"accepted": 5, "dropped": 3},
}


def test_a_farm_at_work():
    found = {
        each.name: {tuple(sorted(k.items())): v for k, v in each.samples} for each in figures.metrics({"m": REPORT})
    }
    assert found["farm_share"][("group", "web"), ("module", "m"), ("server", "a")] == 0.667
    assert found["farm_member"] == {(("module", "m"), ("server", "a")): 1.0, (("module", "m"), ("server", "b")): 0.0}
    assert found["farm_view"] == {(("module", "m"),): 7.0}
    assert found["farm_moved_buckets"] == {(("module", "m"),): 12.0}
    assert found["farm_packets_total"][("module", "m"), ("verdict", "dropped")] == 3.0


def test_a_farm_that_is_stopped_or_whose_report_failed():
    found = {each.name: each.samples for each in figures.metrics({"m": {"error": "it broke"}})}
    assert found["farm_share"] == ()
    assert found["farm_view"] == (({"module": "m"}, 0.0),)
