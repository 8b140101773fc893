"""Tokens and users: no secret is kept, only the right secret is taken, and a damaged file lets nobody in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.errors import SafekitError, SystemProblem
from safekit_py.runtime import accounts
from safekit_py.runtime.accounts import Accounts

HASH = "$argon2id$v=19$m=65536,t=3,p=4$sNn/ooAnd2bz7qcMaJ3O9w$n96m0FzVqPhAmSYCE8nexYrbgcYF1IuKy1ckMN8c7ME"


@given(st.floats(1, 1e6), st.floats(0, 2e6), st.text(max_size=60))
def test_only_the_secret_and_only_in_its_time(lasts, later, guess):
    now, token, secret = Accounts().created("ci", "monitor", 1e9, lasts)
    assert (now.token(secret, 1e9 + later) == token) == (1e9 + later < token.expires)
    assert now.token(guess, 1e9) is None
    assert now.token(f"skp_{token.ident}_{guess}", 1e9) is None
    assert now.revoked(token.ident).token(secret, 1e9) is None


def test_one_for_ever():
    now, token, secret = Accounts().created("ci", "admin", 1e9, None)
    assert now.token(secret, 1e12) == token


def test_the_file(tmp_path):
    path = tmp_path / "access.json"
    assert accounts.load(path) == Accounts()
    now, _, secret = Accounts().created("ci", "admin", 1e9, None)
    now = now.with_user("alice", "control", HASH)
    accounts.save(path, now)
    assert accounts.load(path) == now
    assert secret.rpartition("_")[2] not in path.read_text()
    path.chmod(0o644)
    with pytest.raises(SystemProblem, match="others may read"):
        accounts.load(path)
    path.chmod(0o600)
    for text in ("", "[]", "{}", '{"tokens": [{}], "users": []}', '{"tokens": 1, "users": []}'):
        path.write_text(text)
        with pytest.raises(SystemProblem) as caught:
            accounts.load(path)
        assert caught.value.code == "access.damaged"


def test_a_user_changes_in_parts():
    now = Accounts().with_user("alice", "control", HASH).with_user("alice", "admin", "")
    assert now.user("alice").role == "admin"
    other = HASH[:-1] + "F"
    now = now.with_user("alice", "", other)
    assert (now.user("alice").role, now.user("alice").hash, len(now.users)) == ("admin", other, 1)
    assert now.without_user("alice") == Accounts()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a: a.with_user("bob", "admin", ""), "access.no-user"),
        (lambda a: a.with_user("b/ob", "admin", HASH), "access.bad-name"),
        (lambda a: a.with_user("bob", "root", HASH), "access.bad-role"),
        (lambda a: a.with_user("bob", "admin", "plain"), "access.bad-hash"),
        (lambda a: a.with_user("bob", "admin", HASH.replace("65536", "9999999")), "access.bad-hash"),
        (lambda a: a.without_user("bob"), "access.no-user"),
        (lambda a: a.revoked("x"), "access.no-token"),
        (lambda a: a.created("", "admin", 0, None), "access.bad-name"),
    ],
)
def test_what_cannot_be(change, code):
    with pytest.raises(SafekitError) as caught:
        change(Accounts())
    assert caught.value.code == code


def test_there_is_a_most(monkeypatch):
    monkeypatch.setattr(accounts, "MOST", 1)
    now = Accounts().with_user("alice", "admin", HASH)
    assert now.with_user("alice", "monitor", HASH).user("alice").role == "monitor"
    with pytest.raises(SafekitError, match="too-many"):
        now.with_user("bob", "admin", HASH)
