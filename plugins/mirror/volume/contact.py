"""A volume process and the one of the other server: the connection between them, made anew whenever it is lost.

Flows through it: frames from the connection to the role (``serving.Primary`` or ``taking.Secondary``), and what the
role has put into the connection out to the network. The primary connects, the secondary opens its door.

The agent is told that the other server is lost when it has been away for a moment: a process that died comes back in
less. What the other side says ends the connection at most, never this process.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from safekit_py.api import SafekitError

from .door import Door
from .frames import Frame
from .link import Link, Names
from .poller import Poller

GRACE = 0.7  # seconds that a connection may be away before the agent is told
AGAIN, LONGEST = 0.1, 2.0  # seconds between two attempts to connect; more after each resynchronisation that breaks off
Address = tuple[str, int]


class Role(Protocol):
    """What a contact knows of primary and secondary.

    :ivar same: the other server had the same data while the connection was there.
    :ivar frozen: what is not acknowledged waits for the other server.
    :ivar failing: the disk here has refused data; the agent knows.
    """

    @property
    def same(self) -> bool: ...  # noqa: D102
    @property
    def frozen(self) -> bool: ...  # noqa: D102

    failing: bool

    def connected(self, link: Link) -> None:
        """A connection is there."""

    def greet(self) -> None:
        """The other side has proved itself."""

    def take_frames(self, frames: Iterable[Frame]) -> None:
        """What it has said."""

    def lost(self, cause: str) -> None:
        """The connection is gone."""


class Contact:
    """Of one role, until :meth:`close`.

    :param mine: address of this server.
    :param peer: of the other one.
    :param timeout: seconds of silence after which the other side counts as lost.
    :param tell: tells the agent: kind, cause, data.
    :param taken: is called whenever frames were taken.
    """

    def __init__(
        self,
        role: Role,
        names: Names,
        mine: Address,
        peer: Address,
        timeout: float,
        *,
        poller: Poller,
        tell: Callable[[str, str, Mapping[str, Any]], None],
        taken: Callable[[], None],
    ) -> None:
        self._role, self._names, self._mine, self._peer, self._timeout = role, names, mine, peer, timeout
        self._poller, self._tell, self._taken = poller, tell, taken
        self.link: Link | None = None
        self._greeted = False
        self._next_at, self._pause = 0.0, AGAIN
        self._away_since: float | None = None  # until the agent is told
        self._cause = ""

    def tick(self, now: float) -> None:
        """What time brings."""
        try:
            if self.link is not None:
                self.link.tick(now)
                self.send()
            elif now >= self._next_at:
                self._seek(now)
        except ConnectionError as error:
            self.lost(str(error))
        if self._away_since is not None and now - self._away_since > GRACE:
            self._away_since = None
            self._tell("lost", self._cause, {"frozen": self._role.frozen})

    def send(self) -> None:
        """Hand the network what waits."""
        link = self.link
        if link is None:
            return
        try:
            link.flush()
        except ConnectionError as error:
            self.lost(str(error))
            return
        fd = link.socket.fileno()
        if fd < 0:  # the role has closed it
            self.leave()
            return
        self._poller.modify(fd, select.POLLIN | (select.POLLOUT if link.waiting else 0))

    def lost(self, cause: str) -> None:
        """The connection has broken, or must not go on."""
        link, role = self.link, self._role
        if link is None:
            return
        was, same = link.proven and self._greeted, role.same
        self.leave()
        role.lost(cause)
        link.close()
        self._next_at = 0.0 if was and same else time.monotonic() + self._pause
        if was and not same:
            self._pause = min(2 * self._pause, LONGEST)
            self._tell("interrupted", cause, {})
        if same and not role.failing and self._away_since is None:
            self.away(cause)

    def away(self, cause: str) -> None:
        """The other server, which had the same data, is not heard; the agent is told when that lasts."""
        self._away_since, self._cause = time.monotonic(), cause

    def expected(self) -> None:
        """The agent knows that it is away, or it is back."""
        self._away_since = None

    def synced(self) -> None:
        """Both have the same."""
        self._away_since, self._pause = None, AGAIN

    def leave(self) -> None:
        """The connection is the role's to close; nothing is heard of it any more."""
        if self.link is not None:
            self.link = None
            self._poller.forget_all(self._peer_ready)

    def close(self) -> None:
        """The role ends."""
        link = self.link
        if link is not None:
            self.leave()
            self._role.lost("this server gives up its role")
            link.close()

    # --- one connection -------------------------------------------------------------------------

    def _seek(self, now: float) -> None:
        """There is no connection, and time for an attempt."""

    def _join(self, link: Link, *, greeted: bool) -> None:
        self.link, self._greeted = link, greeted
        self._role.connected(link)
        self._poller.watch(link.socket.fileno(), self._peer_ready, select.POLLIN | select.POLLOUT)

    def _peer_ready(self, event: int) -> None:
        link = self.link
        if link is not None:
            self._take(link.read() if event & (select.POLLIN | select.POLLHUP | select.POLLERR) else ())

    def _take(self, frames: Iterable[Frame]) -> None:
        link = self.link
        assert link is not None
        try:
            self._role.take_frames(frames)
            if link.proven and not self._greeted and self.link is link:
                self._greeted = True
                self._role.greet()
            self.send()
        except (OSError, SafekitError, ValueError, TypeError, LookupError, AttributeError) as error:
            # What another version or anybody without the key says must not end this process.
            self.lost(str(error) if isinstance(error, OSError | SafekitError) else f"{type(error).__name__}: {error}")
        self._taken()


class Caller(Contact):
    """The primary's contact: it connects.

    :param silent: nothing is to be heard of this server: its lease has ended, or its disk has refused data.
    """

    def __init__(self, *args: Any, silent: Callable[[], bool], **named: Any) -> None:
        super().__init__(*args, **named)
        self._silent = silent

    def _seek(self, now: float) -> None:
        if self._silent():
            return
        self._next_at = now + AGAIN
        family = socket.AF_INET6 if ":" in self._peer[0] else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        try:
            with suppress(OSError):
                connection.bind((self._mine[0], 0))
            connection.connect(self._peer)
        except BlockingIOError:
            pass
        except OSError:
            connection.close()
            return
        self._join(Link(connection, self._names, self._timeout), greeted=False)


class Doorway(Contact):
    """The secondary's contact: the primary comes in by a door, which is shut when this server refuses to go on.

    :param refuses: whether it does.
    :raises OSError: the address cannot be listened on.
    """

    def __init__(self, *args: Any, refuses: Callable[[], bool], **named: Any) -> None:
        super().__init__(*args, **named)
        self._refuses = refuses
        self._door: Door | None = Door(
            self._mine, self._peer[0], self._names, self._timeout,
            watch=self._poller.watch, forget=self._poller.forget, enter=self._enter,
        )  # fmt: skip

    def tick(self, now: float) -> None:
        """What time brings."""
        if self._door is not None:
            self._door.tick(now)
            if self._refuses():
                self._shut()
        super().tick(now)

    def close(self) -> None:
        """The role ends."""
        super().close()
        self._shut()

    def _shut(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.close()

    def _enter(self, link: Link, frames: Iterable[Frame]) -> None:
        """The primary has connected; what it said already is taken."""
        if self._refuses():
            link.close()
            return
        if self.link is not None:  # all that the old connection brought is taken first
            self._peer_ready(select.POLLIN)
            self.lost("the primary has connected anew")
        self._join(link, greeted=True)
        self._take(frames)
