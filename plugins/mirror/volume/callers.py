"""The agent's orders to the volume process and what it is told: JSON lines on the control socket.

An order is ``{"id": …, "do": verb, …}``; its answer ``{"id": …, "ok": …}`` or ``{"id": …, "error": words, …}``. What
happens by itself is told to everybody who is connected. Nothing that is said here ends the process.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from safekit_py.api import SafekitError

from .poller import Poller

LINE = 1 << 20  # bytes of one command at most
Found = Mapping[str, Any] | OSError
Answer = Callable[[Found], None]
Do = Callable[[str, Mapping[str, Any], Answer], Mapping[str, Any] | None]


class Callers:
    """Those who are connected.

    :param control: listens.
    :param do: carries an order out: the verb, its values, and what to call with the outcome when it comes later; then
        None is returned.
    """

    def __init__(self, control: socket.socket, poller: Poller, do: Do) -> None:
        self._control, self._poller, self._do = control, poller, do
        self._callers: dict[int, tuple[socket.socket, bytes]] = {}
        control.setblocking(False)
        poller.watch(control.fileno(), self._accept)

    def tell(self, words: Mapping[str, Any]) -> None:
        """Everybody."""
        for caller, _ in list(self._callers.values()):
            self._reply(caller, words)

    def _accept(self, _: int) -> None:
        with suppress(OSError):
            caller, _address = self._control.accept()
            caller.setblocking(False)
            self._callers[caller.fileno()] = (caller, b"")
            self._poller.watch(caller.fileno(), lambda _: self._hear(caller))

    def _hear(self, caller: socket.socket) -> None:
        fd = caller.fileno()
        try:
            data = caller.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, rest = (self._callers[fd][1] + data).split(b"\n")
        if not data or len(rest) > LINE:
            self._drop(fd)
            return
        self._callers[fd] = (caller, rest)
        for line in lines:
            self._order(caller, line)

    def _drop(self, fd: int) -> None:
        self._poller.forget(fd)
        caller, _ = self._callers.pop(fd)
        caller.close()

    def _order(self, caller: socket.socket, line: bytes) -> None:
        number: Any = None
        try:
            order = json.loads(line)
            number = order.pop("id", None)
            found = self._do(order.pop("do"), order, lambda later: self._reply(caller, _answer(number, later)))
        except OSError as error:
            self._reply(caller, {"id": number, "error": error.strerror or str(error), "errno": error.errno})
        except SafekitError as error:
            self._reply(caller, {"id": number, "error": error.problems[0].message, "code": error.problems[0].code})
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            self._reply(caller, {"id": number, "error": f"{type(error).__name__}: {error}"})
        else:
            if number is not None and found is not None:
                self._reply(caller, _answer(number, found))

    def _reply(self, caller: socket.socket, words: Mapping[str, Any]) -> None:
        fd = caller.fileno()
        if fd < 0:
            return
        try:
            caller.sendall(json.dumps(words).encode() + b"\n")
        except OSError:  # it is gone, or does not read
            self._drop(fd)


def _answer(number: Any, found: Found) -> Mapping[str, Any]:
    if isinstance(found, OSError):
        return {"id": number, "error": found.strerror, "errno": found.errno}
    return {"id": number, "ok": found}
