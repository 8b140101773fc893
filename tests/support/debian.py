"""A Debian of a test's own: programs run in its folder, and what is left there of the package."""

import subprocess

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLEAN = ["env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
FIND = ["find", "/", "-xdev", "-name", "*safekit*"]
REMEMBERED = ("/var/lib/dpkg/", "/var/cache/", "/var/log/", "/tmp/")  # by apt and dpkg, and what the test has put there


def run(*command, check=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def inside(folder, *command, check=True):
    """Run a program in a system, with this machine's network."""
    return run(*CLEAN, "chroot", str(folder), *command, check=check)


def traces(folder):
    """Every path of the system that has to do with the package; what apt and dpkg remember of it left out."""
    return beside(inside(folder, *FIND).stdout)


def beside(found):
    """The paths that ``FIND`` has found, without those."""
    return [each for each in found.split() if not each.startswith(REMEMBERED)]
