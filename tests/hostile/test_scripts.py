"""Scripts that hang, fork away, fail, flood, or that others could have changed."""

import time
from pathlib import Path

import pytest


def gone(pid):
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(what, limit=20):
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_one_that_hangs_is_killed_with_what_it_started(cleaned, tmp_path):
    mark = tmp_path / "pid"
    cleaned.installed(tmp_path, start_both=f"sleep 300 & echo $! > {mark}; trap '' TERM; sleep 300")
    done = cleaned.cli("start", "app", "--wait")
    assert done.returncode == 1
    assert "script.timeout" in done.stderr
    wait_for(lambda: gone(int(mark.read_text())))
    assert cleaned.answers() < 10


def test_one_that_forks_away_leaves_a_service_and_is_not_waited_for(cleaned, tmp_path):
    mark = tmp_path / "pid"
    cleaned.installed(
        tmp_path,
        start_both=f"setsid sleep 300 & echo $! > {mark}",
        stop_both=f'[ "$1" = force ] && kill $(cat {mark}); :',
    )
    assert cleaned.cli("start", "app", "--wait").returncode == 0
    assert not gone(int(mark.read_text()))
    assert cleaned.cli("stop", "app", "--wait").returncode == 0
    wait_for(lambda: gone(int(mark.read_text())))


def test_one_that_fails_counts_against_maxloop_and_then_stops_the_module(cleaned, tmp_path):
    cleaned.installed(tmp_path, start_both="echo once >> $SAFEUSERVAR/count; exit 1")
    assert cleaned.cli("start", "app", "--wait").returncode == 1
    assert cleaned.cli("waitstop", "app", "-t", "30").returncode == 0
    assert "maxloop" in cleaned.cli("status", "app").stdout
    count = (cleaned.root / "var/lib/safekit/modules/app/count").read_text().split()
    assert len(count) == 2, "once by the command, once by maxloop=1"


def test_one_that_prints_a_gigabyte_fills_no_disk(cleaned, tmp_path):
    cleaned.installed(
        tmp_path, start_both="yes 0123456789012345678901234567890123456789 | head -c 1000000000; sleep 0.5"
    )
    cleaned.cli("start", "app", "--wait")
    folder = cleaned.root / "var/lib/safekit/modules/app"
    assert sum(path.stat().st_size for path in folder.glob("userlog*")) < 1_000_000
    assert cleaned.answers() < 10


@pytest.mark.parametrize("kind", ["script", "folder"])
def test_one_that_others_could_have_changed_is_refused_at_each_run(cleaned, tmp_path, kind):
    installed = cleaned.installed(tmp_path, start_both="echo ran >> $SAFEUSERVAR/ran")
    path = installed / "bin" / ("start_both" if kind == "script" else "")
    ran = cleaned.root / "var/lib/safekit/modules/app/ran"
    ran.unlink(missing_ok=True)
    assert cleaned.cli("start", "app", "--wait").returncode == 0
    cleaned.cli("stop", "app", "--wait")
    path.chmod(0o777)
    done = cleaned.cli("start", "app", "--wait")
    assert "script.unsafe" in done.stderr
    assert f"chmod go-w {path}" in done.stderr
    path.chmod(0o755)
    assert ran.read_text() == "ran\n"


def test_a_link_where_the_user_log_stands_is_not_followed(cleaned, tmp_path):
    cleaned.installed(tmp_path, start_both="echo overwritten")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    log = cleaned.root / "var/lib/safekit/modules/app/userlog"
    log.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.symlink_to(victim)
    done = cleaned.cli("start", "app", "--wait")
    assert "script.no-log" in done.stderr
    assert victim.read_text() == "precious"
    log.unlink()


def test_temporary_folders_are_private_and_none_is_left(cleaned, tmp_path):
    """A name that somebody could guess, and take first, is never used."""
    cleaned.installed(tmp_path, start_both=":")
    assert list(cleaned.temporary.iterdir()) == []
