"""JSON requests to the first of several equal servers that answers, over HTTP/1.1 and a connection that stays."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import h11

from .addresses import endpoint

PORT = 2379
MAX_ANSWER = 1 << 20  # bytes
TRY = 0.4  # seconds for one server while there are others


class Failed(Exception):
    """A server answered, and not as it should."""


class Http:
    """Connections to one of several equal servers.

    :param addresses: ``host:port``, or ``https://host:port``.
    :param ca: file with the certificates that are trusted, for https; empty for the system's.
    :param cert: file with this machine's certificate, ``keyfile`` with its key; empty for none.
    """

    def __init__(self, addresses: tuple[str, ...], ca: str = "", cert: str = "", keyfile: str = "") -> None:
        self._addresses, self._files = list(addresses), (ca, cert, keyfile)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._talk = h11.Connection(h11.CLIENT)
        self._host = ""

    async def post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        :raises OSError: no server could be reached.
        :raises Failed: it refused the request, or answered no JSON.
        """
        kept = self._streams is not None
        last: Exception = OSError("no address")
        for _ in range(
            len(self._addresses) + kept
        ):  # a connection that was kept may have been closed by the other side
            try:
                async with asyncio.timeout(TRY if len(self._addresses) > 1 else None):
                    return await self._exchange(path, content)
            except (OSError, h11.ProtocolError, TimeoutError) as error:
                last = error if isinstance(error, OSError) else Failed(str(error))
                self.close()
                if not kept:
                    self._addresses.append(self._addresses.pop(0))
                kept = False
            except BaseException:  # cancelled in the middle: what follows on this connection belongs to no request
                self.close()
                raise
        raise last

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        reader, writer = self._streams or await self._connect()
        body = json.dumps(content).encode()
        headers = [("Host", self._host), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        for event in (
            h11.Request(method="POST", target=path, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(self._talk.send(event) or b"")
        await writer.drain()
        status, answer = await self._answer(reader)
        if self._talk.our_state is h11.DONE and self._talk.their_state is h11.DONE:
            self._talk.start_next_cycle()
        else:
            self.close()
        try:
            found = json.loads(answer)
        except ValueError:
            raise Failed(f"status {status}, no JSON") from None
        if status != 200 or not isinstance(found, dict):
            why = found.get("error", "") if isinstance(found, dict) else ""
            raise Failed(f"status {status} {why}".strip())
        return found

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        status, parts, size = 0, [], 0
        while True:
            event = self._talk.next_event()
            if event is h11.NEED_DATA:
                self._talk.receive_data(await reader.read(1 << 16))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
                size += len(event.data)
                if size > MAX_ANSWER:
                    self.close()
                    raise Failed("the answer is too long")
            elif isinstance(event, h11.EndOfMessage):
                return status, b"".join(parts)
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the connection was closed")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._addresses[0]
        secure = address.startswith("https://")
        host, port = endpoint(address.removeprefix("https://").removeprefix("http://"), PORT)
        context = self._context() if secure else None
        self._streams = await asyncio.open_connection(host, port, ssl=context)
        self._talk = h11.Connection(h11.CLIENT)
        self._host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self._streams

    def _context(self) -> ssl.SSLContext:
        ca, cert, keyfile = self._files
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, keyfile or None)
        return context
