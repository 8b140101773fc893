"""Events reach a journal's socket with all their fields, whatever is in them; without a journal nothing waits."""

import fcntl
import os
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.model.event import Event
from safekit_py.model.state import Severity
from safekit_py.runtime import journal


def event(message="UP Ready", **data):
    return Event(1.0, "app", Severity.WARNING, "heart", message, "resource", data)


def decode(data):
    """What journald would read: a field is NAME=value, or NAME, the value's length and the value."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found[name.decode()] = value.decode()
        data = rest
    return found


@pytest.fixture
def listener(tmp_path):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "socket"))
    made.settimeout(5)
    yield made
    made.close()


@pytest.fixture
def sender(tmp_path):
    made = journal.Journal(tmp_path / "socket")
    yield made
    made.close()


def test_an_event_arrives_with_its_fields(listener, sender):
    assert sender.event(event("down", resource="tcp.a", value="down", cause="refused"))
    assert decode(listener.recv(65536)) == {
        "MESSAGE": "app heart: down",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "safekit-py",
        "SAFEKIT_MODULE": "app",
        "SAFEKIT_KIND": "resource",
        "SAFEKIT_SOURCE": "heart",
        "SAFEKIT_SEVERITY": "W",
        "SAFEKIT_RESOURCE": "tcp.a",
        "SAFEKIT_VALUE": "down",
        "SAFEKIT_CAUSE": "refused",
    }


def test_line_feeds_cannot_make_a_field(listener, sender):
    assert sender.event(event("one\nPRIORITY=0\ntwo"))
    found = decode(listener.recv(65536))
    assert found["MESSAGE"] == "app heart: one\nPRIORITY=0\ntwo"
    assert found["PRIORITY"] == "4"


def test_what_is_too_large_for_a_datagram_comes_as_a_sealed_file(listener, sender):
    message = "x" * 2_000_000
    assert sender.event(event(message))
    data, files, _, _ = socket.recv_fds(listener, 65536, 4)
    assert not data
    (file,) = files
    with os.fdopen(file, "rb") as stream:
        assert fcntl.fcntl(file, fcntl.F_GET_SEALS) == journal.SEALS
        stream.seek(0)
        assert decode(stream.read())["MESSAGE"] == f"app heart: {message}"


def test_without_a_journal_the_caller_is_told(tmp_path, sender):
    assert not sender.event(event())
    assert not sender.event(event("x" * 2_000_000))
    late = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    late.bind(str(tmp_path / "socket"))
    assert sender.event(event())  # it came back
    late.close()


def test_a_journal_that_does_not_read_holds_nobody_up(listener, sender):
    began = time.monotonic()
    taken = [sender.event(event()) for _ in range(5000)]
    assert time.monotonic() - began < 30
    assert taken[0]
    assert not taken[-1]


def test_every_severity_has_its_priority():
    assert [journal.PRIORITY[each] for each in Severity] == ["2", "3", "4", "6", "7"]


def test_a_plugin_cannot_replace_our_fields():
    data = {"module": "other", "odd-näme": "x", "y" * 80: "z"}
    found = journal.fields(Event(1.0, "app", Severity.INFO, "heart", "text", "log", data))
    assert found["SAFEKIT_MODULE"] == "app"
    assert found["SAFEKIT_ODD_N_ME"] == "x"
    assert all(len(name) <= 64 for name in found)


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text()))
def test_every_text_comes_through(values):
    sound = {name: text.encode(errors="replace").decode() for name, text in values.items()}
    assert decode(journal.encode(values)) == sound


def test_the_journal_is_ours_only_when_our_output_leads_there(tmp_path):
    with (tmp_path / "file").open("wb") as stream:
        status = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert journal.under_systemd(stream.fileno(), named)
        assert not journal.under_systemd(2, named)
    for wrong in ({}, {"JOURNAL_STREAM": ""}, {"JOURNAL_STREAM": "8"}, {"JOURNAL_STREAM": "a:b"}):
        assert not journal.under_systemd(2, wrong)


def test_an_event_goes_to_one_place_only(tmp_path, listener):
    with (tmp_path / "file").open("wb") as stream:
        status = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        path = tmp_path / "socket"
        assert journal.sink(stream.fileno(), named, path)(event())
        assert decode(listener.recv(65536))["MESSAGE"] == "app heart: UP Ready"
        assert not journal.sink(stream.fileno(), {}, path)(event())
        assert not journal.sink(stream.fileno(), named, tmp_path / "nowhere")(event())
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(1)
