"""Which changes a running module can take."""

from dataclasses import dataclass, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.core.reload import LIVE_SERVICE, differences, words
from safekit_py.model.config import Failover, ModuleConfig, Service, User


@dataclass(frozen=True)
class Rfs:
    bandwidth: int = 0
    sync: str = "none"


BASE = ModuleConfig(
    Service("farm"), User(), (("farm", ("lan",)), ("vip", ("10.0.0.1",)), ("check/tcp", ("a", "b")), ("rfs", (Rfs(),)))
)


def put(config, path, *values):
    elements = {**dict(config.elements), path: values}
    return replace(config, elements=tuple((k, v) for k, v in elements.items() if v))


def found(new, old=BASE):
    return [(each.part, each.what, each.live) for each in differences(old, new)]


def test_nothing_differs():
    assert differences(BASE, BASE) == ()
    assert words(()) == "nothing that acts has changed"
    assert differences(BASE, replace(BASE, macros=(("UNUSED", "1"),))) == ()


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (put(BASE, "check/tcp", "a", "c"), [("<tcp>", "changed", True)]),
        (put(BASE, "check/tcp"), [("<tcp>", "removed", True)]),
        (put(BASE, "check/file", "x"), [("<file>", "added", True)]),
        (put(BASE, "heart", "x"), [("<heart>", "added", False)]),
        (put(BASE, "errd", "x"), [("<errd>", "added", True)]),
        (replace(BASE, user=None), [("<user>", "removed", True)]),
        (replace(BASE, user=User(variables=(("A", "1"),))), [("<user>", "changed", True)]),
        (replace(BASE, failover=Failover(handle_time=1.0)), [("<failover>", "changed", True)]),
        (put(BASE, "vip", "10.0.0.2"), [("<vip>", "changed", False)]),
        (put(BASE, "farm"), [("<farm>", "removed", False)]),
        (put(BASE, "vhost", "x"), [("<vhost>", "added", False)]),
        (put(BASE, "of-a-plugin", "x"), [("<of-a-plugin>", "added", False)]),
        (put(BASE, "rfs", Rfs(bandwidth=3)), [("<rfs>", "changed", True)]),
        (put(BASE, "rfs", Rfs(bandwidth=3, sync="second")), [("<rfs>", "changed", False)]),
        (put(BASE, "rfs"), [("<rfs>", "removed", False)]),
    ],
)
def test_an_element(new, expected):
    assert found(new) == expected


@pytest.mark.parametrize("name", [each.name for each in fields(Service)])
def test_an_attribute_of_service(name):
    old = getattr(BASE.service, name)
    other = {bool: lambda: not old, str: lambda: old + "x"}.get(type(old), lambda: old + 1)()
    new = replace(BASE, service=replace(BASE.service, **{name: other}))
    assert found(new) == [(f"{name} of <service>", "changed", name in LIVE_SERVICE)]


def test_words():
    new = put(put(BASE, "vip", "x"), "check/file", "y")
    assert words(differences(BASE, new)) == "<vip> changed, <file> added"


values = st.lists(st.sampled_from(["a", "b", Rfs(), Rfs(bandwidth=1)]), max_size=2).map(tuple)
configs = st.builds(
    ModuleConfig,
    st.builds(Service, st.sampled_from(["farm", "light"]), maxloop=st.integers(0, 2), failover=st.booleans()),
    st.one_of(st.none(), st.just(User())),
    st.dictionaries(st.sampled_from(["farm", "vip", "check/tcp", "errd", "rfs", "x"]), values).map(
        lambda each: tuple((k, v) for k, v in each.items() if v)
    ),
)


def fixed(config):
    """What the module type, its addresses and its group are made of."""
    kept = {k: v for k, v in config.elements if k in {"farm", "vip", "x"}}
    return config.service.mode, config.service.failover, kept


@given(configs, configs)
def test_live_differences_leave_the_rest_as_it_is(old, new):
    all_of_them = differences(old, new)
    same = replace(old, elements=tuple(sorted(old.elements, key=str))) == replace(
        new, elements=tuple(sorted(new.elements, key=str))
    )
    assert (all_of_them == ()) == same
    if all(each.live for each in all_of_them):
        assert fixed(old) == fixed(new)
    assert {(d.part, d.live) for d in differences(new, old)} == {(d.part, d.live) for d in all_of_them}
