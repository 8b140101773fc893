"""What is measured on a mounted file system; shared by the benches of volumes.

Each workload takes a directory and returns how fast it was: MB, calls or files a second, or how many times a second the
whole could be done. Larger is better everywhere, so that a ratio above 1 is a gain.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from safekit_py.plugins.mirror.volume import system

MIB = 1 << 20
SEQUENTIAL = 384 * MIB
RANDOM_FILE = 64 * MIB
SYNCS = 1.5  # seconds
FILES = 10_000
COLD_BLOCKS = 2000
PGBENCH = 5  # seconds
BELOW = Path(os.environ.get("BENCH_FOLDER", "/var/tmp"))  # on the disk of all images
ROOT = Path(__file__).resolve().parent.parent.parent
CONTENT = Path(os.__file__).parent  # of the archive: Python's own library


def settle(folder: Path) -> None:
    """Nothing of an earlier workload is still to be written: neither here, nor on the disk below.

    Not ``os.sync``: that would wait for every file system of the machine, also for one that stands still in a test.
    """
    for each in (folder, BELOW):
        fd = os.open(each, os.O_RDONLY)
        try:
            system.syncfs(fd)
        finally:
            os.close(fd)


def drop_caches(folder: Path) -> None:
    settle(folder)
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _noise(size: int) -> bytes:
    return random.Random(5).randbytes(size)


def sequential(folder: Path) -> float:
    """MB/s of 1 MiB writes and one fsync at the end."""
    block, path = _noise(MIB), folder / "sequential"
    path.unlink(missing_ok=True)
    settle(folder)
    begun = time.monotonic()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for _ in range(SEQUENTIAL // MIB):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)
    return SEQUENTIAL / 1e6 / (time.monotonic() - begun)


def _read_all(path: Path) -> float:
    memory = memoryview(mmap.mmap(-1, MIB))
    fd = os.open(path, os.O_RDONLY)
    begun = time.monotonic()
    while os.readv(fd, [memory]):
        pass
    took = time.monotonic() - begun
    os.close(fd)
    return path.stat().st_size / 1e6 / took


def warm(folder: Path) -> float:
    """MB/s of reading a file that is in memory; four times, the best: it is memory that is measured."""
    path = folder / "sequential"
    _read_all(path)
    return max(_read_all(path) for _ in range(4))


def cold(folder: Path) -> float:
    """MB/s of reading a file from its disk."""
    drop_caches(folder)
    return _read_all(folder / "sequential")


def cold_random(folder: Path) -> float:
    """4 KiB reads a second, at random, from the disk."""
    path, draw = folder / "sequential", random.Random(3)
    blocks = path.stat().st_size // 4096
    places = [draw.randrange(blocks) * 4096 for _ in range(COLD_BLOCKS)]
    drop_caches(folder)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    begun = time.monotonic()
    for place in places:
        os.pread(fd, 4096, place)
    took = time.monotonic() - begun
    os.close(fd)
    return COLD_BLOCKS / took


def _syncer(path: Path, seed: int, start: float, counts: multiprocessing.Queue[int]) -> None:
    draw, block, done = random.Random(seed), _noise(4096), 0
    fd = os.open(path, os.O_WRONLY)
    time.sleep(max(0.0, start - time.monotonic()))
    while time.monotonic() < start + SYNCS:
        os.pwrite(fd, block, draw.randrange(RANDOM_FILE // 4096) * 4096)
        os.fdatasync(fd)
        done += 1
    counts.put(done)


def _syncs(folder: Path, jobs: int) -> float:
    paths = [folder / f"random{number}" for number in range(jobs)]
    for path in paths:
        if not path.exists():
            path.write_bytes(_noise(RANDOM_FILE))
    settle(folder)
    forked = multiprocessing.get_context("fork")
    counts: multiprocessing.Queue[int] = forked.Queue()
    start = time.monotonic() + 0.2
    processes = [forked.Process(target=_syncer, args=(path, n, start, counts)) for n, path in enumerate(paths)]
    for process in processes:
        process.start()
    done = sum(counts.get() for _ in processes)
    for process in processes:
        process.join()
    return done / SYNCS


def syncs1(folder: Path) -> float:
    """4 KiB random writes a second, each with fdatasync."""
    return _syncs(folder, 1)


def syncs4(folder: Path) -> float:
    """The same of four processes, each with its own file, together."""
    return _syncs(folder, 4)


def files(folder: Path, count: int) -> Iterator[tuple[str, float]]:
    """Files a second: files of 100 bytes in 100 directories are made, looked at, renamed and removed."""
    top = folder / "files"
    shutil.rmtree(top, ignore_errors=True)
    for number in range(100):
        (top / str(number)).mkdir(parents=True)
    names = [f"{top}/{number % 100}/{number}" for number in range(count)]
    text = b"x" * 100

    def create(name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT)
        os.write(fd, text)
        os.close(fd)

    steps: list[tuple[str, Callable[[str], object]]] = [
        ("create", create),
        ("stat", os.stat),
        ("rename", lambda name: os.rename(name, name + "r")),  # noqa: PTH104
        ("unlink", lambda name: os.unlink(name + "r")),  # noqa: PTH108
    ]
    for what, do in steps:
        settle(folder)
        begun = time.monotonic()
        for name in names:
            do(name)
        yield what, count / (time.monotonic() - begun)


def make_inputs(folder: Path) -> None:
    """What untar and git clone need, outside of what is measured."""
    with tarfile.open(folder / "archive.tar", "w") as archive:
        archive.add(CONTENT, "content", filter=lambda each: None if each.name.endswith((".pyc", "test")) else each)
    repository = folder / "repository"
    shutil.copytree(ROOT, repository, ignore=shutil.ignore_patterns(".git", ".venv", "*cache*"), symlinks=True)
    git = ["git", "-C", str(repository), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"], ["gc", "-q"]):
        subprocess.run([*git, *words], check=True, stdout=subprocess.DEVNULL)


def _whole(folder: Path, name: str, *argv: str) -> float:
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    settle(folder)
    begun = time.monotonic()
    subprocess.run(argv, cwd=target, check=True, stdout=subprocess.DEVNULL)
    return 1 / (time.monotonic() - begun)


def untar(folder: Path, inputs: Path) -> float:
    """Times a second that an archive of Python's library is unpacked."""
    return _whole(folder, "untar", "tar", "xf", str(inputs / "archive.tar"))


def clone(folder: Path, inputs: Path) -> float:
    """Times a second that this project is cloned by git."""
    return _whole(folder, "clone", "git", "clone", "-q", "--no-hardlinks", str(inputs / "repository"), "clone")


def pgbench(folder: Path) -> float:
    """Transactions a second of pgbench with four connections, for PGBENCH seconds, on a PostgreSQL of its own."""
    data, sockets = folder / "postgres", Path(tempfile.mkdtemp(prefix="bench-pg-"))
    shutil.chown(sockets, "postgres")
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))

    def run(*argv: str | Path) -> str:
        words = ["runuser", "-u", "postgres", "--", *map(str, argv)]
        return subprocess.run(words, cwd="/", check=True, capture_output=True, text=True).stdout

    if not data.exists():
        data.mkdir()
        shutil.chown(data, "postgres")
        run(programs / "initdb", "-D", data)
    settle(folder)
    place = f"-c listen_addresses='' -c unix_socket_directories={sockets}"
    run(programs / "pg_ctl", "start", "-w", "-D", data, "-l", sockets / "log", "-o", place)
    try:
        run(programs / "pgbench", "-i", "-q", "-s", "10", "-h", sockets, "postgres")
        text = run(programs / "pgbench", "-c", "4", "-T", str(PGBENCH), "-h", sockets, "postgres")
    finally:
        run(programs / "pg_ctl", "stop", "-w", "-m", "fast", "-D", data)
        shutil.rmtree(sockets)
    return next(float(line.split()[2]) for line in text.splitlines() if line.startswith("tps = "))


def steps(inputs: Path, wanted: frozenset[str], count: int) -> Iterator[Callable[[Path], dict[str, float]]]:
    """What one round does with each target, in order; each returns what it measured.

    A step is done with all targets before the next begins: what else this machine does disturbs all alike.
    """
    if wanted & {"sequential", "warm", "cold", "cold random"}:
        yield lambda folder: {"sequential": sequential(folder)}
    for name, do in (("warm", warm), ("cold", cold), ("cold random", cold_random), ("fdatasync 1", syncs1),
                     ("fdatasync 4", syncs4)):  # fmt: skip
        if name in wanted:
            yield lambda folder, name=name, do=do: {name: do(folder)}
    if "files" in wanted:
        yield lambda folder: dict(files(folder, count))
    for name, whole in (("untar", untar), ("git clone", clone)):
        if name in wanted and (name != "git clone" or shutil.which("git")):
            yield lambda folder, name=name, whole=whole: {name: whole(folder, inputs)}
    if "pgbench" in wanted and Path("/usr/lib/postgresql").is_dir():
        yield lambda folder: {"pgbench": pgbench(folder)}


def measure(
    targets: dict[str, Path], inputs: Path, wanted: frozenset[str], rounds: int, count: int = FILES
) -> dict[str, list[dict[str, float]]]:
    """Rounds over all targets; the first of all is thrown away: it makes the files that the others overwrite."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
    for number in range(rounds + 1):
        found: dict[str, dict[str, float]] = {name: {} for name in targets}
        for step in steps(inputs, wanted, count):
            for name, folder in targets.items():
                found[name].update(step(folder))
        for name, values in found.items():
            print(f"round {number}, {name}: {', '.join(f'{what} {value:.4g}' for what, value in values.items())}",
                  file=sys.stderr, flush=True)  # fmt: skip
            if number:
                results[name].append(values)
    return results


ALL = (
    "sequential",
    "fdatasync 1",
    "fdatasync 4",
    "files",
    "untar",
    "git clone",
    "pgbench",
    "warm",
    "cold",
    "cold random",
)
ROWS = {
    "sequential": "sequential write, fsync at the end, MB/s",
    "fdatasync 1": "4 KiB random write + fdatasync, 1 job, per s",
    "fdatasync 4": "the same, 4 jobs",
    "create": "create small files, per s",
    "stat": "stat, per s",
    "rename": "rename, per s",
    "unlink": "unlink, per s",
    "untar": "untar, times per s",
    "git clone": "git clone, times per s",
    "pgbench": "pgbench -c 4, transactions per s",
    "warm": "read, warm, MB/s",
    "cold": "read, cold, MB/s",
    "cold random": "read 4 KiB at random, cold, per s",
}


def table(results: dict[str, list[dict[str, float]]], base: str) -> str:
    """Medians of all rounds, and in brackets the ratio to the base: the median of the rounds' ratios."""

    def median(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    targets = list(results)
    lines = ["| what | " + " | ".join(targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for row, text in ROWS.items():
        if row not in results[base][0]:
            continue
        cells = []
        for target in targets:
            values = [each[row] for each in results[target]]
            cell = f"{median(values):.4g}"
            if target != base:
                ratio = median(
                    [each[row] / plain[row] for each, plain in zip(results[target], results[base], strict=True)]
                )
                cell += f" ({ratio:.3g})"
            cells.append(cell)
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit("run bench/volume.py")
