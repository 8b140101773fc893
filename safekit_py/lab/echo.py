"""An application with long-lived connections, and a client that holds them: what survives a change of the farm?

    python3 -m safekit_py.lab.echo serve PORT
    python3 -m safekit_py.lab.echo hold ADDRESS PORT COUNT [SOURCE …]

The server sends back what it gets. The client opens COUNT connections and then obeys lines on standard input:
``check [SECONDS]`` sends a byte on each connection, waits so long for the answers and forgets those that are broken;
``more COUNT`` opens more. With SOURCE the connections come from these addresses by turns. Each line is answered by one
JSON document:

    {"alive": 980, "reset": 15, "silent": 5, "servers": {"10.0.0.1": 330, …}}

Each connection's first answer names its server, so that the client can say who holds how many.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence

WAIT = 5.0  # seconds for an answer
BATCH = 100  # connections that are opened at once


def serve(port: int) -> None:
    """Send back what comes; the name of this host first."""
    _many_files()
    name = socket.gethostname().encode() + b"\n"
    listener = socket.create_server(("", port), backlog=4096, reuse_port=False)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    open_: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    continue
                connection.setblocking(False)
                open_[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                connection.send(name)
                continue
            connection = open_[number]
            try:
                data = connection.recv(4096)
                if data:
                    connection.send(data)
                    continue
            except OSError:
                pass
            poll.unregister(connection)
            connection.close()
            del open_[number]


class Clients:
    """Connections of one client."""

    def __init__(self, address: str, port: int, sources: Sequence[str] = ()) -> None:
        self._target, self._sources, self._opened = (address, port), sources, 0
        self._held: dict[socket.socket, str] = {}

    def open(self, count: int) -> int:
        """Open connections; how many were answered."""
        opened = 0
        for start in range(0, count, BATCH):
            opened += self._open(min(BATCH, count - start))
        return opened

    def _open(self, count: int) -> int:
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        waiting = []
        for _ in range(count):
            each = socket.socket(family, socket.SOCK_STREAM)
            if self._sources:
                each.bind((self._sources[self._opened % len(self._sources)], 0))
                self._opened += 1
            each.setblocking(False)
            each.connect_ex(self._target)
            waiting.append(each)
        answered, _, failed = self._answers(waiting, WAIT)
        for each, data in answered.items():
            self._held[each] = data.decode().strip()
        for each in failed:
            each.close()
        return len(answered)

    def check(self, wait: float = WAIT) -> dict[str, object]:
        """Ask all; those that are broken are forgotten."""
        reset = 0
        asked = []
        for each in self._held:
            try:
                each.send(b"?")
                asked.append(each)
            except OSError:
                reset += 1
        answered, refused, silent = self._answers(asked, wait)
        alive = {each: self._held[each] for each in answered}
        for each in set(self._held) - set(alive):
            each.close()
        self._held = alive
        servers = Counter(alive.values())
        return {"alive": len(alive), "reset": reset + refused, "silent": len(silent), "servers": dict(servers)}

    @staticmethod
    def _answers(
        waiting: Iterable[socket.socket], wait: float
    ) -> tuple[dict[socket.socket, bytes], int, list[socket.socket]]:
        """What each said, how many were reset, and which said nothing (a reset one is none of them)."""
        left = {each.fileno(): each for each in waiting}
        answered: dict[socket.socket, bytes] = {}
        reset = 0
        poll = select.epoll()
        for number in left:
            poll.register(number, select.EPOLLIN)
        end = time.monotonic() + wait
        while left and (rest := end - time.monotonic()) > 0:
            for number, _ in poll.poll(rest):
                each = left.pop(number)
                poll.unregister(number)
                try:
                    data = each.recv(4096)
                except OSError:
                    data = b""
                if data:
                    answered[each] = data
                else:
                    reset += 1
                    each.close()
        poll.close()
        return answered, reset, list(left.values())


def hold(address: str, port: int, count: int, sources: Sequence[str]) -> None:
    """Open connections, from these addresses by turns, and obey."""
    _many_files()
    clients = Clients(address, port, sources)
    print(json.dumps({"opened": clients.open(count)}), flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "more":
            print(json.dumps({"opened": clients.open(int(rest[0]))}), flush=True)
        else:
            print(json.dumps(clients.check(*map(float, rest))), flush=True)


def _many_files() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        hold(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
