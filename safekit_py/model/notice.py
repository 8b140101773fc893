"""What is told to people by mail, webhook, trap or syslog, and what a plugin brings to tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from safekit_py.model.plugin import ElementNode

LEVELS = ("info", "warning", "critical")
"""How bad it is, from the least."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell.

    :param ident: of the condition, the same when it begins and when it ends: ``web/state``, ``web/server/server2``.
    :param kind: ``raised`` and ``cleared``, a condition begins and ends; ``repeated``, it lasts; ``event``, something
        has happened and does not last; ``test``.
    :param level: one of ``LEVELS``; of a condition that ends, the one that it had.
    :param server: who tells it.
    :param module: empty when it is about no module.
    :param subject: one line.
    :param text: why, and what to do; may have several lines.
    :param time: seconds since the epoch, for people.
    :param since: the same, of the condition's beginning.
    :param held: notices before this one that were not sent, because there were too many.
    """

    ident: str
    kind: str
    level: str
    server: str
    module: str
    subject: str
    text: str
    time: float
    since: float = 0.0
    held: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Notice:
        """The inverse of :meth:`as_dict`; unknown keys are ignored."""
        return cls(**{key: values[key] for key in cls.__slots__ if key in values})


@dataclass(frozen=True, slots=True)
class Notifier:
    """A way to tell people, as a plugin brings it: an element of notify.xml.

    :param tag: the element's name.
    :param xsd: the text of one ``<xs:element name="TAG">`` whose type is one ``<xs:complexType>`` with attributes only.
        The attributes ``name``, ``least`` and ``modules`` are the engine's, and are added.
    :param build: makes the target, a value of the plugin's own, out of the element.
    :param send: sends a notice to a target, and returns when it was taken, within a minute. It runs in a thread of the
        process that sends, and may block. An ``OSError`` means that it may be tried again, a ``SafekitError`` that the
        target never takes it.
    """

    tag: str
    xsd: str
    build: Callable[[ElementNode], Any]
    send: Callable[[Any, Notice], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to tell, of notify.xml.

    :param least: the level from which on it is told.
    :param modules: patterns of the modules that it is told about.
    :param value: what the notifier made of the element.
    """

    name: str
    tag: str
    least: str
    modules: tuple[str, ...]
    value: Any
    line: int = 0


@dataclass(frozen=True, slots=True)
class Notifications:
    """A notify.xml.

    :param repeat: seconds between two words about a condition that lasts; 0: it is told once.
    :param limit: notices that a target gets within ``window`` seconds at most.
    :param give_up: seconds after which a notice that cannot be sent is written down and forgotten.
    """

    targets: tuple[Target, ...]
    repeat: float = 3600.0
    limit: int = 20
    window: float = 600.0
    give_up: float = 900.0
