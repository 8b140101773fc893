"""The console's pages and the parts of pages that are fetched anew when something changes.

Flows through it: a request of somebody with a session in; HTML, made on this server from what the API of each server
answers in that person's role, out. Invariant: every name and message stands in a page as text, never as markup.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from safekit_py import __version__
from safekit_py.control.access import Caller, Role, demand
from safekit_py.errors import AccessError, NotFoundError, Problem, SafekitError
from safekit_py.runtime.clock import wall
from safekit_py.web.console import texts, timeline, wizard
from safekit_py.web.console.cluster import Cluster, Server, stamp
from safekit_py.web.console.words import actions, ago, colour, duration, meaning, size

HERE = Path(__file__).parent
STATIC = {path.name: path for path in (HERE / "static").iterdir() if path.suffix in (".js", ".css", ".svg")}
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
LINES = 200  # of a log at once
CHANGES = 2000  # of resources, of each server
HOURS = ("1", "6", "24", "168")  # that a timeline may show
SEVERITIES = ("C", "E", "W", "I", "D")
LANGUAGE, THEME = "safekit-language", "safekit-theme"  # cookies
THEMES = ("auto", "light", "dark")
SECONDS_A_YEAR = 31_536_000

Handler = Callable[["Visit"], Awaitable[Response]]


class Visit:
    """One request of somebody who is known.

    :param csrf: what calls that change something must repeat; empty where no session is needed.
    """

    def __init__(self, request: Request, who: Caller, csrf: str, parts: tuple[str, ...]) -> None:
        self.request, self.who, self.csrf, self.parts = request, who, csrf, parts
        self.language = texts.chosen(request.cookies.get(LANGUAGE, ""), request.headers.get("accept-language", ""))
        theme = request.cookies.get(THEME, "auto")
        self.theme = theme if theme in THEMES else "auto"

    def text(self, english: str, **values: object) -> str:
        """A text in this person's language."""
        return texts.translate(self.language, english, **values)


class Pages:
    """All of them.

    :param cluster: what is shown.
    :param secure: whether cookies may travel by TLS only.
    """

    def __init__(self, cluster: Cluster, *, secure: bool) -> None:
        self._cluster, self._secure = cluster, secure
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(
            actions=actions, ago=ago, colour=colour, duration=duration, meaning=meaning, size=size, version=__version__
        )
        self._templates.filters["quoted"] = lambda text: quote(str(text), safe="")
        self._routes: tuple[tuple[re.Pattern[str], Handler], ...] = (
            (re.compile(r"/ui/?"), self.overview),
            (re.compile(r"/ui/part/overview"), self.overview_part),
            (re.compile(r"/ui/module/([^/]+)"), self.module),
            (re.compile(r"/ui/part/module/([^/]+)"), self.module_part),
            (re.compile(r"/ui/log/([^/]+)"), self.log),
            (re.compile(r"/ui/part/log/([^/]+)"), self.log_part),
            (re.compile(r"/ui/farm/([^/]+)"), self.farm),
            (re.compile(r"/ui/data/farm/([^/]+)"), self.farm_data),
            (re.compile(r"/ui/mirror/([^/]+)"), self.mirror),
            (re.compile(r"/ui/part/mirror/([^/]+)"), self.mirror_part),
            (re.compile(r"/ui/history/([^/]+)"), self.history),
            (re.compile(r"/ui/edit/([^/]+)"), self.edit),
            (re.compile(r"/ui/new"), self.new),
            (re.compile(r"/ui/data/shipped"), self.shipped),
            (re.compile(r"/ui/commands"), self.commands),
            (re.compile(r"/ui/events"), self.events),
        )

    # --- what needs no session ------------------------------------------------------------------

    async def static(self, name: str) -> Response:
        """A file of the console."""
        path = STATIC.get(name)
        if path is None:
            return Response("not found", 404, media_type="text/plain")
        data = await asyncio.to_thread(path.read_bytes)
        return Response(data, media_type=TYPES[path.suffix], headers={"Cache-Control": "no-cache"})

    def login(self, request: Request, *, ended: bool) -> Response:
        """The page to log in with; the way to where somebody wanted to go is kept."""
        visit = Visit(request, Caller(), "", ())
        wanted = request.query_params.get("next", "/ui/")
        target = wanted if re.fullmatch(r"/ui/[A-Za-z0-9._~/?&=%-]*", wanted) else "/ui/"
        return self._page(visit, "login.html", target=target, ended=ended)

    def choose(self, request: Request) -> Response:
        """Switch language or theme, and go back."""
        back = request.query_params.get("back", "/ui/")
        target = back if re.fullmatch(r"/ui/[A-Za-z0-9._~/?&=%-]*", back) else "/ui/"
        answer = RedirectResponse(target, 303)
        for cookie, key, known in ((LANGUAGE, "language", tuple(texts.LANGUAGES)), (THEME, "theme", THEMES)):
            value = request.query_params.get(key)
            if value in known:
                answer.set_cookie(
                    cookie, value, max_age=SECONDS_A_YEAR, path="/ui", secure=self._secure, samesite="strict"
                )
        return answer

    # --- the rest -------------------------------------------------------------------------------

    async def answer(self, request: Request, who: Caller, csrf: str) -> Response:
        """A page or a part of one, for somebody with a session."""
        for pattern, handler in self._routes:
            if found := pattern.fullmatch(request.url.path):
                visit = Visit(request, who, csrf, found.groups())
                try:
                    return await handler(visit)
                except SafekitError as error:
                    status = 403 if isinstance(error, AccessError) else 404 if isinstance(error, NotFoundError) else 502
                    return self._page(visit, "problem.html", status, problems=error.problems)
        visit = Visit(request, who, csrf, ())
        problem = Problem("request.unknown", visit.text("There is no such page."), "/ui/")
        return self._page(visit, "problem.html", 404, problems=(problem,))

    def _page(self, visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
        made = self._templates.get_template(template).render(
            _=visit.text,
            visit=visit,
            path=visit.request.url.path,
            language=visit.language,
            languages=texts.LANGUAGES,
            theme=visit.theme,
            may_control=visit.who.role >= Role.CONTROL,
            may_admin=visit.who.role >= Role.ADMIN,
            now=stamp(),
            **values,
        )
        return HTMLResponse(made, status, headers={"Cache-Control": "no-store"})

    async def overview(self, visit: Visit) -> Response:
        """Every module on every server."""
        return self._page(visit, "overview.html", **await self._table(visit))

    async def overview_part(self, visit: Visit) -> Response:
        """The table of the overview."""
        return self._page(visit, "parts/overview.html", **await self._table(visit))

    async def _table(self, visit: Visit) -> dict[str, Any]:
        servers = await self._cluster.servers(visit.who)
        names = sorted({name for server in servers for name in server.modules})
        return {"servers": servers, "modules": names, "modes": {name: _mode(servers, name) for name in names}}

    async def module(self, visit: Visit) -> Response:
        """One module on all servers: states, what can be done, resources and their past."""
        return self._page(visit, "module.html", **await self._module(visit))

    async def module_part(self, visit: Visit) -> Response:
        """What changes of it."""
        return self._page(visit, "parts/module.html", **await self._module(visit))

    async def _module(self, visit: Visit) -> dict[str, Any]:
        name, servers = visit.parts[0], await self._cluster.servers(visit.who)
        _known(servers, name)
        return {"name": name, "servers": servers, "mode": _mode(servers, name)}

    async def log(self, visit: Visit) -> Response:
        """A module's log of one server, followed."""
        return self._page(visit, "log.html", **await self._log(visit))

    async def log_part(self, visit: Visit) -> Response:
        """Its lines."""
        return self._page(visit, "parts/log.html", **await self._log(visit))

    async def _log(self, visit: Visit) -> dict[str, Any]:
        name, asked = visit.parts[0], visit.request.query_params
        nodes = await self._cluster.nodes()
        wanted = asked.get("server", "")
        chosen = [node for node in nodes if not wanted or node["name"] == wanted]
        severity = asked.get("severity", "I")
        severity = severity if severity in SEVERITIES else "I"
        words = asked.get("text", "")[:200]
        problems: list[tuple[str, str]] = []

        async def one(node: dict[str, Any]) -> list[dict[str, Any]]:
            path = f"/modules/{quote(name)}/log?lines={LINES}&severity={severity}"
            try:
                return [line | {"server": node["name"]} for line in await self._cluster.ask(node, visit.who, path)]
            except SafekitError as error:
                problems.append((node["name"], error.problems[0].message))
                return []

        found = [line for lines in await asyncio.gather(*map(one, chosen)) for line in lines]
        if words:
            found = [line for line in found if words.lower() in f"{line['source']} {line['message']}".lower()]
        found.sort(key=lambda line: line["time"])
        return {
            "name": name,
            "nodes": nodes,
            "server": wanted,
            "severity": severity,
            "severities": SEVERITIES,
            "words": words,
            "lines": found[-LINES:],
            "problems": problems,
        }

    async def farm(self, visit: Visit) -> Response:
        """A farm's shares and traffic as plots."""
        found = await self._module(visit)
        return self._page(visit, "farm.html", **found)

    async def farm_data(self, visit: Visit) -> Response:
        """What the plots are fed with: each server's share and packets."""
        name, servers = visit.parts[0], await self._cluster.servers(visit.who)
        rows = []
        view: dict[str, Any] = {}
        for server in servers:
            module = server.modules.get(name, {})
            report = module.get("report", {})
            if report.get("view", 0) > view.get("view", -1) and report.get("members"):
                view = report
            rows.append(
                {
                    "server": server.name,
                    "state": f"{module.get('state', '')} {module.get('readiness', '')}".strip(),
                    "packets": sum(report.get("packets", {}).get(each, 0) for each in ("accepted", "held")),
                    "answers": not server.why,
                }
            )
        shares = {member["name"]: member["shares"] for member in view.get("members", ())}
        for row in rows:
            row["shares"] = shares.get(row["server"], [])
        about = {key: view.get(key) for key in ("view", "cause", "moved", "coordinator", "groups")}
        return JSONResponse({"servers": rows, **about}, headers={"Cache-Control": "no-store"})

    async def mirror(self, visit: Visit) -> Response:
        """A mirror's roles, and whether the data are the same."""
        return self._page(visit, "mirror.html", **await self._module(visit))

    async def mirror_part(self, visit: Visit) -> Response:
        """What changes of it."""
        return self._page(visit, "parts/mirror.html", **await self._module(visit))

    async def history(self, visit: Visit) -> Response:
        """The past of a module's resources on all servers, as bars over time and as a table."""
        found = await self._module(visit)
        hours = visit.request.query_params.get("hours", "")
        length = float(hours) * 3600 if hours in HOURS else float(HOURS[0]) * 3600
        now = wall()
        changes: list[dict[str, Any]] = []

        async def one(server: Server) -> list[timeline.Row]:
            path = f"/modules/{quote(visit.parts[0])}/history?lines={CHANGES}"
            try:
                past = await self._cluster.ask(await self._cluster.node(server.name), visit.who, path)
            except SafekitError:
                return []
            changes.extend(each | {"server": server.name} for each in past if each["time"] >= now - length)
            present = {each["name"]: each["value"] for each in server.modules[visit.parts[0]]["resources"]}
            return timeline.rows(server.name, past, present, now - length, now)

        here = [server for server in found["servers"] if visit.parts[0] in server.modules]
        rows = [row for part in await asyncio.gather(*map(one, here)) for row in part]
        changes.sort(key=lambda each: each["time"], reverse=True)
        return self._page(
            visit, "history.html", **found, rows=rows, changes=changes[:LINES], hours=HOURS, chosen=f"{length / 3600:g}"
        )

    async def new(self, visit: Visit) -> Response:
        """The way to a new module: choose one, fill in its values, check it on all servers, install it there."""
        demand(visit.who, Role.ADMIN)
        return self._page(visit, "new.html", nodes=await self._cluster.nodes())

    async def edit(self, visit: Visit) -> Response:
        """The files of an installed module: edited, checked and put on all servers, or an older configuration again."""
        demand(visit.who, Role.ADMIN)
        return self._page(visit, "edit.html", **await self._module(visit))

    async def shipped(self, visit: Visit) -> Response:
        """The modules that ship, each with its userconfig.xml."""
        demand(visit.who, Role.ADMIN)
        found = await asyncio.to_thread(wizard.shipped)
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    async def act(self, request: Request, who: Caller, body: bytes) -> Response:
        """What a page has this server make, and changes nothing: a module's archive, a difference of files."""
        demand(who, Role.ADMIN)
        if request.url.path == "/ui/do/archive":
            return Response(await asyncio.to_thread(wizard.archive, body), media_type="application/zip")
        if request.url.path == "/ui/do/difference":
            return PlainTextResponse(await asyncio.to_thread(wizard.difference, body))
        raise NotFoundError(Problem("request.unknown", "nothing is at this path", "/ui/"))

    async def commands(self, visit: Visit) -> Response:
        """Who did what: the command logs of all servers."""

        async def one(node: dict[str, Any]) -> list[dict[str, Any]]:
            try:
                found = await self._cluster.ask(node, visit.who, "/commands?lines=100")
            except SafekitError:
                return []
            return [each | {"server": node["name"]} for each in found]

        lists = await asyncio.gather(*map(one, await self._cluster.nodes()))
        rows = sorted((row for rows in lists for row in rows), key=lambda row: row["time"], reverse=True)
        return self._page(visit, "commands.html", rows=rows[:LINES])

    async def events(self, visit: Visit) -> Response:
        """News, as server-sent events: the name of the server on which something has changed."""

        async def stream() -> Any:
            yield "event: hello\ndata: {}\n\n"
            async for name in self._cluster.news():
                yield f"event: {'change' if name else 'alive'}\ndata: {json.dumps(name)}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _mode(servers: list[Server], name: str) -> str:
    return next((m["mode"] for server in servers if (m := server.modules.get(name)) and m["mode"]), "")


def _known(servers: list[Server], name: str) -> None:
    if not NAME.fullmatch(name) or not any(name in server.modules for server in servers):
        raise NotFoundError(Problem("module.not-installed", f"no server that answers has a module {name[:64]}", "/ui/"))
