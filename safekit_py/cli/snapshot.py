"""What support needs of a server, in memory: configuration, scripts, logs, states, versions, addresses.

Flows through it: files and answers of the agent in, entries of an archive out. Every text passes ``Hidden`` on its way,
and the cluster's key is never opened. What cannot be had is named in ``missing.txt`` instead of ending the work: a
snapshot is taken when something is wrong.
"""

from __future__ import annotations

import io
import json
import platform
import re
import socket
import subprocess
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from safekit_py import __version__
from safekit_py.cli.common import Session
from safekit_py.cli.hidden import Hidden
from safekit_py.cli.log import ALL, plain
from safekit_py.cli.support import dumped
from safekit_py.errors import SafekitError

MAX_FILE = 4 << 20  # bytes of one file that are taken, its last ones
MAX_FILES = 500  # files of one folder
LOOK = 10.0  # seconds that a program may take
KEYS = re.compile(r"\.(key|pem|p12|pfx|jks|dat)$|key$", re.IGNORECASE)  # names of files that are left out
PROGRAMS = {
    "system/addresses.txt": ("ip", "address"),
    "system/routes.txt": ("ip", "route"),
    "system/neighbours.txt": ("ip", "neighbour"),
    "system/links.txt": ("ip", "-s", "link"),
    "system/sockets.txt": ("ss", "-lntup"),
    "system/journal.txt": ("journalctl", "-u", "safekit-py", "-n", "2000", "--no-pager"),
}


@dataclass(slots=True)
class Found:
    """What was collected: entries of the archive by name, and what is missing, with why."""

    server: str
    files: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, make: Callable[[], str]) -> None:
        """Add an entry, or note why there is none."""
        try:
            self.files[name] = make()
        except SafekitError as error:
            self.missing[name] = str(error.problems[0])
        except (OSError, subprocess.SubprocessError) as error:
            self.missing[name] = str(error)


def collect(session: Session, module: str | None) -> Found:
    """Everything about one module, or about all, and about the server."""
    paths = session.paths
    found, hidden = Found(_server(paths.node_name)), Hidden()
    names = [module] if module else sorted(each.name for each in _folders(paths.modules))
    for name in names:
        hidden.learn(_text(paths.userconfig(name)) if paths.userconfig(name).is_file() else "")
    if module and not paths.module(module).is_dir():
        session.call("GET", f"/modules/{module}")  # says that there is none, and which there are
    for name in names:
        _module(session, name, found, hidden)
    found.put("cluster/cluster.xml", lambda: hidden.xml(_text(paths.cluster_xml)))
    for name, path in (("status", "/status"), ("cluster", "/cluster"), ("plugins", "/plugins"), ("agent", "/dump")):
        found.put(f"{name}.json", lambda path=path: _json(hidden.tree(session.call("GET", path))))  # type: ignore[misc]
    found.put("commands.json", lambda: _json(hidden.tree(session.call("GET", "/commands", params={"lines": 10_000}))))
    found.put("system/versions.json", _versions)
    for name, argv in PROGRAMS.items():
        found.put(name, lambda argv=argv: hidden.plain(_output(argv)))  # type: ignore[misc]
    return found


def pack(found: Found) -> bytes:
    """The archive."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(found.files.items()):
            archive.writestr(name, text)
        archive.writestr("missing.txt", "".join(f"{name}: {why}\n" for name, why in sorted(found.missing.items())))
    return memory.getvalue()


def _module(session: Session, name: str, found: Found, hidden: Hidden) -> None:
    paths, top = session.paths, f"modules/{name}"
    parameters = {"lines": ALL}
    found.put(f"{top}/dump.json", lambda: _json(hidden.tree(dumped(session, name))))
    found.put(
        f"{top}/log.txt",
        lambda: hidden.plain(
            "".join(f"{plain(each)}\n" for each in session.call("GET", f"/modules/{name}/log", params=parameters))
        ),
    )
    found.put(
        f"{top}/history.json",
        lambda: _json(hidden.tree(session.call("GET", f"/modules/{name}/history", params=parameters))),
    )
    for folder in ("conf", "bin"):
        for file in list(_files(paths.module(name) / folder))[:MAX_FILES]:
            clear = hidden.xml if file.suffix == ".xml" else hidden.plain
            entry = f"{top}/{folder}/{file.relative_to(paths.module(name) / folder)}"
            found.put(entry, lambda file=file, clear=clear: clear(_text(file)))  # type: ignore[misc]
    for entry in ("userlog", "userlog.1", "state.json"):
        file = paths.module_var(name) / entry
        if file.is_file() and not file.is_symlink():
            found.put(f"{top}/{entry}", lambda file=file: hidden.plain(_text(file)))  # type: ignore[misc]


def _folders(path: Path) -> Iterable[Path]:
    return (each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")) if path.is_dir() else ()


def _files(path: Path) -> Iterable[Path]:
    """The plain files below a folder; keys are left out by their names, and links are not followed."""
    for each in sorted(path.rglob("*")) if path.is_dir() else ():
        inside = each.is_file() and not each.is_symlink()
        if inside and not KEYS.search(each.name):
            yield each


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - MAX_FILE))
        data = stream.read(MAX_FILE)
    return "(binary)\n" if b"\0" in data else data.decode(errors="replace")


def _server(name: Path) -> str:
    try:
        return re.sub(r"[^\w.-]", "_", name.read_text().strip()) or "server"
    except OSError:
        return re.sub(r"[^\w.-]", "_", socket.gethostname())


def _json(value: object) -> str:
    return json.dumps(value, indent=2)


def _output(argv: tuple[str, ...]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=LOOK, check=False)
    return done.stdout + done.stderr


def _versions() -> str:
    values = {"safekit-py": __version__, "python": platform.python_version(), "kernel": platform.release()}
    try:
        values["system"] = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        values["system"] = platform.system()
    return _json({**values, "machine": platform.machine(), "host": socket.gethostname()})
