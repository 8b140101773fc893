"""PostgreSQL in a mirror: after each fault every commit that a client was told of is there, once."""

import json
import subprocess

import pytest
from database_support import VIP, kill, pair, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
TRUST = "host all all 10.77.0.0/24 trust"


class Ledger:
    """The client that commits and the one that checks, on the client's host."""

    def __init__(self, made):
        self._made, self._record, self._process = made, made.lab.root("client1") / "commits", None

    def begin(self):
        """Commit beside what follows, once the first twenty are acknowledged."""
        before = self.acknowledged()
        self._process = self._start("write")
        wait_for(lambda: self.acknowledged() >= before + 20, 20)

    def end(self):
        """The longest time without a commit, in seconds."""
        before = self.acknowledged()
        try:
            wait_for(lambda: self.acknowledged() >= before + 20, 30)
        finally:
            text = self.stop()
        return json.loads(text)["longest"]

    def stop(self):
        if self._process is None:
            return ""
        text, _ = self._process.communicate(timeout=30)
        self._process = None
        return text

    def check(self):
        text, _ = self._start("check").communicate(timeout=60)
        found = json.loads(text)
        assert (found["lost"], found["twice"], found["strange"]) == ([], [], [])
        assert found["acknowledged"] == self.acknowledged() > 0

    def acknowledged(self):
        return self._record.read_text().count("+") if self._record.exists() else 0

    def _start(self, what):
        argv = ["python3", "-m", "safekit_py.lab.ledger", what, VIP, "5432", str(self._record)]
        return self._made.lab.popen("client1", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pair("postgresql") as lab:

        def let_clients_in(host):
            file = lab.data(host) / "pg_hba.conf"
            reload = "runuser -u postgres -- psql -qAtc 'select pg_reload_conf()'"
            lab.run(host, "sh", "-c", f"echo '{TRUST}' >>{file} && sync {file} && {reload}")

        try:
            lab.first_start(tmp_path_factory.mktemp("postgresql"), let_clients_in)
            yield lab
        finally:
            lab.show()


@pytest.fixture(scope="module")
def ledger(made):
    return Ledger(made)


@pytest.fixture
def roles(made, ledger):
    yield made.roles()
    ledger.stop()


def test_a_power_cut_of_the_primary_and_its_return(made, ledger, roles):
    primary, secondary = roles
    ledger.begin()
    made.lab.kill(primary)
    wait_for(lambda: made.now(secondary) == "ALONE Ready", 30)
    longest = ledger.end()
    assert longest < 15
    ledger.check()
    ledger.begin()
    made.lab.boot(primary)
    made.both(secondary, primary)
    ledger.end()
    ledger.check()


def test_kill_9_of_postgresql_is_repaired_on_its_server(made, ledger, roles):
    primary, _ = roles
    before = made.starts(primary)
    ledger.begin()
    kill(made, primary, made.processes(primary, "postgres"))
    wait_for(lambda: made.starts(primary) > before, 30)
    ledger.end()
    assert made.roles() == roles
    ledger.check()


def test_kill_9_of_the_main_process_alone_leaves_none_of_its_children(made, ledger, roles):
    primary, _ = roles
    starts, before = made.starts(primary), made.processes(primary, "postgres")
    ledger.begin()
    kill(made, primary, before[:1])
    wait_for(lambda: made.starts(primary) > starts, 30)
    ledger.end()
    assert made.roles() == roles
    assert not set(before) & set(made.processes(primary, "postgres"))
    ledger.check()


def test_swap_under_commits(made, ledger, roles):
    primary, secondary = roles
    ledger.begin()
    made.cli(primary, "swap", "postgresql")
    made.both(secondary, primary)
    longest = ledger.end()
    assert longest < 10
    ledger.check()
    assert made.cli(secondary, "rfsverify", "-m", "postgresql").returncode == 0
