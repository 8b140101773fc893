"""What is known of a lab between two commands: one folder each, with state.json, the hosts' roots and their logs."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from safekit_py.errors import NotFoundError, Problem, StateError
from safekit_py.lab.identity import Process
from safekit_py.lab.plan import Host

BASE = Path("/run/safekit-lab")
SWITCH = "switch"


@dataclass(slots=True)
class Record:
    """One lab.

    :param maker: the process that is making it; None once it is up.
    :param inits: the first process of each running host, and of the switch.
    """

    name: str
    folder: Path
    hosts: tuple[Host, ...]
    owner: int = 0
    agent: bool = True
    restart: float = 1.0
    maker: Process | None = None
    inits: dict[str, Process] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether it is up or is being made; hosts whose maker died half-way are remains."""
        return self.maker.alive if self.maker else any(each.alive for each in self.inits.values())

    def save(self) -> None:
        """Replace state.json in one step."""
        values = {
            "name": self.name,
            "hosts": [each.as_dict() for each in self.hosts],
            "owner": self.owner,
            "agent": self.agent,
            "restart": self.restart,
            "maker": _pair(self.maker),
            "inits": {name: _pair(each) for name, each in self.inits.items()},
        }
        path = self.folder / "state.json"
        path.with_suffix(".new").write_text(json.dumps(values, indent=1))
        path.with_suffix(".new").replace(path)

    def remove(self) -> None:
        """Kill what runs and delete the files; the switch last, so that no host sees its network end."""
        for name in sorted(self.inits, key=lambda each: each == SWITCH):
            self.inits[name].kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _pair(process: Process | None) -> list[int] | None:
    return [process.pid, process.started] if process else None


def claim(name: str, hosts: tuple[Host, ...]) -> Record:
    """Make the folder of a new lab, over the remains of one that crashed.

    :raises StateError: a lab of this name runs.
    """
    folder = BASE / name
    BASE.mkdir(parents=True, exist_ok=True, mode=0o755)
    while True:
        try:
            folder.mkdir(mode=0o755)
            break
        except FileExistsError:
            old = load(name)
            if old and old.live:
                problem = Problem(
                    "lab.exists", f"The lab {name} is up", f"safekit-py lab down --name {name}, or choose another name"
                )
                raise StateError(problem) from None
            old.remove() if old else shutil.rmtree(folder, ignore_errors=True)
    record = Record(name, folder, hosts, maker=Process.of(os.getpid()))
    record.save()
    return record


def load(name: str) -> Record | None:
    """The lab of this name, running or crashed; None when there is none or when its record cannot be read."""
    folder = BASE / name
    try:
        values = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return Record(
        name,
        folder,
        tuple(Host.from_dict(each) for each in values["hosts"]),
        values["owner"],
        values["agent"],
        values["restart"],
        Process(*values["maker"]) if values["maker"] else None,
        {key: Process(*pair) for key, pair in values["inits"].items()},
    )


def find(name: str) -> Record:
    """The lab of this name.

    :raises NotFoundError: there is none.
    """
    record = load(name)
    if record is None:
        known = ", ".join(names()) or "none"
        raise NotFoundError(
            Problem("lab.not-found", f"There is no lab {name}", f"safekit-py lab up --name {name}; there are: {known}")
        )
    return record


def names() -> list[str]:
    """Every lab, running or crashed."""
    return sorted(each.name for each in BASE.iterdir() if each.is_dir()) if BASE.is_dir() else []
