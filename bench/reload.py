"""How soon an edited configuration of a running module takes effect, and what the watch over the files costs.

    .venv/bin/python bench/reload.py [--modules 32] [--runs 20]

One agent with light modules that run. Each run writes another interval of a checker into the userconfig.xml of one of
them, and measures until the module's script ``update`` has run, which is after the checker was changed. Printed:
median and maximum, the agent's memory, and its processor time a minute at rest and while a file changes all the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from safekit_py.bundle import install as bundle
from safekit_py.model.paths import Paths

REPOSITORY = Path(__file__).resolve().parent.parent
XML = (
    '<safe><service mode="light"><check><tcp ident="a" when="both" action="noaction">'
    '<to addr="127.0.0.1" port="9" interval="{}s"/></tcp></check><user/></service></safe>'
)


def cli(paths, *words):
    command = [sys.executable, "-m", "safekit_py", "--root", str(paths.root), *words]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


def environment():
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def memory(pid):
    """Resident MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def processor(pid):
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def install(paths, names, folder):
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "conf/userconfig.xml").write_text(XML.format(10))
    (folder / "bin/update").write_text("#!/bin/sh\n: > $SAFEUSERVAR/updated\n")
    archive = bundle.package(folder, folder.parent)
    for number, name in enumerate(names):
        done = cli(paths, "module", "install", str(archive), "-m", name, "-M", str(number))
        assert done.returncode == 0, done.stderr
        assert cli(paths, "start", name, "--wait").returncode == 0


def once(paths, name, interval):
    """Seconds from the write to the end of the script."""
    mark = paths.module_var(name) / "updated"
    mark.unlink(missing_ok=True)
    began = time.monotonic()
    paths.userconfig(name).write_text(XML.format(interval))
    while not mark.exists():
        if time.monotonic() - began > 20:
            raise SystemExit("not taken within 20 s")
        time.sleep(0.002)
    return time.monotonic() - began


def storm(paths, name, seconds):
    """Change a file all the time."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        paths.userconfig(name).write_text(XML.format(11 + count % 80))
        count += 1
        time.sleep(0.001)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", type=int, default=32)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder) / "root")
        command = [sys.executable, "-m", "safekit_py", "--root", str(paths.root), "agent"]
        agent = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
        try:
            while cli(paths, "status").returncode:
                time.sleep(0.1)
            names = [f"m{number}" for number in range(options.modules)]
            install(paths, names, Path(folder) / "app")
            time.sleep(1)
            took = []
            for run in range(options.runs):
                took.append(once(paths, names[run % len(names)], 11 + run))
                time.sleep(0.5)
            print(f"{options.modules} modules, {options.runs} edits")
            print(f"effect after  median {statistics.median(took):.2f} s, maximum {max(took):.2f} s")
            print(f"agent         {memory(agent.pid):.1f} MiB resident")
            before = processor(agent.pid)
            time.sleep(15)
            print(f"at rest       {(processor(agent.pid) - before) * 4:.2f} s of a processor a minute")
            before = processor(agent.pid)
            count = storm(paths, names[0], 5)
            used = (processor(agent.pid) - before) * 12
            print(f"in a storm    {used:.1f} s of a processor a minute, at {count / 5:.0f} writes a second")
        finally:
            agent.terminate()
            agent.wait(60)


if __name__ == "__main__":
    main()
