"""What is known of files besides their content: modes, owners, times, extended attributes, access lists, quota."""

import fcntl
import os
import stat
import struct

import pytest
from disks import MIB, looped, volume_file
from posixcalls import acl, as_nobody, opened, outcome, quotactl
from safekit_py.plugins.mirror.volume import image, system

pytestmark = pytest.mark.lab
NS = 1_000_000_000


def mode(path):
    return oct(os.stat(path).st_mode)


def test_modes_and_umask(folder, note):
    before = os.umask(0o027)
    try:
        opened("file", os.O_CREAT | os.O_WRONLY, 0o777)
        os.mkdir("dir", 0o777)
    finally:
        os.umask(before)
    seen = [mode("file"), mode("dir")]
    for bits in (0, 0o4755, 0o2755, 0o1777, 0o7777):
        os.chmod("file", bits)
        seen.append(mode("file"))
    note(seen)
    assert seen[:2] == ["0o100750", "0o40750"]


def test_set_user_id_is_lost_when_others_write(folder, note):
    seen = []
    for change in ("write", "truncate", "chown"):
        opened(change, os.O_CREAT | os.O_WRONLY)
        os.chmod(change, 0o6777)
        if change == "chown":
            os.chown(change, 65534, 65534)
        else:
            folder.chmod(0o755)
            here = os.open(".", os.O_RDONLY)

            def alter(change=change, here=here):
                os.fchdir(here)
                if change == "write":
                    fd = os.open(change, os.O_WRONLY)
                    os.write(fd, b"x")
                else:
                    os.truncate(change, 10)

            as_nobody(alter)
            os.close(here)
        seen.append(mode(change))
    note(seen)
    assert seen == ["0o100777"] * 3


def test_group_is_inherited_from_a_folder_with_setgid(folder, note):
    os.mkdir("dir")
    os.chown("dir", -1, 12345)
    os.chmod("dir", 0o2775)
    opened("dir/file", os.O_CREAT | os.O_WRONLY)
    os.mkdir("dir/sub")
    seen = [os.stat("dir/file").st_gid, os.stat("dir/sub").st_gid, mode("dir/sub")]
    note(seen)
    assert seen[:2] == [12345, 12345]


def test_owners_that_need_32_bits(folder, note):
    opened("file", os.O_CREAT | os.O_WRONLY)
    os.chown("file", 4_000_000_000, 3_999_999_999)
    about = os.stat("file")
    note([about.st_uid, about.st_gid])
    assert (about.st_uid, about.st_gid) == (4_000_000_000, 3_999_999_999)


@pytest.mark.parametrize("when", [0, -1, 1, 2**31 - 1, 2**31, 2**33, 15_032_385_534, 1 - 2**31])
def test_times_are_kept_to_the_nanosecond(folder, note, when):
    opened("file", os.O_CREAT | os.O_WRONLY)
    os.utime("file", ns=(when * NS + 123_456_789, when * NS + 987_654_321))
    about = os.stat("file")
    note([about.st_atime_ns, about.st_mtime_ns])
    assert about.st_mtime_ns == when * NS + 987_654_321


def changed(before, after):
    return [n for n in ("st_mtime_ns", "st_ctime_ns", "st_ino") if getattr(before, n) != getattr(after, n)]


def test_which_times_change(folder, note):
    """Times of files are those of the kernel's clock tick, so each look is made after a tick at least."""
    opened("file", os.O_CREAT | os.O_WRONLY)
    fd = os.open("file", os.O_RDWR)
    seen = {}
    steps = {
        "write": lambda: os.write(fd, b"x"), "chmod": lambda: os.chmod("file", 0o600),
        "link": lambda: os.link("file", "link"), "rename": lambda: os.rename("file", "other"),
        "truncate": lambda: os.ftruncate(fd, 100), "same size": lambda: os.ftruncate(fd, 100),
        "xattr": lambda: os.setxattr("other", "user.a", b"1"), "read": lambda: os.pread(fd, 10, 0),
        "unlink": lambda: os.unlink("link"), "nothing": lambda: None,
    }  # fmt: skip
    for name, step in steps.items():
        os.utime(fd, ns=(NS, NS))
        before = os.fstat(fd)
        while True:  # the clock has gone on
            os.close(os.open("tick", os.O_CREAT | os.O_TRUNC | os.O_WRONLY))
            os.utime("tick")
            if os.stat("tick").st_ctime_ns > before.st_ctime_ns:
                break
        step()
        seen[name] = changed(before, os.fstat(fd))
    os.close(fd)
    note(seen)
    assert seen["write"] == ["st_mtime_ns", "st_ctime_ns"]
    assert seen["chmod"] == seen["link"] == seen["rename"] == seen["unlink"] == ["st_ctime_ns"]
    assert seen["nothing"] == seen["read"] == []


def test_folders_times_change_with_their_entries(folder, note):
    seen = []
    for step in (lambda: opened("new", os.O_CREAT), lambda: os.rename("new", "old"), lambda: os.unlink("old")):
        os.utime(".", ns=(NS, NS))
        step()
        seen.append(os.stat(".").st_mtime_ns != NS)
    note(seen)
    assert seen == [True] * 3


@pytest.mark.parametrize("space", ["user", "trusted", "security"])
@pytest.mark.parametrize("size", [0, 1, 100, 3000])
def test_extended_attributes(folder, note, space, size):
    opened("file", os.O_CREAT)
    os.mkdir("dir")
    value = os.urandom(size)
    for path in ("file", "dir"):
        os.setxattr(path, f"{space}.some name", value)
        assert os.getxattr(path, f"{space}.some name") == value
        os.setxattr(path, f"{space}.some name", b"other", os.XATTR_REPLACE)
        assert outcome(os.setxattr, path, f"{space}.some name", b"", os.XATTR_CREATE) == "EEXIST"
    os.link("file", "link")
    assert os.getxattr("link", f"{space}.some name") == b"other"
    os.removexattr("link", f"{space}.some name")
    note([os.listxattr("file"), os.listxattr("dir")])
    assert os.listxattr("file") == []


def test_many_attributes_until_there_is_no_room(folder, note):
    opened("file", os.O_CREAT)
    count, last = 0, "ok"
    while last == "ok" and count < 1000:
        last = outcome(os.setxattr, "file", f"user.number{count}", bytes(100))
        count += last == "ok"
    note([count, last, len(os.listxattr("file"))])
    assert last == "ENOSPC"
    assert len(os.listxattr("file")) == count


USER_OBJ, USER, GROUP_OBJ, MASK, OTHER, NOBODY = 1, 2, 4, 16, 32, 65534
NONE = 0xFFFFFFFF


def test_access_lists(folder, note):
    folder.chmod(0o755)
    opened("file", os.O_CREAT | os.O_WRONLY, 0o600)
    os.mkdir("dir", 0o755)
    reach = acl((USER_OBJ, 6, NONE), (USER, 4, NOBODY), (GROUP_OBJ, 0, NONE), (MASK, 4, NONE), (OTHER, 0, NONE))
    os.setxattr("file", "system.posix_acl_access", reach)
    assert os.getxattr("file", "system.posix_acl_access") == reach
    here = os.open(".", os.O_RDONLY)

    def tries():
        os.fchdir(here)
        return [outcome(opened, "file", os.O_RDONLY), outcome(opened, "file", os.O_WRONLY)]

    seen = [mode("file"), as_nobody(tries)]
    os.chmod("file", 0o600)  # takes the mask away
    seen.append(as_nobody(tries))
    inherited = acl((USER_OBJ, 7, NONE), (USER, 7, NOBODY), (GROUP_OBJ, 5, NONE), (MASK, 7, NONE), (OTHER, 0, NONE))
    os.setxattr("dir", "system.posix_acl_default", inherited)
    opened("dir/child", os.O_CREAT | os.O_WRONLY, 0o666)
    seen.extend([mode("dir/child"), os.getxattr("dir/child", "system.posix_acl_access").hex()])
    seen.append(outcome(os.setxattr, "file", "system.posix_acl_access", struct.pack("<I", 2) + b"rubbish!"))
    os.close(here)
    note(seen)
    assert seen[:3] == ["0o100640", "['ok', 'EACCES']", "['EACCES', 'EACCES']"]
    assert seen[-1] == "EINVAL"


def test_capabilities_are_lost_on_write(folder, note):
    opened("program", os.O_CREAT | os.O_WRONLY, 0o755)
    os.setxattr("program", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    before = "security.capability" in os.listxattr("program")
    (folder / "program").write_bytes(b"changed")
    note([before, os.listxattr("program")])
    assert before
    assert os.listxattr("program") == []


def test_immutable_and_append_only(folder, note):
    flags = {"i": 0x10, "a": 0x20}
    seen = []
    for letter, flag in flags.items():
        opened(letter, os.O_CREAT | os.O_WRONLY)
        fd = os.open(letter, os.O_RDONLY)
        fcntl.ioctl(fd, 0x40086602, struct.pack("l", flag))
        seen.extend(outcome(call) for call in (
            lambda n=letter: opened(n, os.O_WRONLY), lambda n=letter: opened(n, os.O_WRONLY | os.O_APPEND),
            lambda n=letter: os.unlink(n), lambda n=letter: os.truncate(n, 0),
        ))  # fmt: skip
        fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0))
        os.close(fd)
    note(seen)
    assert seen == ["EPERM"] * 4 + ["EPERM", "ok", "EPERM", "EPERM"]


def test_special_files(folder, note):
    os.mkfifo("fifo", 0o600)
    os.mknod("char", 0o600 | stat.S_IFCHR, os.makedev(240, 70000))
    os.mknod("block", 0o600 | stat.S_IFBLK, os.makedev(4000, 1))
    note([(os.stat(n).st_rdev, mode(n)) for n in ("fifo", "char", "block")])
    assert os.stat("char").st_rdev == os.makedev(240, 70000)


def test_the_file_system_says_what_it_is(folder, note):
    about = os.statvfs(folder)
    note([about.f_bsize, about.f_frsize, about.f_blocks, about.f_files, about.f_namemax, about.f_flag])
    assert about.f_namemax == 255


def test_quota(tmp_path, request):
    """A user's limit holds on a volume; where this kernel knows the format of ext4's quota."""
    size = 64 * MIB
    file = tmp_path / "probe.img"
    image.create(file, size)
    try:
        with looped(file, tmp_path / "probe", quota=True):
            pass
    except OSError as error:
        pytest.skip(f"this kernel has no quota for ext4: {error}")
    with volume_file(tmp_path / "v", size) as (volume, _), looped(volume, tmp_path / "mnt", quota=True) as path:
        device = next(each.source for each in system.mounts() if each.target == path)
        limit = struct.pack("QQQQQQQQI4x", 1024, 1024, 0, 0, 0, 0, 0, 0, 1)
        quotactl(0x800008, 0, device, NOBODY, limit)
        path.chmod(0o777)

        def fill():
            os.chdir(path)
            return outcome(lambda: (path / "mine").write_bytes(bytes(4 * MIB)))

        assert as_nobody(fill) == "EDQUOT"
