"""Real processes of a name of their own, which end with the test."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NUMBERS = itertools.count()


class Daemons:
    """Starts and kills processes whose kernel name is ``name``."""

    def __init__(self, folder):
        self.name = f"d{os.getpid()}x{next(NUMBERS)}"[-15:]
        self.program = folder / self.name
        shutil.copy("/bin/sleep", self.program)
        self.running = []

    def start(self, seconds="600"):
        process = subprocess.Popen([self.program, seconds])
        # Between fork and exec it has its parent's name.
        while Path(f"/proc/{process.pid}/comm").read_text().strip() != self.name:
            pass
        self.running.append(process)
        return process

    def kill(self, process):
        process.kill()
        process.wait()
        self.running.remove(process)


@pytest.fixture
def daemons(tmp_path):
    made = Daemons(tmp_path)
    yield made
    for process in made.running:
        process.kill()
        process.wait()
