"""errd: from the kill of a process to its resource's down, and what 50 watched processes cost.

Repeat it with:  python bench/errd.py --runs 50 --idle 60     (as root; a lab server with one light module)
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from safekit_py.lab import Lab

HOST = "server1"
TICKS = os.sysconf("SC_CLK_TCK")


def cli(lab, *words):
    done = lab.run(HOST, ["safekit-py", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"safekit-py {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def wait_for(what):
    end = time.monotonic() + 30
    while not what():
        if time.monotonic() > end:
            raise SystemExit("not seen in 30 s")
        time.sleep(0.1)


def module(folder, procs):
    (folder / "conf").mkdir(parents=True)
    (folder / "bin").mkdir()
    watched = "".join(f'<proc name="{name}" action="noaction"/>' for name in procs)
    text = f'<safe><service mode="light"><user/>{f"<errd>{watched}</errd>" if procs else ""}</service></safe>'
    (folder / "conf/userconfig.xml").write_text(text)
    return folder


def values(lab, name):
    return {e["resource"]: e["value"] for e in json.loads(cli(lab, "errd", "list", "--json", "-m", name))}


def agent(lab):
    found = lab.run(HOST, ["pgrep", "-f", "safekit_py agent"], capture_output=True, text=True).stdout.split()
    return int(found[0])


def used(lab, pid):
    """Seconds of CPU and MB of memory of its own that the agent has used."""
    stat = lab.run(HOST, ["cat", f"/proc/{pid}/stat"], capture_output=True, text=True, check=True).stdout
    fields = stat.rpartition(")")[2].split()
    rollup = lab.run(HOST, ["cat", f"/proc/{pid}/smaps_rollup"], capture_output=True, text=True, check=True).stdout
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    return (int(fields[11]) + int(fields[12])) / TICKS, private / 1024


def latency(lab, runs, program):
    """Of each run: when the log says down, less when the kill was sent. Both are times of this machine's one clock."""
    name = program.name
    found = []
    for _ in range(runs):
        process = lab.popen(HOST, [str(program), "7000"])
        cli(lab, "errd", "off", "-m", "bench")
        cli(lab, "errd", "on", "-m", "bench")
        wait_for(lambda: values(lab, "bench")[f"proc.{name}"] == "up")
        killed = time.time()
        process.kill()
        process.wait()
        wait_for(lambda: values(lab, "bench")[f"proc.{name}"] == "down")
        lines = cli(lab, "log", "bench", "--json", "--lines", "200").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        downs = [e["time"] for e in events if e["kind"] == "resource" and e["data"]["value"] == "down"
                 and e["data"]["resource"] == f"proc.{name}" and e["time"] >= killed]  # fmt: skip
        found.append(1000 * (min(downs) - killed))
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--idle", type=float, default=65.0, help="seconds for which the CPU is measured")
    options = parser.parse_args()
    with Lab.up(f"e{os.getpid()}", servers=1, owner=os.getpid()) as lab, tempfile.TemporaryDirectory() as folder:
        wait_for(lambda: lab.run(HOST, ["safekit-py", "status"], capture_output=True).returncode == 0)
        program = lab.root(HOST) / "e-bench"
        shutil.copy("/bin/sleep", program)
        running = [lab.popen(HOST, [str(program), "7000"])]
        for name, procs in (("idle", ()), ("bench", (program.name, *(f"e-none{n}" for n in range(49))))):
            cli(lab, "module", "install", str(module(Path(folder) / name, procs)))
            cli(lab, "start", name, "--wait")
            time.sleep(5)
            pid = agent(lab)
            before, private = used(lab, pid)
            time.sleep(options.idle)
            cpu = used(lab, pid)[0] - before
            what = f"{len(procs)} processes watched at default intervals"
            print(f"{what}: {100 * cpu / options.idle:.2f} % of a core, {private:.1f} MB private", flush=True)
        running[0].kill()
        running[0].wait()
        found = latency(lab, options.runs, program)
        print(f"from kill to down, {len(found)} runs: median {statistics.median(found):.0f} ms, max {found[-1]:.0f} ms")


if __name__ == "__main__":
    main()
