"""The operations of the agent's API, as the modules below ``routes`` declare them.

Flows through it: functions in, by decorators; a list of operations out. Their signatures say everything: ``app`` serves
them with Starlette alone, and ``document`` makes FastAPI's OpenAPI document of them in a process of its own. So the
agent needs neither FastAPI nor pydantic, which would cost it as much memory as all the rest of its code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from safekit_py.control.access import Role

JSON = "application/json"
Endpoint = Callable[..., Awaitable[Any]]
Declared = TypeVar("Declared", bound=Endpoint)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a value of the query must be, beyond its type: ``Annotated[int, Query(ge=1)]``.

    :param alias: its name in the query, where that is no name in Python.
    """

    alias: str | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    :param status: of the answer when all is well.
    :param role: the least that a caller needs.
    :param takes: media type of a body that is no document.
    :param gives: media type of the answer when all is well.
    """

    method: str
    path: str
    endpoint: Endpoint
    status: int
    tags: tuple[str, ...]
    role: Role
    takes: str = ""
    gives: str = JSON


class Routes:
    """The operations that one module declares.

    :param prefix: of all their paths.
    :param tags: by which the OpenAPI document groups them.
    :param changes: the least role for an operation that does more than look.
    :param looks: the least role for one that only looks.
    """

    def __init__(self, prefix: str, tags: list[str], *, changes: Role, looks: Role = Role.MONITOR) -> None:
        self._prefix, self._tags = prefix, tuple(tags)
        self._changes, self._looks = changes, looks
        self.operations: list[Operation] = []

    def get(self, path: str, role: Role | None = None, gives: str = JSON) -> Callable[[Declared], Declared]:
        """Declare an operation that only looks; ``role`` where it needs another one than the rest."""
        return self._declare("GET", path, 200, self._looks if role is None else role, gives=gives)

    def post(self, path: str, role: Role | None = None) -> Callable[[Declared], Declared]:
        """Declare an operation that does something."""
        return self._declare("POST", path, 200, role)

    def put(self, path: str, status_code: int = 200, takes: str = "") -> Callable[[Declared], Declared]:
        """Declare an operation that sets something."""
        return self._declare("PUT", path, status_code, takes=takes)

    def delete(self, path: str) -> Callable[[Declared], Declared]:
        """Declare an operation that takes something away."""
        return self._declare("DELETE", path, 200)

    def _declare(
        self, method: str, path: str, status: int, role: Role | None = None, *, takes: str = "", gives: str = JSON
    ) -> Callable[[Declared], Declared]:
        least = self._changes if role is None else role

        def declared(endpoint: Declared) -> Declared:
            made = Operation(method, self._prefix + path, endpoint, status, self._tags, least, takes, gives)
            self.operations.append(made)
            return endpoint

        return declared


def said(description: str = "", default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A field of a document.

    :param description: for the OpenAPI document.
    :param default: an empty list or dict is made anew for each document.
    :param limits: ``max_length`` of a text or a list; ``pattern`` that a text has in it.
    """
    told = {**({"description": description} if description else {}), **limits}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=told)
    return dataclasses.field(default=default, metadata=told)
