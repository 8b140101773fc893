"""Hostile archives: each is rejected with its own code, and nothing is written."""

import io
import os
import stat
import struct
import time
import zipfile

import pytest

from safekit_py.bundle import archive
from safekit_py.bundle.install import install
from safekit_py.config.checked import Checked
from safekit_py.errors import ConfigError
from safekit_py.model.config import ModuleConfig, Service
from safekit_py.model.paths import Paths

CONF = ("conf/userconfig.xml", b"<safe/>")


def accept(_data, _file, _macros):
    return Checked(ModuleConfig(Service("farm")))


def packed(*entries, conf=True, **attributes):
    """A zip of (name, bytes) with the attributes set on the last entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in [*([CONF] if conf else []), *entries]:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            if (name, data) == entries[-1]:
                for key, value in attributes.items():
                    setattr(info, key, value)
            target.writestr(info, data, info.compress_type)
    return buffer.getvalue()


def mode(bits):
    return {"external_attr": bits << 16, "create_system": 3}


def patched(data, old, new):
    assert data.count(old) >= 2, "the name stands in the header and in the table of contents"
    return data.replace(old, new)


def rejected(data, tmp_path, check=accept):
    """Install it; returns the code, having seen that the disk is untouched."""
    paths = Paths(tmp_path / "root")
    with pytest.raises(ConfigError) as caught:
        install(io.BytesIO(data), "app", paths, {}, check)
    assert not paths.root.exists(), "a rejection writes nothing"
    assert caught.value.problems[0].remedy
    return caught.value.code.removeprefix("bundle.")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../evil", "parent-path"),
        ("bin/../../evil", "parent-path"),
        ("..", "parent-path"),
        ("/etc/passwd", "absolute-path"),
        ("C:/evil", "drive-path"),
        ("c:evil", "drive-path"),
        ("bin\\evil", "backslash"),
        ("..\\evil", "backslash"),
        ("bin//x", "odd-path"),
        ("./x", "odd-path"),
        ("bin/./x", "odd-path"),
        ("bin/a\nb", "control-character"),
        ("bin/\x1b[2J", "control-character"),
        ("bin/\u202egnp.sh", "control-character"),
        ("x/" * 40 + "y", "long-path"),
        ("x" * 300, "long-path"),
    ],
)
def test_paths(name, code, tmp_path):
    assert rejected(packed((name, b"x")), tmp_path) == code


def test_nul_in_a_name(tmp_path):
    data = patched(packed(("bin/aQb", b"x")), b"bin/aQb", b"bin/a\0b")
    assert rejected(data, tmp_path) == "control-character"


@pytest.mark.parametrize(
    ("bits", "code"),
    [
        (stat.S_IFLNK | 0o777, "link"),
        (stat.S_IFCHR | 0o600, "device"),
        (stat.S_IFBLK | 0o600, "device"),
        (stat.S_IFIFO | 0o600, "device"),
        (stat.S_IFSOCK | 0o600, "device"),
        (stat.S_IFDIR | 0o755, "device"),
        (stat.S_IFREG | 0o4755, "setuid"),
        (stat.S_IFREG | 0o2755, "setuid"),
    ],
)
def test_kinds(bits, code, tmp_path):
    assert rejected(packed(("bin/x", b"/etc/passwd"), **mode(bits)), tmp_path) == code


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("bin/x", "bin/x"), "duplicate"),
        (("conf/userconfig.xml",), "duplicate"),
        (("bin/x", "bin/X"), "case-clash"),
        (("bin/x", "Bin/y"), "case-clash"),
        (("bin/\u00e9", "bin/e\u0301"), "case-clash"),
        (("bin/stra\u00dfe", "bin/STRASSE"), "case-clash"),
        (("bin", "bin/x"), "duplicate"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_meet(names, code, tmp_path):
    assert rejected(packed(*((each, b"x") for each in names)), tmp_path) == code


@pytest.mark.parametrize(
    "entries",
    [
        (("bin/x", b""),),
        (("a/conf/userconfig.xml", b""), ("b/x", b"")),
        (("a/b/conf/userconfig.xml", b""),),
        (("conf/", b""),),
    ],
)
def test_no_userconfig(entries, tmp_path):
    assert rejected(packed(*entries, conf=False), tmp_path) == "no-userconfig"


def test_too_many_entries(tmp_path):
    data = packed(*((f"bin/{n}", b"") for n in range(archive.MAX_ENTRIES)))
    began = time.process_time()
    assert rejected(data, tmp_path) == "too-many-files"
    assert time.process_time() - began < 1


def test_compression_bomb(tmp_path):
    assert rejected(packed(("bin/x", b"\0" * (8 << 20))), tmp_path) == "bomb"


def test_too_much_as_declared(tmp_path):
    data = packed(("bin/x", b"x"))
    at = data.rfind(b"PK\x01\x02")
    data = data[: at + 24] + struct.pack("<L", 0xFFFFFFF0) + data[at + 28 :]
    assert rejected(data, tmp_path) == "too-big"


def test_too_much_in_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 3 << 20)
    data = packed(("bin/x", os.urandom(2 << 20)), ("bin/y", os.urandom(2 << 20)))
    for name in (b"bin/x", b"bin/y"):  # the table of contents says 1 byte each
        at = data.rfind(name) - 46
        data = data[: at + 24] + struct.pack("<L", 1) + data[at + 28 :]
    assert rejected(data, tmp_path) in ("damaged", "too-big")


def test_encrypted(tmp_path):
    data = packed(("bin/x", b"x"))
    at = data.rfind(b"PK\x01\x02")
    assert rejected(data[: at + 8] + b"\x01\x00" + data[at + 10 :], tmp_path) == "encrypted"


def test_unusual_compression(tmp_path):
    assert rejected(packed(("bin/x", b"x" * 99), compress_type=zipfile.ZIP_LZMA), tmp_path) == "compression"


def test_damaged_data(tmp_path):
    content = os.urandom(1000)
    data = packed(("bin/x", content), compress_type=zipfile.ZIP_STORED)
    assert rejected(data.replace(content, content[:-1] + bytes([content[-1] ^ 1])), tmp_path) == "damaged"


def test_another_name_in_the_local_header(tmp_path):
    assert rejected(packed(("bin/x", b"x")).replace(b"bin/x", b"bin/y", 1), tmp_path) == "damaged"


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x1f\x8b tar.gz", b"PK\x05\x06" + b"\xff" * 18, packed(("x", b""))[:-30]]
)
def test_not_a_zip(data, tmp_path):
    assert rejected(data, tmp_path) in ("not-a-zip", "too-many-files")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError) as caught:
        install(tmp_path / "nothing.zip", "app", Paths(tmp_path / "root"), {}, accept)
    assert caught.value.code == "bundle.unreadable"


@pytest.mark.parametrize("kind", ["link", "fifo", "setuid"])
def test_a_folder_is_held_to_the_same_rules(kind, tmp_path):
    folder = tmp_path / "module"
    (folder / "conf").mkdir(parents=True)
    (folder / "conf/userconfig.xml").write_bytes(b"<safe/>")
    odd = folder / "odd"
    if kind == "link":
        odd.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(odd)
    else:
        odd.write_bytes(b"")
        odd.chmod(0o4755)
    with pytest.raises(ConfigError) as caught:
        install(folder, "app", Paths(tmp_path / "root"), {}, accept)
    assert caught.value.code == {"link": "bundle.link", "fifo": "bundle.device", "setuid": "bundle.setuid"}[kind]
    assert not (tmp_path / "root").exists()
