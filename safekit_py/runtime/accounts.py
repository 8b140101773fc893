"""Who may call this server's API over the network: tokens for programs, accounts for people.

Flows through it: changes of an administrator in; one file out, which the web process reads. Only the agent writes it.
Invariant: no secret is kept. Of a token there is its SHA-256 digest, which suffices for 256 random bits; of a password
the Argon2id hash, which the command line makes, so that no password ever reaches the agent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safekit_py.errors import ConfigError, NotFoundError, Problem, SystemProblem
from safekit_py.runtime.files import write_atomically

MOST = 1000  # tokens, and as many users
PREFIX = "skp"
ROLES = ("monitor", "control", "admin")
JOIN = "join"  # the role of a token that lets one server join the cluster, and nothing else
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
# Of our own strength only: a hash that asks for more would cost the web process its memory at each login.
HASH = re.compile(r"\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{10,64}\$[A-Za-z0-9+/]{20,128}")


@dataclass(frozen=True, slots=True)
class Token:
    """What a program calls with.

    :param made: seconds since the epoch.
    :param expires: seconds since the epoch; 0 for never.
    :param digest: SHA-256 of its secret, in hexadecimal.
    """

    ident: str
    name: str
    role: str
    made: float
    expires: float
    digest: str


@dataclass(frozen=True, slots=True)
class User:
    """A person.

    :param hash: of the password, as Argon2 writes it.
    """

    name: str
    role: str
    hash: str


@dataclass(frozen=True, slots=True)
class Accounts:
    """All of them; a change makes a new value."""

    tokens: tuple[Token, ...] = ()
    users: tuple[User, ...] = ()

    def created(self, name: str, role: str, now: float, lasts: float | None) -> tuple[Accounts, Token, str]:
        """With a new token; the token, and what the caller must present, which is nowhere else.

        :param lasts: seconds; None for ever.
        :raises ConfigError: the name or the role cannot be, or there are too many.
        """
        _check(name, role, len(self.tokens), (*ROLES, JOIN))
        ident, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        expires = 0.0 if lasts is None else now + lasts
        token = Token(ident, name, role, now, expires, _digest(secret))
        return replace(self, tokens=(*self.tokens, token)), token, f"{PREFIX}_{ident}_{secret}"

    def revoked(self, ident: str) -> Accounts:
        """Without a token.

        :raises NotFoundError: there is none.
        """
        left = tuple(each for each in self.tokens if each.ident != ident)
        if len(left) == len(self.tokens):
            raise NotFoundError(Problem("access.no-token", f"there is no token {ident}", "safekit-py token list"))
        return replace(self, tokens=left)

    def token(self, presented: str, now: float) -> Token | None:
        """The token that a caller presents, if it is one and has not expired."""
        prefix, _, rest = presented.partition("_")
        ident, _, secret = rest.partition("_")
        for each in self.tokens:
            if prefix == PREFIX and each.ident == ident and hmac.compare_digest(each.digest, _digest(secret)):
                return each if not each.expires or now < each.expires else None
        return None

    def user(self, name: str) -> User | None:
        """A person by name."""
        return next((each for each in self.users if each.name == name), None)

    def with_user(self, name: str, role: str, password_hash: str) -> Accounts:
        """With a person added or changed; what is empty stays as it was.

        :raises ConfigError: a value cannot be.
        :raises NotFoundError: it is new, and role or password is missing.
        """
        old = self.user(name)
        role, password_hash = role or (old.role if old else ""), password_hash or (old.hash if old else "")
        if old is None and not (role and password_hash):
            raise NotFoundError(Problem("access.no-user", f"there is no user {name}", "safekit-py user add NAME"))
        _check(name, role, len(self.users) - (old is not None))
        if not HASH.fullmatch(password_hash):
            text = "the password's hash is none of Argon2id with the usual strength"
            raise ConfigError(Problem("access.bad-hash", text, "let safekit-py user password NAME make it"))
        others = tuple(each for each in self.users if each.name != name)
        return replace(self, users=(*others, User(name, role, password_hash)))

    def without_user(self, name: str) -> Accounts:
        """Without a person.

        :raises NotFoundError: there is none.
        """
        if self.user(name) is None:
            raise NotFoundError(Problem("access.no-user", f"there is no user {name}", "safekit-py user list"))
        return replace(self, users=tuple(each for each in self.users if each.name != name))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _check(name: str, role: str, there: int, roles: tuple[str, ...] = ROLES) -> None:
    if not NAME.fullmatch(name):
        remedy = "at most 64 letters, digits and _ . @ -, a letter or digit first"
        raise ConfigError(Problem("access.bad-name", "this cannot be a name of a token or user", remedy))
    if role not in roles:
        raise ConfigError(Problem("access.bad-role", "there is no such role", f"one of: {', '.join(ROLES)}"))
    if there >= MOST:
        raise ConfigError(Problem("access.too-many", f"there are {MOST} already", "remove those that nobody uses"))


def load(path: Path) -> Accounts:
    """Read the file; nobody when there is none.

    :raises SystemProblem: it is damaged, or others can read it: then nobody is let in.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError("others may read it")
        found: dict[str, Any] = json.loads(path.read_bytes())
        tokens = tuple(Token(**each) for each in found["tokens"])
        return Accounts(tokens, tuple(User(**each) for each in found["users"]))
    except FileNotFoundError:
        return Accounts()
    except (OSError, ValueError, LookupError, TypeError) as error:
        text = f"the file of tokens and users cannot be used: {error}"
        remedy = "put a good copy back with mode 600, or remove it and make tokens and users anew"
        raise SystemProblem(Problem("access.damaged", text, remedy, str(path))) from error


def save(path: Path, accounts: Accounts) -> None:
    """Write the file, for its owner only.

    :raises OSError: the disk is full or the folder is not writable.
    """
    write_atomically(path, json.dumps(asdict(accounts), indent=1).encode(), 0o600)
