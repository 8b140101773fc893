"""The mosaic: a page whose tiles are fetched over one connection each and coloured by the server that answered.

Flows through it: requests of anybody in; a page, its script and style, and this server's name out. It stands on the
port of the health answers, so a farm with a rule for that port shares the tiles among its servers.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safekit_py.runtime.agent import Agent

FOLDER = Path(__file__).parent / "mosaic_page"
FILES = {"/mosaic": ("mosaic.html", "text/html"), "/mosaic.js": ("mosaic.js", "text/javascript"),
         "/mosaic.css": ("mosaic.css", "text/css")}  # fmt: skip
HEADS = {
    "Content-Security-Policy": "default-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def routes(agent: Agent) -> list[Route]:
    """The page, what it needs, and a tile."""

    def fixed(path: str, name: str, kind: str) -> Route:
        async def given(_: Request) -> Response:
            return Response((FOLDER / name).read_bytes(), media_type=kind, headers=HEADS)

        return Route(path, given)

    async def tile(_: Request) -> Response:
        # The connection ends with the answer: the next tile makes another, from another port, which may go elsewhere.
        heads = {"Cache-Control": "no-store", "Connection": "close"}
        return Response(f"{agent.name}\n", media_type="text/plain", headers=heads)

    return [*(fixed(path, *about) for path, about in FILES.items()), Route("/mosaic/tile", tile)]
