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
from starlette.responses import Response

from safekit_py import __version__
from safekit_py.control import routes, schemas
from safekit_py.control.routing import Operation, Query

if TYPE_CHECKING:
    from safekit_py.runtime.agent import Agent


REFUSED: dict[str, Any] = {"model": schemas.ProblemDocument, "description": "Refused; nothing has changed"}


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
            answer = get_type_hints(each.endpoint)["return"]
            app.add_api_route(
                each.path,
                _described(each),
                methods=[each.method],
                status_code=each.status,
                responses={422: REFUSED, 404: REFUSED, 409: REFUSED},
                tags=list(each.tags),
                response_model=None if answer is Response else answer,
            )
    return app.openapi()


if __name__ == "__main__":
    json.dump(document(), sys.stdout)
