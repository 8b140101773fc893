"""Findings as answers of the API: RFC 9457 problem documents."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from safekit_py.errors import AccessError, ConfigError, NotFoundError, Problem, SafekitError, StateError

STATUS = {NotFoundError: 404, StateError: 409, ConfigError: 422, AccessError: 403}


def document(error: SafekitError, status: int = 0) -> JSONResponse:
    """The answer for an error: its first finding as the title, all of them as ``problems``.

    :param status: of HTTP, where the error's kind does not say it.
    """
    status = status or next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    body = {
        "type": f"urn:safekit:{error.code}",
        "title": error.problems[0].message,
        "status": status,
        "problems": [p.as_dict() for p in error.problems],
    }
    return JSONResponse(body, status, media_type="application/problem+json")


async def handler(_: Request, error: Exception) -> Response:
    """The same, as Starlette wants its handlers."""
    assert isinstance(error, SafekitError)
    return document(error)


async def refused(request: Request, error: Exception) -> Response:
    """The answer to a call of something that the API does not have."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail.lower()}"
    found = Problem("request.unknown", text, "GET /openapi.json tells what there is")
    answer = document(SafekitError(found), error.status_code)
    answer.headers.update(error.headers or {})
    return answer
