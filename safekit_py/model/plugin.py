"""What plugins hand to the engine: elements of the configuration, module types, checkers, actions.

These are the seams of the system. The built-in module types and checkers use them as a third party's do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from safekit_py.errors import Problem
from safekit_py.model.config import Cluster, ModuleConfig
from safekit_py.model.keys import Keyring
from safekit_py.model.paths import Paths
from safekit_py.model.state import Readiness, Severity, State


class ElementNode(Protocol):
    """One XML element after macros, schema validation and defaults, as a plugin's ``build`` sees it."""

    tag: str
    line: int

    def get(self, attribute: str) -> str | None:
        """The attribute's text (with the schema's default filled in), or None."""

    def duration(self, attribute: str, unit: str) -> float | None:
        """The attribute as seconds; a bare number counts in ``unit`` (d h m s ms us). None when absent."""

    def children(self, tag: str) -> tuple[ElementNode, ...]:
        """The child elements of that tag, in document order."""

    def problem(self, code: str, message: str, remedy: str = "", *, warning: bool = False) -> None:
        """Report something wrong here; the file and the line are filled in."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of userconfig.xml that a plugin contributes.

    :param tag: the element's name.
    :param parent: ``service`` or the path of the element below ``<service>`` that contains it (``check``).
    :param xsd: the text of one ``<xs:element name="TAG">…</xs:element>`` with its attributes, defaults and children.
        The simple types ``sk:duration``, ``sk:onoff`` and ``sk:macro`` of the engine's schema may be used.
    :param build: makes the frozen value out of the element; None for an element that is accepted and does nothing
        yet, in which case ``note`` says so to the user as a warning.
    :param many: whether the element may stand more than once.
    :param note: for an element without ``build``: why it does not act yet, one sentence.
    """

    tag: str
    parent: str
    xsd: str
    build: Callable[[ElementNode], Any] | None = None
    many: bool = False
    note: str = ""


def _unknown(_name: str) -> str:
    return "unknown"


def _nobody(_action: str, _identity: str, _cause: str, _arguments: tuple[str, ...]) -> None:
    """Outside of a runner nobody carries an action out."""


def _nothing(_module: str) -> Mapping[str, Any]:
    return {}


async def _no_script(_name: str, _arguments: tuple[str, ...]) -> bool:
    """Outside of a runner there are no scripts."""
    return False


def _no_change(_state: State, _cause: str) -> None:
    """Outside of a runner nobody changes a role."""


def _no_remote(_resources: Mapping[str, str]) -> None:
    """Outside of a runner there is no other server."""


def _no_resources() -> Mapping[str, str]:
    return {}


async def _no_order(_verb: str, _cause: str) -> None:
    """Outside of a runner nobody carries an order out."""


def _always() -> bool:
    return True


def _fine(_config: ModuleConfig) -> Iterable[Problem]:
    return ()


@dataclass(frozen=True, slots=True)
class ModuleContext:
    """What a running module gives to its type and its checkers.

    :param log: write one line to the module's log: severity, message.
    :param set_resource: set a resource: name (``class.id``), value, cause.
    :param node: the name of this server; its number is its place in ``cluster.nodes``.
    :param keys: those shared by the servers. What must not change with a rotation is made of ``keys.ring.origin``.
    :param module_id: 0-based number of the module in this cluster, the same on every server: ports depend on it.
    :param resource: the value of a resource of this module; ``unknown`` when nobody has set it.
    :param request: ask for an action at once, as a script does with ``-i``: the action's name, who asks, why, and
        arguments that the scripts get after those of the contract. It counts against ``maxloop`` as the action says.
    :param ask: what this server knows of another module of its own, by name: ``state``, ``readiness`` and ``starts``
        (how often its application was started since the agent began); empty when it is not installed.
    :param script: run a script of the module's bin as any other of its scripts: name, arguments. False when it has none
        of that name; raises a SafekitError when it failed. It is ended when the caller is cancelled.
    :param change: ask for another role: the state, and why. It is carried out when nothing else is; whoever asks looks
        again in ``ModuleRuntime.look``, for something may have come before it.
    :param set_remote: the other server's resources, name and value: what rules mean by ``remote.class.id``.
    :param resources: every resource of this module and its value.
    :param order: carry out what a person orders (``start``, ``swap``, ``stopstart`` …): the verb and why. Returns when
        it is done; raises a SafekitError when it cannot be.
    :param automatic: whether the module may act by itself: not while a person has switched failover off.
    """

    name: str
    config: ModuleConfig
    cluster: Cluster
    node: str
    paths: Paths
    keys: Keyring
    module_id: int
    log: Callable[[Severity, str], None]
    set_resource: Callable[[str, str, str], None]
    resource: Callable[[str], str] = _unknown
    request: Callable[[str, str, str, tuple[str, ...]], None] = _nobody
    ask: Callable[[str], Mapping[str, Any]] = _nothing
    script: Callable[[str, tuple[str, ...]], Awaitable[bool]] = _no_script
    change: Callable[[State, str], None] = _no_change
    set_remote: Callable[[Mapping[str, str]], None] = _no_remote
    resources: Callable[[], Mapping[str, str]] = _no_resources
    order: Callable[[str, str], Awaitable[None]] = _no_order
    automatic: Callable[[], bool] = _always


class ModuleRuntime(Protocol):
    """One module of a type at work on this server. The engine calls these in the order of the automaton.

    It may have a function ``explain(what, words)`` besides: plain values about itself for commands of its type.
    """

    async def recover(self) -> None:
        """Remove what an earlier run that was killed left in the kernel. Called before anything else."""

    async def prepare(self) -> None:
        """Before the start scripts: the addresses stand, the group is joined, no client gets in yet."""

    async def open(self) -> None:
        """The application is ready: let clients in."""

    async def close(self) -> None:
        """Keep new clients out; returns when the other servers have taken over, or after a bounded wait."""

    async def release(self) -> None:
        """After the stop scripts: leave the group, remove addresses and everything else."""

    def report(self) -> Mapping[str, Any]:
        """Plain values for ``status``."""


class Drains(ModuleRuntime, Protocol):
    """A module that knows when its clients have left: what ``stop --drain`` asks of it besides."""

    async def drain(self, tell: Callable[[str], None]) -> None:
        """Keep new clients out and return when those that are there have left; it may be cancelled before.

        :param tell: say in one phrase how many are left.
        """


class Lasting(ModuleRuntime, Protocol):
    """A module that goes on while the agent's process is replaced by another one, as in an upgrade.

    Its type has an attribute ``lasts``, a text that tells what :meth:`hand_over` gives: two versions of a plugin hand
    over to each other only when theirs are equal and not empty. It may have an attribute ``engaged``: in a phrase what
    it does for a person, and another process could not go on with; while that is not empty it is not handed over.
    """

    async def hand_over(self) -> bytes:
        """Let go of everything as it is, for :meth:`take_over` in the next process. Nothing else is called then."""

    async def take_over(self, left: bytes) -> None:
        """Go on as an open module where another process has ended; called instead of ``recover`` and ``prepare``."""


class Gated(ModuleRuntime, Protocol):
    """A module whose scripts may open and close its traffic."""

    async def traffic(self, *, opened: bool) -> None:
        """A script wants clients to get in, or to stay out; returns when it is so.

        :raises SafekitError: scripts have no say, or it cannot be done.
        """


class Roles(ModuleRuntime, Protocol):
    """A module whose servers have roles (PRIM, SECOND, ALONE): what the engine asks of it besides."""

    async def elect(self, tell: Callable[[str], None]) -> State:
        """In WAIT: the role to start in, once it is known; it may wait for ever and is then cancelled.

        :param tell: say in one phrase what it waits for.
        """

    async def become(self, state: State) -> None:
        """Take this role: before the scripts that start it, after those that stop the one before.

        Between PRIM and ALONE the application goes on meanwhile.
        """

    async def settled(self) -> None:
        """After ``open``: return when the role is complete, as a secondary's is when it has all data. Interruptible."""

    def look(self, state: State, readiness: Readiness, reason: str) -> None:
        """The module is in this state now, or something about it has changed."""

    def reconfigured(self, config: ModuleConfig) -> None:
        """The configuration was changed in parts that a running module takes."""

    async def rest(self) -> None:
        """The module is in STOP: no word goes to the other server any more."""

    async def command(self, verb: str, arguments: tuple[str, ...]) -> Mapping[str, Any]:
        """A command that only such a module has (``prim``, ``second``, ``rfsverify`` …).

        :return: plain values for whoever asked; ``text`` is a line to be read.
        :raises SafekitError: it is not possible now; nothing has been changed.
        """


class ModuleType(Protocol):
    """A kind of module, named by ``<service mode>``.

    A type whose modules live on one server alone has an attribute ``clustered`` that is false: such a module needs
    neither cluster.xml nor a key. The ``runtime`` of a type with roles is a :class:`Roles`; it has an attribute
    ``roles`` that is true, and ``goal`` means nothing then.
    """

    name: str
    goal: State

    def check(self, config: ModuleConfig, cluster: Cluster | None) -> Iterable[Problem]:
        """What is wrong with this configuration beyond its schema; ``cluster`` is None when not known yet."""

    def requirements(self, config: ModuleConfig) -> Iterable[Problem]:
        """What this server lacks to run it; asked at start, before anything is changed."""

    def runtime(self, context: ModuleContext) -> ModuleRuntime:
        """The module at work; constructing it must change nothing."""


class Checker(Protocol):
    """Watches one thing and reports it as a resource.

    ``when`` is ``pre`` (from before the start until the module is stopped), ``both`` (while the application runs),
    ``prim`` or ``second`` (only in those roles; a farm's server counts as prim), or ``custom`` (only once somebody has
    enabled it). ``action`` names what is to follow when the resource is down: the engine makes a failover rule of it;
    ``noaction`` makes none.

    A checker may have three attributes more. ``rule`` is the label of its failover rule; without it, that is the
    resource's name with ``_`` for the dot, and checkers with one label share one rule. ``limit`` is the longest time
    in seconds between two reports; past it the resource is ``unknown`` and the checker is started again. Without it, a
    checker may be silent for ever. ``quiet``, when true, keeps the changes of its resource out of the log:
    of a figure that is another one at each look.

    ``run`` shares the agent's event loop when it is a coroutine function. When it is a plain function it gets a thread
    of its own, and a second argument: an event that is set when it must end.
    """

    resource: str
    when: str
    action: str

    async def run(self, report: Callable[[str, str], None]) -> None:
        """Watch until cancelled; call ``report(status, cause)`` after each look (up or down)."""


@dataclass(frozen=True, slots=True)
class CheckerType:
    """Makes the checkers that a configuration asks for.

    :param create: the checkers for this configuration, possibly none.
    :param check: what is wrong with a configuration beyond its schema; asked in a short-lived process.
    """

    name: str
    create: Callable[[ModuleContext], Iterable[Checker]]
    check: Callable[[ModuleConfig], Iterable[Problem]] = _fine


class ModuleControl(Protocol):
    """What an action may do with a module; each returns when it is done."""

    name: str

    async def restart(self, cause: str) -> None:
        """Run the stop and start scripts; the state stays."""

    async def stopstart(self, cause: str) -> None:
        """Stop the module and start it again."""

    async def stop(self, cause: str) -> None:
        """Stop the module on this server."""

    async def wait(self, cause: str) -> None:
        """Stop the application and stay in WAIT until the cause is gone."""

    async def swap(self, cause: str) -> None:
        """Exchange the roles of the two servers."""


@dataclass(frozen=True, slots=True)
class Action:
    """What may follow when a failover rule holds.

    :param counted: whether it counts against ``maxloop``.
    :param rank: of several actions that are wished at once the one of the highest rank is taken. The built-in ones:
        0 noaction, 10 restart, 20 swap, 30 wait, 40 stopstart, 50 stop. An action
        below 10 does nothing to the module: it runs beside what the module does, once each time that its rule begins
        to hold, and its control refuses everything.
    """

    name: str
    run: Callable[[ModuleControl, str], Awaitable[None]]
    counted: bool = True
    rank: int = 10


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure that monitoring may collect.

    :param name: in the style of Prometheus, with the unit: ``webhook_calls_total``; ``safekit_`` is put before it.
    :param kind: ``gauge`` or ``counter``.
    :param samples: labels and value of each sample.
    """

    name: str
    help: str
    kind: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


class ModuleHandle(Protocol):
    """One module of this server, as a plugin's routes and metrics may see it."""

    name: str

    def status(self) -> Mapping[str, Any]:
        """``state``, ``readiness``, ``reason``, ``mode`` and ``starts``; ``mode`` is empty when it cannot run."""

    def resources(self) -> Mapping[str, str]:
        """Every resource and its value."""

    def report(self) -> Mapping[str, Any]:
        """What its type shows in ``status``; empty when it cannot run."""

    def set_resource(self, name: str, value: str, cause: str) -> None:
        """Set a resource: name (``class.id``), value, cause."""

    def request(self, action: str, identity: str, cause: str) -> None:
        """Ask for an action, as a script does with ``-i``."""


class Server(Protocol):
    """This server, as a plugin's routes and metrics may see it."""

    @property
    def node(self) -> str:
        """Its name in cluster.xml; empty while there is none."""

    @property
    def paths(self) -> Paths:
        """Where its files are."""

    def modules(self) -> tuple[str, ...]:
        """The names of the installed modules."""

    def module(self, name: str) -> ModuleHandle:
        """One of them.

        :raises NotFoundError: it is not installed.
        """
