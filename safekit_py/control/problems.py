"""Findings as answers of the API: RFC 9457 problem documents."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from safekit_py.errors import AccessError, ConfigError, NotFoundError, SafekitError, StateError

STATUS = {NotFoundError: 404, StateError: 409, ConfigError: 422, AccessError: 403}


def document(error: SafekitError) -> JSONResponse:
    """The answer for an error: its first finding as the title, all of them as ``problems``."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    body = {
        "type": f"urn:safekit:{error.code}",
        "title": error.problems[0].message,
        "status": status,
        "problems": [p.as_dict() for p in error.problems],
    }
    return JSONResponse(body, status, media_type="application/problem+json")


async def handler(_: Request, error: Exception) -> Response:
    """The same, as FastAPI wants its handlers."""
    assert isinstance(error, SafekitError)
    return document(error)
