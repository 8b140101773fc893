"""Configurations, archives, names and values that somebody made to do harm, given to a living agent."""

import io
import time
import zipfile

import pytest

GOOD = '<safe><service mode="light"/></safe>'
BOMB = (
    '<!DOCTYPE safe [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><safe>&j;</safe>"
)
XML = {
    "bomb": BOMB,
    "external": '<!DOCTYPE safe [<!ENTITY x SYSTEM "file:///etc/passwd">]><safe>&x;</safe>',
    "external-doctype": '<!DOCTYPE safe SYSTEM "http://127.0.0.1:1/x.dtd"><safe/>',
    "deep": "<safe>" + "<a>" * 300_000,
    "long": f'<safe><service mode="{"x" * 12_000_000}"/></safe>',
    "torn": '<safe><service mode="light"',
    "nul": "<safe>\0</safe>",
    "utf-16": GOOD.encode("utf-16"),
}


def archive(*entries, configuration=GOOD):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("conf/userconfig.xml", configuration)
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            packed.writestr(info, data)
    return stream.getvalue()


@pytest.mark.parametrize("kind", XML)
def test_xml_is_refused_as_soon_as_a_good_file_is_accepted(target, tmp_path, kind):
    path = tmp_path / "userconfig.xml"
    path.write_bytes(XML[kind] if isinstance(XML[kind], bytes) else XML[kind].encode())
    target.module(tmp_path / "app")
    began = time.monotonic()
    assert target.cli("confcheck", str(tmp_path / "app/conf/userconfig.xml")).returncode == 0
    start = time.monotonic() - began
    began = time.monotonic()
    done = target.cli("confcheck", str(path))
    assert done.returncode == 1
    assert "[config." in done.stderr
    assert "root:" not in done.stdout + done.stderr
    # Beyond what a good file takes: the command, and the process that it has check the file, must start first.
    assert time.monotonic() - began < 1 + 4 * start


@pytest.mark.parametrize("kind", ["bomb", "external", "deep"])
def test_the_agent_refuses_it_as_an_archive_and_as_cluster_xml(target, tmp_path, kind):
    before = target.tree()
    path = tmp_path / "evil.zip"
    path.write_bytes(archive(configuration=XML[kind]))
    assert target.cli("module", "install", str(path)).returncode == 1
    (tmp_path / "cluster.xml").write_text(XML[kind].replace("safe", "cluster"))
    assert target.cli("cluster", "config", str(tmp_path / "cluster.xml")).returncode == 1
    assert target.tree() == before
    assert target.answers() < 10


def test_every_error_at_once_with_its_line(target, tmp_path):
    path = tmp_path / "userconfig.xml"
    path.write_text(
        '<safe>\n<service mode="light" boot="maybe">\n<usr/>\n<user nicestoptimeout="soon"/>\n</service></safe>'
    )
    done = target.cli("confcheck", str(path))
    assert done.returncode == 1
    assert all(f"{path}:{line}: error" in done.stderr for line in (2, 3, 4))


ENTRIES = {
    "parent": [("../evil", b"x", 0o100644)],
    "absolute": [("/tmp/safekit-evil", b"x", 0o100644)],
    "drive": [("C:\\evil", b"x", 0o100644)],
    "link": [("bin/evil", b"/etc/passwd", 0o120777)],
    "device": [("bin/evil", b"", 0o020644)],
    "duplicate": [("bin/a", b"1", 0o100755), ("bin/a", b"2", 0o100755)],
    "case": [("bin/a", b"1", 0o100755), ("bin/A", b"2", 0o100755)],
    "setuid": [("bin/a", b"1", 0o104755)],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ENTRIES)
def test_an_archive_that_is_not_acceptable_writes_nothing(target, tmp_path, kind):
    before = target.tree()
    path = tmp_path / "evil.zip"
    path.write_bytes(archive(*ENTRIES[kind]))
    done = target.cli("module", "install", str(path))
    assert done.returncode == 1
    assert "[bundle." in done.stderr
    assert target.tree() == before


@pytest.mark.parametrize("data", [b"", b"PK", b"\x1f\x8b no zip", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_zip_at_all_writes_nothing(target, tmp_path, data):
    before = target.tree()
    path = tmp_path / "evil.zip"
    path.write_bytes(data)
    assert target.cli("module", "install", str(path)).returncode == 1
    assert target.tree() == before


META = "$(touch {mark}) `touch {mark}`; touch {mark} | touch {mark} && '\" \\ *"


@pytest.mark.parametrize("name", ["a;b", "../x", "$(id)", "a b", "-rf", "A", "", "x" * 100, "a\nb", "caf\u00e9"])
def test_a_name_that_is_none_is_refused(target, tmp_path, name):
    before = target.tree()
    folder = target.module(tmp_path / "plain")
    done = target.cli("module", "install", str(folder), f"--module={name}")
    assert done.returncode != 0 or name == ""
    if name:
        assert target.tree() == before
    else:
        target.remove("plain")


def test_values_reach_a_script_as_they_are(cleaned, tmp_path):
    mark = tmp_path / "mark"
    value = META.format(mark=mark)
    escaped = value.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    cleaned.installed(tmp_path, greeting=escaped, start_both='printf %s "$GREETING" > "$SAFEUSERVAR/got"')
    assert cleaned.cli("start", "app", "--wait").returncode == 0
    assert (cleaned.root / "var/lib/safekit/modules/app/got").read_text() == value
    for words in (
        ["printe", value, "-m", "app"],
        ["restart", "app", "-i", value, "--wait"],
        ["printi", f"--{value}", "-m", "app"],
    ):
        cleaned.cli(*words)
    assert value in cleaned.cli("log", "app", "--json").stdout.encode().decode("unicode_escape")
    assert not mark.exists()


def test_what_a_caller_writes_acts_on_no_terminal_and_forges_no_line(cleaned, tmp_path):
    evil = "one\n2026-01-01 00:00:00,000 E app heart: forged\x1b[2J\x1b]0;title\x07 [/red] [bold]"
    cleaned.installed(tmp_path)
    for words in (
        ["printe", evil, "-m", "app"],
        ["restart", "app", "-i", evil, "--wait"],
        ["incloop", "app", "-i", evil],
    ):
        cleaned.cli(*words)
    for words in (["log", "app"], ["cmdlog"], ["status", "app", "-v"], ["events", "app"]):
        done = cleaned.cli(*words)
        assert "\x1b" not in done.stdout + done.stderr, words
        assert "Traceback" not in done.stderr, words
    lines = cleaned.cli("log", "app").stdout.splitlines()
    assert any("forged␛[2J" in each for each in lines)
    assert not [each for each in (*lines, *cleaned.log.read_text().splitlines()) if each.startswith("2026-01-01")]
    assert "[bold]" in cleaned.cli("cmdlog").stdout
