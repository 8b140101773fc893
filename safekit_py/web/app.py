"""The application of the web process: finds out who calls, and passes the call to the agent.

Flows through it: requests from the network in; on the agent's socket the same requests, with who calls and in which
role in heads of our own; the agent's answers back, piece by piece. What a client sends under those names never gets
through. Invariant: each call that is passed on names its role, so none has the role of this process, which is root's.
"""

from __future__ import annotations

import asyncio
import json
import math
import pwd
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

import httpx
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from safekit_py.control.access import ROLE, USER, VIA, Caller, Role, caller, demand, repeated
from safekit_py.control.problems import document
from safekit_py.errors import AccessError, ConfigError, NotFoundError, Problem, SafekitError, SystemProblem
from safekit_py.model.paths import Paths
from safekit_py.web import joining
from safekit_py.web.console.cluster import Cluster
from safekit_py.web.console.pages import Pages
from safekit_py.web.identity import Identity, TooOftenError, UnknownError
from safekit_py.web.joining import Joining
from safekit_py.web.kept import STATE, Answers, Keeper, hardened
from safekit_py.web.peers import Peers, UnreachableError
from safekit_py.web.sessions import LIFE

LARGEST = 1 << 20  # bytes of a body
LARGEST_ARCHIVE = 1 << 30  # bytes of an uploaded module
LARGEST_LOGIN = 4096
ARCHIVE = re.compile(rb"/api/v1/modules/[^/?]+(\?.*)?", re.DOTALL)
STALLED = 30.0  # seconds that a client may take for a piece of what it sends or is sent
IN = ("content-type", "content-length", "accept")
OUT = ("content-type", "content-length", "cache-control", "content-disposition", "retry-after", "allow")
OPEN = ("/health/", "/var/modules/")  # anybody may ask, as on the port of health answers
PASSED = ("/api/v1/", "/openapi.json")
NODES = re.compile(rb"/nodes/([^/?]+)((?:/api/v1/|/openapi\.json).*)", re.DOTALL)  # a call for another server
ANYBODY = Caller(Role.NOBODY, "anybody", "https")


class TooLargeError(ConfigError):
    """A body is larger than its limit: 413."""


class StalledError(ConfigError):
    """The client did not go on: 408."""


class Web:
    """The application.

    :param secure: whether clients come by TLS; the cookie then has it in its name and is never sent without.
    :param port: where the web processes of the other servers listen.
    """

    def __init__(self, paths: Paths, *, secure: bool, port: int) -> None:
        self._secure = secure
        self.identity = Identity(paths.access, "__Host-safekit" if secure else "safekit")
        transport = httpx.AsyncHTTPTransport(uds=str(paths.socket), limits=httpx.Limits(max_connections=None))
        self._kept = Answers(secure=secure)
        timeout = httpx.Timeout(STALLED, read=None, pool=None)  # long commands end by their own limits
        self._agent = httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=timeout)
        self._peers = Peers(paths.tls, self._agent, port)
        self._joining = Joining(paths, self._agent, self._peers)
        self._cluster = Cluster(self._one_call, self._peers, self._follow)
        self._pages = Pages(self._cluster, secure=secure)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        hardened = _Sender(send, self._secure, scope.get("state", {}).get("abort"))
        try:
            await self._answer(scope, receive, hardened)
        except SafekitError as error:
            if not hardened.begun:
                await refusal(error)(scope, receive, hardened)
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            if hardened.begun:  # cut, so that nobody takes half an answer for a whole one
                hardened.cut()
                return
            text = f"the agent of this server does not answer ({type(error).__name__})"
            problem = Problem("agent.not-running", text, "systemctl start safekit-py")
            await document(SystemProblem(problem), 502)(scope, receive, hardened)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        method, path, heads = scope["method"], scope["path"], Headers(scope=scope)
        address = (scope.get("client") or ("unknown",))[0]
        if path.startswith(OPEN) and method in ("GET", "HEAD"):
            await self._forward(scope, receive, send, ANYBODY)
        elif path == "/login" and method == "POST":
            await (await self._login(receive, heads, address))(scope, receive, send)
        elif path in ("/", "/ui") or path.startswith("/ui/"):
            await (await self._console(scope, receive, method, path, heads))(scope, receive, send)
        elif path == "/join" and method == "GET":
            answer = Response(self._joining.authority(), media_type="application/x-pem-file")
            await answer(scope, receive, send)
        elif path == "/join" and method == "POST":
            await (await self._join(receive, heads, address))(scope, receive, send)
        elif path in ("/session", "/logout"):
            await self._session(method, path, heads, address)(scope, receive, send)
        elif path.startswith(PASSED):
            await self._forward(scope, receive, send, self._caller(scope, heads, address))
        elif path == "/nodes" and method == "GET":
            demand(self._caller(scope, heads, address), Role.MONITOR)
            await JSONResponse(await self._peers.seen())(scope, receive, send)
        elif found := NODES.fullmatch(scope["raw_path"]):
            who = self._caller(scope, heads, address)
            demand(who, Role.MONITOR)
            await self._pass_on(scope, receive, send, who, unquote(found[1].decode()), found[2])
        else:
            problem = Problem("request.unknown", "nothing is at this path", "GET /openapi.json tells what there is")
            await document(SafekitError(problem), 404)(scope, receive, send)

    async def _console(self, scope: Any, receive: Any, method: str, path: str, heads: Headers) -> Response:
        """A page; who has no session is sent to log in, and a part of a page or a stream says 401 instead."""
        request = Request(scope)
        if method == "POST" and path.startswith("/ui/do/"):
            who = self._caller(scope, heads, (scope.get("client") or ("unknown",))[0])
            body = await whole(receive, heads, LARGEST)
            return await self._pages.act(request, who, body)
        if method not in ("GET", "HEAD"):
            problem = Problem("request.unknown", "pages are only read", "")
            return document(SafekitError(problem), 405)
        if path == "/":
            return RedirectResponse("/ui/", 303)
        if path.startswith("/ui/static/"):
            return await self._pages.static(path.removeprefix("/ui/static/"))
        if path == "/ui/choose":
            return self._pages.choose(request)
        if path == "/ui/login":
            return self._pages.login(request, ended="ended" in request.query_params)
        try:
            session, role = self.identity.session(self.identity.presented(heads))
        except UnknownError as error:
            if path.startswith(("/ui/part/", "/ui/data/", "/ui/events")):
                return refusal(error)
            wanted = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/ui/login?next={quote(wanted, safe='')}", 303)
        who = Caller(role, session.user, f"https {(scope.get('client') or ('unknown',))[0]} console")
        return await self._pages.answer(request, who, session.csrf)

    def _heads(self, who: Caller) -> list[tuple[str, str]]:
        return [(USER, who.name), (ROLE, who.role.word), (VIA, who.via[:128])]

    async def _one_call(
        self, node: dict[str, Any], who: Caller, method: str, path: bytes, body: bytes | None
    ) -> tuple[int, bytes]:
        """A call of the console's own, here or at another server."""
        answer = await self._sent(node, who, method, b"/api/v1" + path, body)
        try:
            return answer.status_code, await answer.aread()
        finally:
            await answer.aclose()

    async def _sent(
        self, node: dict[str, Any], who: Caller, method: str, target: bytes, body: bytes | None
    ) -> httpx.Response:
        heads = self._heads(who)
        if not node["this"]:
            return await self._peers.send(node, self._peers.request(method, target, heads, body))
        url = httpx.URL("http://agent").copy_with(raw_path=target)
        request = self._agent.build_request(method, url, headers=heads, content=body)
        return await self._agent.send(request, stream=True)

    async def _follow(self, node: dict[str, Any], who: Caller) -> AsyncIterator[str]:
        """The lines of a server's stream of events."""
        answer = await self._sent(node, who, "GET", b"/api/v1/events", None)
        try:
            async for line in answer.aiter_lines():
                yield line
        finally:
            await answer.aclose()

    def _caller(self, scope: Any, heads: Headers, address: str) -> Caller:
        """Who calls: on the UNIX socket whom the kernel names, else who proves it."""
        state = scope.get("state", {})
        if repeated(heads):
            raise AccessError(Problem("access.bad-caller", "a head about the caller stands twice", ""))
        if "role" in state:
            who = caller(state["peer"], state["role"], heads)
            return who if who.name else Caller(who.role, user_name(state["peer"].uid), "socket")
        return self.identity.of(scope["method"], heads, address, state.get("certificate"))

    async def _pass_on(self, scope: Any, receive: Any, send: Any, who: Caller, name: str, path: bytes) -> None:
        """A call for one of the cluster's servers; for this one, it is a call like any other."""
        node = await self._peers.find(name)
        here = scope | {"path": unquote(path.decode()), "raw_path": path}
        if node["this"]:
            await self._forward(here, receive, send, who)
        else:
            await self._exchange(scope, receive, send, who, Headers(scope=scope), target_of(here), node)

    async def _login(self, receive: Any, heads: Headers, address: str) -> Response:
        # A form of another site cannot send this type: nobody is logged in without knowing it.
        if heads.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ConfigError(Problem("request.bad-value", "a login is sent as application/json", ""))
        body = await whole(receive, heads, LARGEST_LOGIN)
        try:
            given = json.loads(body)
            name, password = given["user"], given["password"]
            if not isinstance(name, str) or not isinstance(password, str):
                raise TypeError
        except (ValueError, LookupError, TypeError, RecursionError):
            remedy = '{"user": "NAME", "password": "…"}'
            raise ConfigError(Problem("request.bad-value", "a login has a user and a password", remedy)) from None
        if old := self.identity.presented(heads):
            self.identity.sessions.end(old)
        cookie, session, role = await self.identity.login(name, password, address)
        answer = JSONResponse({"user": session.user, "role": role.word, "csrf": session.csrf})
        self._set(answer, cookie, int(LIFE))
        return answer

    async def _join(self, receive: Any, heads: Headers, address: str) -> Response:
        kind, _, presented = heads.get("authorization", "").partition(" ")
        token = self.identity.joining(presented.strip() if kind.lower() == "bearer" else "", address)
        body = await whole(receive, heads, joining.LARGEST)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        return JSONResponse(await self._joining.answer(token, address, joining.Request.of(found)))

    def _session(self, method: str, path: str, heads: Headers, address: str) -> Response:
        if method != ("GET" if path == "/session" else "POST"):
            problem = Problem("request.unknown", f"{path} takes no {method}", "GET /session, POST /logout")
            return document(SafekitError(problem), 405)
        cookie = self.identity.presented(heads)
        session, role = self.identity.session(cookie)
        if path == "/session":
            return JSONResponse({"user": session.user, "role": role.word, "csrf": session.csrf})
        self.identity.of(method, {each: heads[each] for each in heads if each != "authorization"}, address, None)
        self.identity.sessions.end(cookie)
        answer = JSONResponse({"done": True})
        self._set(answer, "", 0)
        return answer

    def _set(self, answer: Response, value: str, age: int) -> None:
        answer.set_cookie(
            self.identity.cookie, value, max_age=age, path="/", httponly=True, secure=self._secure, samesite="strict"
        )

    async def _forward(self, scope: Any, receive: Any, send: Any, who: Caller) -> None:
        method, heads = scope["method"], Headers(scope=scope)
        target = target_of(scope)
        kept = Keeper(send) if method == "GET" and STATE.fullmatch(scope["path"]) else None
        if kept is not None:
            if messages := self._kept.find(who.role, target):
                for each in messages:
                    await send(dict(each))
                return
        elif method not in ("GET", "HEAD"):
            self._kept.clear()
        changes = self._kept.changes
        try:
            await self._exchange(scope, receive, kept or send, who, heads, target)
        finally:
            if kept is None and method not in ("GET", "HEAD"):
                self._kept.clear()  # also of what was read while it went on
        if kept is not None:
            self._kept.keep(who.role, target, kept.messages, changes)

    def again(self, scope: Any) -> bytes:
        """The bytes of the answer to a call for a state, while they are fresh; empty: answer it as any other.

        Who calls, and whether they still may, is asked as always.
        """
        try:
            who = self._caller(scope, Headers(scope=scope), (scope.get("client") or ("unknown",))[0])
        except SafekitError:
            return b""
        return self._kept.whole(who.role, target_of(scope))

    async def _exchange(
        self,
        scope: Any,
        receive: Any,
        send: Any,
        who: Caller,
        heads: Headers,
        target: bytes,
        node: dict[str, Any] | None = None,
    ) -> None:
        """Pass a call to the agent, or to another server, and its answer back."""
        method = scope["method"]
        archive = method == "PUT" and ARCHIVE.fullmatch(target)
        limit = LARGEST_ARCHIVE if archive else LARGEST
        passed = [(name, heads[name]) for name in IN if name in heads]
        passed += [(USER, who.name), (ROLE, who.role.word), (VIA, who.via[:128])]
        has_body = "content-length" in heads or "transfer-encoding" in heads
        check_length(heads, limit)
        content = pieces(receive, heads, limit) if has_body else None
        if node is not None:
            answer = await self._peers.send(node, self._peers.request(method, target, passed, content))
        else:
            url = httpx.URL("http://agent").copy_with(raw_path=target)
            request = self._agent.build_request(method, url, headers=passed, content=content)
            answer = await self._agent.send(request, stream=True)
        try:
            kept = [(n.lower().encode(), v.encode("latin-1")) for n, v in answer.headers.items() if n.lower() in OUT]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
            if not has_body and "text/event-stream" in answer.headers.get("content-type", ""):
                await self._stream(answer, receive, send)
                return
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    async def _stream(self, answer: httpx.Response, receive: Any, send: Any) -> None:
        """Pass events on until either side ends; a client that has gone is noticed without an event."""

        async def passing() -> None:
            async for piece in answer.aiter_raw():
                self._kept.clear()  # who hears of a change and asks for the state gets the new one
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        tasks = [asyncio.create_task(passing()), asyncio.create_task(gone())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the connections to the agent and to other servers."""
        await self._cluster.close()
        await self._peers.close()
        await self._agent.aclose()


class _Sender:
    """Adds the heads that keep browsers safe, and gives up on a client that does not take its answer."""

    def __init__(self, send: Any, secure: bool, abort: Any) -> None:
        self._send, self._secure, self._abort, self.begun = send, secure, abort, False

    def cut(self) -> None:
        """End the connection at once."""
        if self._abort is not None:
            self._abort()

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message["headers"] = hardened(message["headers"], secure=self._secure)
        try:
            async with asyncio.timeout(STALLED):
                await self._send(message)
        except TimeoutError:
            self.cut()
            raise StalledError(Problem("request.stalled", "the client does not take its answer", "")) from None


def target_of(scope: Any) -> bytes:
    """What a call is for: path and query as they came."""
    path: bytes = scope["raw_path"]
    return path + (b"?" + scope["query_string"] if scope["query_string"] else b"")


def check_length(heads: Headers, limit: int) -> None:
    """Refuse a body that says that it is too large, before any of it is read.

    :raises TooLargeError: it is.
    """
    said = heads.get("content-length", "0")
    if not said.isdigit() or len(said) > 15 or int(said) > limit:
        raise TooLargeError(Problem("request.too-large", f"the body is larger than {limit} bytes", "send less"))


async def pieces(receive: Any, heads: Headers, limit: int) -> AsyncIterator[bytes]:
    """A request's body.

    :raises TooLargeError: it is larger than the limit.
    :raises StalledError: nothing came for a time, or the client has gone.
    """
    check_length(heads, limit)
    size = 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), STALLED)
        except TimeoutError:
            message = {"type": "http.disconnect"}
        if message["type"] == "http.disconnect":
            raise StalledError(Problem("request.stalled", "the body did not come to its end", "send it again"))
        size += len(message.get("body", b""))
        if size > limit:
            raise TooLargeError(Problem("request.too-large", f"the body is larger than {limit} bytes", "send less"))
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def whole(receive: Any, heads: Headers, limit: int) -> bytes:
    """A small body, all of it; nobody sends one for ever.

    :raises TooLargeError: it is larger than the limit.
    :raises StalledError: it did not come to its end in time.
    """
    try:
        async with asyncio.timeout(STALLED):
            return b"".join([piece async for piece in pieces(receive, heads, limit)])
    except TimeoutError:
        raise StalledError(Problem("request.stalled", "the body did not come to its end", "send it again")) from None


def user_name(uid: int) -> str:
    """The name of a local user for the command log."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def refusal(error: SafekitError) -> Response:
    """The answer for an error of this process."""
    kinds = {
        UnknownError: 401,
        TooOftenError: 429,
        TooLargeError: 413,
        StalledError: 408,
        AccessError: 403,
        NotFoundError: 404,
        UnreachableError: 502,
    }
    status = next((code for kind, code in kinds.items() if isinstance(error, kind)), 0)
    answer = document(error, status)
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooOftenError):
        answer.headers["Retry-After"] = str(math.ceil(error.wait))
    return answer
