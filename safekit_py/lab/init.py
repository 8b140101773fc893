"""The first process of one host of a lab: it makes the host's namespaces, then runs the agent as systemd would.

Run by file, not as a module, so that it stays small: a lab has one of these for each host. It reads one line of JSON
from standard input (see ``Lab``), prints ``pid N`` and ``ready`` or ``error TEXT``, and waits for ``go`` before it
starts the agent. Without that line, because its maker died, it ends.

The host is this process: when it ends, however it ends, the kernel kills every process of the host and drops its
network, its mounts and its pinned kernel objects. Nothing is left to clean up but files.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

NEW_NS, NEW_UTS, NEW_PID, NEW_NET = 0x00020000, 0x04000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
LIBC = ctypes.CDLL(None, use_errno=True)

# Written when the namespace has the file: a kernel without IPv6 or without cubic is no reason to fail.
SETTINGS = {
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv4/tcp_congestion_control": "cubic",
}
SWITCH_SETTINGS = {"net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1"}


def main() -> NoReturn:
    """Leave the maker's namespaces and become a host."""
    plan = json.loads(sys.stdin.readline())
    owner = os.pidfd_open(plan["owner"]) if plan["owner"] else None
    os.setsid()
    _check(LIBC.unshare(NEW_NS | NEW_UTS | NEW_PID | NEW_NET), "unshare")
    pid = os.fork()
    if pid:
        print(f"pid {pid}", flush=True)
        os._exit(0)
    try:
        _prepare(plan)
        print("ready", flush=True)
    except OSError as error:
        print(f"error {error}", flush=True)
        os._exit(1)
    if sys.stdin.readline() != "go\n":
        os._exit(1)
    quiet = os.open(os.devnull, os.O_RDWR)
    for each in (0, 1):
        os.dup2(quiet, each)
    _live(plan, owner)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    values = (source.encode(), target.encode(), kind.encode() or None)
    _check(LIBC.mount(*values, ctypes.c_ulong(flags), None), f"mount {target}")


def _forget_volumes() -> None:
    """Images and volumes that the machine has mounted are not this host's: it would keep them from being taken away.

    What this program itself stands on stays.
    """
    needed = [Path(each).resolve() for each in (__file__, sys.prefix, sys.executable, Path.cwd(), "/run")]
    mounts = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    for source, target, kind, *_ in reversed(mounts):
        if source.startswith("/dev/loop") or kind == "fuse" or kind.startswith("fuse."):
            place = target.encode().decode("unicode_escape").encode("latin-1")
            if not any(each.is_relative_to(os.fsdecode(place)) for each in needed):
                LIBC.umount2(place, MNT_DETACH)


def _prepare(plan: dict[str, Any]) -> None:
    """The host's own view of the system: processes, devices, pinned kernel objects, /run and its name."""
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    _forget_volumes()
    _mount("proc", "/proc", "proc")
    _mount("sysfs", "/sys", "sysfs")
    _mount("bpf", "/sys/fs/bpf", "bpf")
    # The labs' folder stands in /run: held open, it is put back into the host's empty /run.
    base = plan["base"]
    held = os.open(base, os.O_PATH | os.O_DIRECTORY)
    _mount("tmpfs", "/run", "tmpfs")
    Path(base).mkdir(parents=True, exist_ok=True)
    _mount(f"/proc/self/fd/{held}", base, flags=MS_BIND)
    os.close(held)
    # A host's start is a boot of its own.
    Path("/run/boot_id").write_text(f"{uuid.uuid4()}\n")
    _mount("/run/boot_id", "/proc/sys/kernel/random/boot_id", flags=MS_BIND)
    socket.sethostname(plan["host"])
    for name, value in (SWITCH_SETTINGS if plan["switch"] else SETTINGS).items():
        try:
            (Path("/proc/sys") / name).write_text(value)
        except OSError:
            continue


def _live(plan: dict[str, Any], owner: int | None) -> NoReturn:
    """Reap what dies, start the agent again, end with the owner."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    if owner is not None:
        poll.register(owner, select.POLLIN)
    agent, due = 0, time.monotonic() if plan["agent"] else None
    while True:
        if due is not None and time.monotonic() >= due:
            # An agent that was replaced has left its lock to the next one: then there is nothing to start.
            agent, due = (0, time.monotonic() + plan["restart"]) if _locked(plan) else (_start(plan), None)
        wait = None if due is None else max(0, due - time.monotonic()) * 1000 + 1
        events = dict(poll.poll(wait))
        if owner is not None and owner in events:
            _end(plan)
        if woken in events:
            os.read(woken, 4096)
        for pid in _reaped():
            if pid == agent and plan["restart"]:
                due = time.monotonic() + plan["restart"]


def _locked(plan: dict[str, Any]) -> bool:
    """Whether an agent runs that this program did not start."""
    try:
        lock = os.open(Path(plan["env"]["SAFEKIT_ROOT"]) / "run/safekit/agent.lock", os.O_WRONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _reaped() -> list[int]:
    """Every child that ended, orphans of the host's programs included."""
    found: list[int] = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append(pid)


def _start(plan: dict[str, Any]) -> int:
    log = os.open(plan["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir("/")
            os.execvpe(plan["agent"][0], plan["agent"], plan["env"])  # noqa: S606 - an argument list, no shell
        finally:
            os._exit(127)
    os.close(log)
    return pid


def _end(plan: dict[str, Any]) -> NoReturn:
    """The owner is gone. The switch removes the lab's files, after the last host has left it."""
    if plan["switch"]:
        end = time.monotonic() + 5
        ports = Path("/sys/class/net")
        while any("." in each.name for each in ports.iterdir()) and time.monotonic() < end:
            time.sleep(0.02)
        shutil.rmtree(plan["folder"], ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
