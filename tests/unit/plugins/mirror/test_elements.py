"""``<heart>`` and ``<rfs>``: every attribute, what warns, and what is refused."""

import pytest
from safekit_py.plugins.mirror.elements import ELEMENTS, volume_name
from safekit_py.plugins.mirror.model import Heart, Heartbeat, Replicated, Rfs, Witness
from safekit_py.plugins.mirror.schema import FOREIGN

from safekit_py.config.load import check

BEAT = '<heartbeat name="default"/>'
DIR = '<replicated dir="/srv/data"/>'


def look(inside):
    return check(f'<safe><service mode="mirror">{inside}</service></safe>'.encode(), "f.xml", ELEMENTS)


def heart(inside=BEAT, attributes=""):
    return f"<heart {attributes}>{inside}</heart>"


def rfs(inside=DIR, attributes=""):
    return f"<rfs {attributes}>{inside}</rfs>"


def replicated(inside="", attributes='dir="/srv/data"'):
    return rfs(f"<replicated {attributes}>{inside}</replicated>")


def test_the_defaults():
    config = look(heart() + rfs()).config
    assert config.one("heart") == Heart((Heartbeat("default"),))
    assert config.one("rfs") == Rfs((Replicated("/srv/data", volume_name("/srv/data")),))


def test_every_attribute_of_heart():
    beats = '<heartbeat name="a" ident="flow" pulse="50"/><heartbeat name="b" ident="other"/>'
    witness = '<witness addr="10.0.0.9:4850" lease="2s"/>'
    attributes = 'port="9000" pulse="100ms" timeout="1s" permanent_arp="on" isolation="wait"'
    checked = look(heart(beats + witness, attributes))
    assert checked.problems == ()
    lans = (Heartbeat("a", "flow", 0.05), Heartbeat("b", "other"))
    assert checked.config.one("heart") == Heart(lans, 9000, 0.1, 1.0, True, "wait")
    assert [each.flow for each in lans] == [True, False]
    assert checked.config.one("heart/witness") == Witness("safekit", ("10.0.0.9:4850",), 2.0)


def test_every_attribute_of_rfs_that_acts():
    inside = (
        '<notreplicated path="tmp"/><notreplicated path="/srv/my data/logs/"/><notreplicated path="tmp"/>'
        '<tocheck path="PG_VERSION"/>'
    )
    one = f'<replicated dir="/srv/my data/" size="10G" filesystem="xfs" mode="read_only">{inside}</replicated>'
    attributes = (
        'engine="block" async="none" durability="write" compression="off" iotimeout="500ms" reiallowedbw="2000" '
        'mountoversuffix="_orig" port="7000"'
    )
    checked = look(rfs(one, attributes))
    assert checked.problems == ()
    volume = Replicated(
        "/srv/my data", volume_name("/srv/my data"), 10 << 30, "xfs", True, ("logs", "tmp"), ("PG_VERSION",)
    )
    assert checked.config.one("rfs") == Rfs(
        (volume,), "block", "none", "write", 2000 << 10, "off", 0.5, "_orig", port=7000
    )


def test_iotimeout_counts_seconds_as_in_safekit():
    assert look(rfs(attributes='iotimeout="30"')).config.one("rfs").iotimeout == 30.0


@pytest.mark.parametrize(
    ("text", "size"), [("16M", 16 << 20), ("17000k", 20 << 20), ("1T", 1 << 40), ("16777217", 20 << 20)]
)
def test_a_size_is_a_whole_number_of_zones(text, size):
    assert look(replicated(attributes=f'dir="/srv/data" size="{text}"')).config.one("rfs").replicated[0].size == size


def test_names_of_volumes_differ_where_directories_do():
    directories = ["/srv/a/b", "/srv/a-b", "/srv/a b", "/srv/a.b", "/" + "x" * 300, "/äöü"]
    names = [volume_name(each) for each in directories]
    assert len(set(names)) == len(names)
    assert all(len(each) <= 41 and each.replace("-", "").isalnum() and each.isascii() for each in names)


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (heart(""), "heart.no-lan"),
        (heart(BEAT * 2), "heart.lan-twice"),
        (heart('<heartbeat name="a" ident="flow"/><heartbeat name="b" ident="flow"/>'), "heart.flow-twice"),
        (heart(attributes='timeout="200ms"'), "mirror.time"),
        (heart(attributes='pulse="9ms"'), "mirror.time"),
        (heart(attributes='pulse="1s" timeout="2s"'), "heart.timeout"),
        (heart('<heartbeat name="a" pulse="2s"/>'), "heart.timeout"),
        (heart('<heartbeat ident="flow"/>'), "config.missing-attribute"),
        (heart(attributes='isolation="both"'), "config.bad-value"),
        (rfs(attributes='iotimeout="0"'), "mirror.time"),
        (rfs(attributes='async="first"'), "config.bad-value"),
        (rfs(attributes='durability="never"'), "config.bad-value"),
        (rfs(attributes='reiallowedbw="0"'), "config.bad-value"),
        (rfs(attributes='mountoversuffix="/x"'), "config.bad-value"),
        (replicated(attributes='dir="data"'), "rfs.bad-directory"),
        (replicated(attributes='dir="/"'), "rfs.bad-directory"),
        (replicated(attributes='dir="/srv/../etc"'), "rfs.bad-directory"),
        (replicated(attributes='dir="/srv/a&#10;b"'), "rfs.bad-directory"),
        (replicated(attributes='dir="/srv/data" size="15M"'), "rfs.size"),
        (replicated(attributes='dir="/srv/data" size="65T"'), "rfs.size"),
        (replicated(attributes='dir="/srv/data" size="10 GB"'), "config.bad-value"),
        (replicated(attributes='dir="/srv/data" filesystem="btrfs"'), "config.bad-value"),
        (replicated('<notreplicated regexpath=".*[.]tmp$"/>'), "rfs.regexpath"),
        (replicated("<notreplicated/>"), "rfs.no-path"),
        (replicated('<notreplicated path="../x"/>'), "rfs.bad-path"),
        (replicated('<notreplicated path="/srv/other"/>'), "rfs.bad-path"),
        (replicated('<notreplicated path="/srv/data"/>'), "rfs.bad-path"),
        (replicated('<tocheck path="."/>'), "rfs.bad-path"),
    ],
)
def test_refused(inside, code):
    checked = look(inside)
    assert checked.config is None
    assert [each.code for each in checked.problems] == [code]
    assert checked.problems[0].remedy


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (heart('<heartbeat name="a"><server addr="10.0.0.1"/></heartbeat>'), "heart.legacy-server"),
        (heart('<server addr="10.0.0.1"/>' + BEAT), "heart.legacy-server"),
        (heart('<heartbeat name="a" timeout="5s"/>'), "config.not-acting"),
        (rfs('<flow name="f"><server addr="10.0.0.1"/></flow>' + DIR), "rfs.legacy-flow"),
        (rfs(""), "rfs.no-directory"),
        *((rfs(attributes=f'{name}="1"'), "config.not-acting") for name, why in FOREIGN if why),
    ],
)
def test_accepted_with_a_warning(inside, code):
    checked = look(inside)
    assert checked.config is not None
    assert [(each.code, each.severity) for each in checked.problems] == [(code, "warning")]


def test_acl_is_not_worth_a_word():
    assert look(rfs(attributes='acl="on"')).problems == ()
