"""The API's OpenAPI document, made by FastAPI: ``python -m safekit_py.control.document`` prints it.

Flows through it: the operations that the agent serves, in; the document out. The agent runs this in a child for
``GET /openapi.json``, so that FastAPI and pydantic are never in its own memory.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin, get_type_hints

from fastapi import FastAPI
from fastapi import Query as FastQuery
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from safekit_py import __version__
from safekit_py.control import routes, schemas
from safekit_py.control.routing import JSON, Operation, Query

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent


REFUSED = {
    400: "It is no request",
    401: "It is not known who calls",
    403: "The caller's role does not reach, or a session's call lacks its proof",
    404: "There is no such thing",
    409: "Not in this state; nothing has changed",
    413: "The body is too large; nothing has changed",
    422: "A value is not what it should be; nothing has changed",
    500: "This server could not do it",
    502: "The agent, or another server, does not answer",
}
PROBLEM = "application/problem+json"
SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "of safekit-py token create"},
    "session": {"type": "apiKey", "in": "cookie", "name": "__Host-safekit", "description": "of POST /login; a call "
                "that changes something also sends X-CSRF-Token"},
}  # fmt: skip


def _hint(path: str, name: str, hint: Any) -> Any:
    """A parameter's type as FastAPI wants it: one of the query says so."""
    limits = Query()
    if get_origin(hint) is Annotated:
        hint, *others = get_args(hint)
        limits = next((each for each in others if isinstance(each, Query)), limits)
    listed = list[str] in (hint, *get_args(hint))
    if f"{{{name}" in path or (limits == Query() and not listed):
        return hint
    return Annotated[hint, FastQuery(**{key: each for key, each in asdict(limits).items() if each is not None})]


def _described(operation: Operation) -> Any:
    """A function of the operation's name, text and signature; it is never called."""

    async def described() -> None: ...

    endpoint = operation.endpoint
    hints = get_type_hints(endpoint, include_extras=True)
    described.__name__, described.__doc__ = endpoint.__name__, endpoint.__doc__
    described.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            each.replace(annotation=_hint(operation.path, name, hints[name]), kind=inspect.Parameter.KEYWORD_ONLY)
            for name, each in inspect.signature(endpoint).parameters.items()
            if hints[name] is not Request
        ]
    )
    return described


def document() -> dict[str, Any]:
    """The document of all operations of the agent itself; those of plugins are not in it."""
    app = FastAPI(title="safekit_py", version=__version__)
    nobody = cast("Agent", None)  # the operations are described, never called
    for part in routes.ALL:
        for each in part.router(nobody).operations:
            _add(app, each)
    made = app.openapi()
    for path in made["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    answer["content"] = {PROBLEM: answer["content"].pop(JSON)}
    made["components"]["securitySchemes"] = SECURITY
    made["security"] = [{name: []} for name in SECURITY]
    return made


def _add(app: FastAPI, operation: Operation) -> None:
    answer = get_type_hints(operation.endpoint)["return"]
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": schemas.ProblemDocument, "description": text} for status, text in REFUSED.items()
    }
    extra: dict[str, Any] = {"x-least-role": operation.role.word}
    if operation.takes:
        content = {operation.takes: {"schema": {"type": "string", "format": "binary"}}}
        extra["requestBody"] = {"required": True, "content": content}
    if answer is Response:
        responses[operation.status] = {"content": {operation.gives: {"schema": {"type": "string"}}}}
    app.add_api_route(
        operation.path,
        _described(operation),
        methods=[operation.method],
        status_code=operation.status,
        responses=responses,
        response_class=Response if answer is Response else JSONResponse,
        tags=list(operation.tags),
        response_model=None if answer is Response else answer,
        openapi_extra=extra,
    )


if __name__ == "__main__":
    json.dump(document(), sys.stdout)
