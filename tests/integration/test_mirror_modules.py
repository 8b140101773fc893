"""MariaDB and Firebird in a mirror: after each fault every commit that a client was told of is there, once."""

import re
from pathlib import Path

import pytest
from database_support import VIP, CommandLine, kill, pair, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
ROOT = "/usr/lib/*/firebird/3.0"


def mysql(made, folder):
    def prepare(host):
        words = "create database lab; create table lab.ledger (id bigint not null) engine=innodb;"
        words += "create user lab identified by 'lab'; grant all on lab.* to lab;"
        made.run(host, "mariadb", "--socket=/run/mysqld/mysqld.sock", text=words)

    made.first_start(folder, prepare)
    options = ["--batch", "--skip-column-names", "--unbuffered", "--connect-timeout=1"]
    argv = ["mariadb", *options, "--host", VIP, "--user=lab", "--password=lab", "lab"]
    insert = "insert into ledger values ({number}); select id from ledger where id = {number};"
    return CommandLine(made, argv, insert, "select id from ledger;\n")


def firebird(made, folder):
    """Each server has its own directory, so clients know the database by an alias."""
    password = Path("/etc/firebird/3.0/SYSDBA.password").read_text()
    env = {
        "ISC_USER": "sysdba",
        "ISC_PASSWORD": re.search(r"^ISC_PASSWORD=\"?([^\"\n]*)", password, re.MULTILINE).group(1),
    }

    def macros(host):
        root = made.lab.root(host) / "firebird"
        file = made.data(host) / "ledger.fdb"
        links = f"mkdir {root} && ln -s {ROOT}/* {root} && rm {root}/databases.conf && ls {root}"
        assert "firebird.conf" in made.run(host, "sh", "-c", links).split()
        (root / "databases.conf").write_text(f"ledger = {file}\n")
        return {"ROOTDIR": root}

    def prepare(_host):
        words = f"create database '{VIP}:ledger' default character set iso8859_1;\n"
        words += "create table ledger (id bigint not null); commit;\n"
        made.run("client1", "env", *(f"{k}={v}" for k, v in env.items()), "isql-fb", "-q", "-b", text=words)

    made.first_start(folder, prepare, macros)
    heading = "set heading off;"
    insert = (
        heading + " insert into ledger values ({number}); commit; select id from ledger where id = {number}; commit;"
    )
    argv = ["isql-fb", "-q", "-b", f"{VIP}:ledger"]
    return CommandLine(made, argv, f"{heading} {insert}", heading + " select id from ledger;\n", env)


DATABASES = {"mysql": (mysql, "mariadbd"), "firebird": (firebird, "firebird")}


@pytest.fixture(scope="module", params=DATABASES)
def database(request, tmp_path_factory):
    """The pair, its client, and the name of the database's process."""
    with pair(request.param) as made:
        make, program = DATABASES[request.param]
        try:
            yield made, make(made, tmp_path_factory.mktemp(request.param)), program
        finally:
            made.show()


@pytest.fixture
def ledger(database):
    yield database[1]
    database[1].stop()


def test_a_power_cut_of_the_primary_and_its_return(database, ledger):
    made, _, _ = database
    primary, secondary = made.roles()
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
    assert ledger.check() >= 40


def test_kill_9_is_repaired_on_its_server(database, ledger):
    made, _, program = database
    roles = made.roles()
    starts, before = made.starts(roles[0]), made.processes(roles[0], program)
    assert before
    ledger.begin()
    kill(made, roles[0], before)
    wait_for(lambda: made.starts(roles[0]) > starts, 30)
    ledger.end()
    assert made.roles() == roles
    ledger.check()


def test_swap_under_commits(database, ledger):
    made, _, program = database
    primary, secondary = made.roles()
    ledger.begin()
    made.cli(primary, "swap", made.module)
    made.both(secondary, primary)
    longest = ledger.end()
    assert longest < 10
    ledger.check()
    assert made.processes(primary, program) == []
    assert made.cli(secondary, "rfsverify", "-m", made.module).returncode == 0
