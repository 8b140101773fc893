"""Which events are told: conditions alternate, a person's stop is none, one server speaks for all."""

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core.alerts import Alerts
from safekit_py.model.event import Event
from safekit_py.model.state import Severity


def state(module, value, readiness="Ready", reason="", by="itself", at=0.0):
    data = {"state": value, "readiness": readiness, "before": "", "reason": reason, "by": by}
    return Event(at, module, Severity.INFO, "heart", f"{value} {readiness}", "state", data)


def resource(name, value, at=0.0, module="web"):
    data = {"resource": name, "value": value, "before": "", "cause": "refused"}
    return Event(at, module, Severity.INFO, "resource", name, "resource", data)


def told(notices):
    return [(each.kind, each.level, each.ident) for each in notices]


def test_a_module_that_waits_and_comes_back():
    alerts = Alerts("a", 0)
    (first,) = alerts.see(state("web", "WAIT", "NotReady", "waits: intf.eth0 is down"))
    assert (first.kind, first.level, first.text) == ("raised", "critical", "waits: intf.eth0 is down")
    assert alerts.see(state("web", "WAIT", "NotReady", "still")) == []
    assert alerts.see(state("web", "UP", "Transient")) == []
    assert told(alerts.see(state("web", "UP"))) == [("cleared", "critical", "web/state")]
    assert told(alerts.see(state("web", "UP"))) == [("event", "info", "web/event")]


def test_a_stop_by_maxloop_is_critical_and_one_by_a_person_is_not():
    alerts = Alerts("a", 0)
    assert told(alerts.see(state("web", "STOP", "NotReady", "asked by an administrator", "person"))) == [
        ("event", "info", "web/event")
    ]
    assert told(alerts.see(state("web", "STOP", "NotReady", "stopped by maxloop"))) == [
        ("raised", "critical", "web/state")
    ]
    assert told(alerts.see(state("web", "STOP", "NotReady", "asked", "person"))) == [
        ("cleared", "critical", "web/state")
    ]


def test_alone_is_a_warning_until_both_are_there():
    alerts = Alerts("a", 0)
    assert told(alerts.see(state("db", "ALONE"))) == [("raised", "warning", "db/alone")]
    assert told(alerts.see(state("db", "PRIM"))) == [("cleared", "warning", "db/alone")]


def test_a_resource_of_which_down_is_good_is_none():
    alerts = Alerts("a", 0)
    assert alerts.see(resource("rfs.degraded", "down")) == []
    assert told(alerts.see(resource("tcp.web", "down"))) == [("raised", "warning", "web/resource/tcp.web")]
    assert told(alerts.see(resource("tcp.web", "init"))) == [("cleared", "warning", "web/resource/tcp.web")]
    assert alerts.see(resource("farm.web", "33.3%")) == []


def test_an_error_is_told_once_a_minute():
    alerts = Alerts("a", 0)

    def error(at):
        return alerts.see(Event(at, "web", Severity.ERROR, "failover", "restart (1 of 3)"))

    assert told(error(0.0)) == [("event", "warning", "web/event")]
    assert error(59.0) == []
    assert len(error(61.0)) == 1


def test_a_lost_server_is_told_by_who_speaks_also_when_that_changes_late():
    first, second = Alerts("a", 0), Alerts("b", 0)
    for each in (first, second):
        each.servers("web", {"c": True}, 0.0, speaks=False)
    assert second.servers("web", {"c": False}, 1.0, speaks=False) == []
    assert told(first.servers("web", {"c": False}, 1.0, speaks=True)) == [("raised", "critical", "web/server/c")]
    assert first.servers("web", {"c": False}, 2.0, speaks=True) == []
    assert told(second.servers("web", {"a": False, "c": False}, 3.0, speaks=True)) == [
        ("raised", "critical", "web/server/c")
    ], "a was never heard by it"
    assert told(first.servers("web", {"c": True}, 4.0, speaks=False)) == [("cleared", "critical", "web/server/c")]


def test_a_module_that_is_stopped_here_hears_nobody():
    alerts = Alerts("a", 0)
    alerts.servers("web", {"b": True}, 0.0, speaks=True)
    alerts.servers("web", {"b": False}, 1.0, speaks=True)
    assert told(alerts.servers("web", {}, 2.0, speaks=True)) == [("cleared", "critical", "web/server/b")]
    assert alerts.servers("web", {"b": False}, 3.0, speaks=True) == [], "at the start the others are yet to be heard"


def test_what_lasts_is_repeated_and_remembered():
    alerts = Alerts("a", 100.0)
    alerts.see(state("web", "WAIT", "NotReady", "x", at=10.0))
    assert alerts.due(109.0) == []
    (again,) = alerts.due(110.0)
    assert (again.kind, again.since, again.subject) == ("repeated", 10.0, "still: web: WAIT NotReady")
    later = Alerts("a", 100.0)
    later.load(alerts.dump())
    assert later.due(111.0) == []
    assert later.see(state("web", "WAIT", "NotReady", "x", at=112.0)) == []
    assert told(later.see(state("web", "UP", at=113.0))) == [("cleared", "critical", "web/state")]


def test_a_module_that_is_gone_is_not_repeated():
    alerts = Alerts("a", 1.0)
    alerts.see(state("web", "WAIT", "NotReady", "x"))
    alerts.known(["db"])
    assert alerts.due(10.0) == []


MODULES = st.sampled_from(["web", "db"])
STEPS = st.one_of(
    st.builds(
        state,
        MODULES,
        st.sampled_from(["STOP", "WAIT", "UP", "PRIM", "SECOND", "ALONE", "NOT_CONFIGURED"]),
        st.sampled_from(["NotReady", "Transient", "Ready"]),
        st.sampled_from(["", "why"]),
        st.sampled_from(["person", "itself"]),
    ),
    st.builds(resource, st.sampled_from(["tcp.a", "rfs.degraded"]), st.sampled_from(["up", "down", "init"])),
    st.tuples(MODULES, st.dictionaries(st.sampled_from("bc"), st.booleans()), st.booleans()),
    st.floats(0, 50),
)


@given(st.lists(STEPS, max_size=60))
def test_raised_and_cleared_alternate_and_what_is_active_was_raised(steps):
    alerts, active, now = Alerts("a", 10.0), set(), 0.0
    for step in steps:
        if isinstance(step, Event):
            found = alerts.see(step)
        elif isinstance(step, tuple):
            found = alerts.servers(step[0], step[1], now, speaks=step[2])
        else:
            now += step
            found = alerts.due(now)
        for notice in found:
            if notice.kind == "raised":
                assert notice.ident not in active
                active.add(notice.ident)
            elif notice.kind == "cleared":
                active.remove(notice.ident)
            elif notice.kind == "repeated":
                assert notice.ident in active
        assert active == set(alerts.active)
