"""The automaton of a module: which steps lead from one state to another, as one pure table.

Flows through it: a command and the present state in, a tuple of steps out. Nothing is run here.

Invariants, held by tests/unit/core/test_automaton.py:

- between ``Effect.CLOSE`` (or the start) and ``Effect.OPEN`` no client is let in, and every start script of a plan
  comes before ``OPEN``, every stop script of it after ``CLOSE``; only between PRIM and ALONE clients stay;
- a role is taken after the last stop script of the one before and before its own first start script;
- a plan that ends in STOP has released what it prepared, and ends NotReady;
- the scripts of each change of state, and their order, are those of the script contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from safekit_py.model.state import Readiness, State

S = State


class Effect(StrEnum):
    """What a step asks of the module type or of the checkers."""

    PREPARE = "prepare"  # addresses stand, group joined, traffic shut
    WATCH = "watch"  # checkers of the running state run, and each has answered once
    OPEN = "open"  # clients get in
    CLOSE = "close"  # clients stay out
    UNWATCH = "unwatch"  # those checkers stop
    RELEASE = "release"  # group left, addresses removed
    REST = "rest"  # checkers of when="pre" stop too, and nothing is said to other servers any more


@dataclass(frozen=True, slots=True)
class Enter:
    """The module is in this state from here on."""

    state: State
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class Script:
    """Run the script of that name if the module has it, with the contract's arguments."""

    name: str
    current: State
    next: State
    action: str
    forced: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line after the script's name."""
        plain = (self.current.value, self.next.value, self.action)
        return ("force", *plain) if self.forced else plain

    @property
    def starts(self) -> bool:
        """Whether its failure means that the application is not there."""
        return self.name.startswith(("start_", "prestart"))


@dataclass(frozen=True, slots=True)
class Become:
    """The module type takes this role: what the scripts of the role stand on is there afterwards."""

    state: State


Step = Enter | Script | Effect | Become

TRANSITION = "transition"

# The script contract: scripts of each change of state. The new state is entered where ``transition`` stands.
SCRIPTS: dict[tuple[State, State], tuple[str, ...]] = {
    (S.STOP, S.WAIT): (TRANSITION, "prestart"),
    (S.WAIT, S.UP): (TRANSITION, "start_both", "start_prim", "start_sec"),
    (S.WAIT, S.ALONE): (TRANSITION, "start_both", "start_prim", "start_sec"),
    (S.WAIT, S.PRIM): (TRANSITION, "start_both", "start_prim"),
    (S.WAIT, S.SECOND): (TRANSITION, "start_both", "start_second", "start_sec"),
    (S.ALONE, S.PRIM): ("stop_sec", TRANSITION),
    (S.PRIM, S.ALONE): (TRANSITION, "start_sec"),
    (S.SECOND, S.ALONE): ("stop_second", TRANSITION, "start_prim"),
    (S.ALONE, S.SECOND): ("stop_prim", TRANSITION, "start_second"),
    (S.PRIM, S.SECOND): ("stop_prim", TRANSITION, "start_second", "start_sec"),
    (S.SECOND, S.PRIM): ("stop_sec", "stop_second", TRANSITION, "start_prim"),
    (S.PRIM, S.WAIT): ("stop_prim", "stop_both", TRANSITION),
    (S.ALONE, S.WAIT): ("stop_sec", "stop_prim", "stop_both", TRANSITION),
    (S.UP, S.WAIT): ("stop_sec", "stop_prim", "stop_both", TRANSITION),
    (S.SECOND, S.WAIT): ("stop_sec", "stop_second", "stop_both", TRANSITION),
    (S.WAIT, S.STOP): ("stop_sec", "stop_prim", "stop_second", "stop_both", "poststop", TRANSITION),
}

# Which checkers look in which state, by their ``when``. Those of ``pre`` look in every state but STOP.
WATCHED: dict[State, tuple[str, ...]] = {
    S.UP: ("both", "prim", "custom"),
    S.ALONE: ("both", "prim", "custom"),
    S.PRIM: ("both", "prim", "custom"),
    S.SECOND: ("both", "second", "custom"),
}

RESTART: dict[State, tuple[tuple[str, ...], tuple[str, ...]]] = {
    S.PRIM: (("stop_prim", "stop_both"), ("start_both", "start_prim")),
    S.ALONE: (("stop_sec", "stop_prim", "stop_both"), ("start_both", "start_prim", "start_sec")),
    S.UP: (("stop_sec", "stop_prim", "stop_both"), ("start_both", "start_prim", "start_sec")),
    S.SECOND: (("stop_sec", "stop_second", "stop_both"), ("start_both", "start_second", "start_sec")),
}


def _scripts(current: State, following: State, action: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    for name in SCRIPTS[current, following]:
        forced = following is S.STOP and name.startswith("stop_")
        if name == TRANSITION:
            steps.append(Enter(following, Readiness.NOT_READY if following is S.STOP else Readiness.TRANSIENT))
        steps.append(Script(name, current, following, action, forced))
    return tuple(steps)


def begin(action: str = "start") -> tuple[Step, ...]:
    """From STOP to WAIT."""
    return _scripts(S.STOP, S.WAIT, action)


def rise(goal: State, action: str = "start") -> tuple[Step, ...]:
    """From WAIT to ``goal`` (UP for a farm), Ready, once nothing asks to wait."""
    return (
        Effect.PREPARE,
        Become(goal),
        *_scripts(S.WAIT, goal, action),
        Effect.WATCH,
        Effect.OPEN,
        Enter(goal, Readiness.READY),
    )


def change(current: State, following: State, action: str = "start") -> tuple[Step, ...]:
    """From one role to another, Ready. Between PRIM and ALONE the application goes on and clients stay.

    :raises KeyError: the script contract knows no such change.
    """
    scripts = _scripts(current, following, action)
    if {current, following} == {S.PRIM, S.ALONE}:
        return (Become(following), *scripts, Enter(following, Readiness.READY))
    at = next(n for n, step in enumerate(scripts) if isinstance(step, Enter))
    return (
        Enter(current, Readiness.TRANSIENT),
        Effect.CLOSE,
        Effect.UNWATCH,
        *scripts[:at],
        Become(following),
        *scripts[at:],
        Effect.WATCH,
        Effect.OPEN,
        Enter(following, Readiness.READY),
    )


def fall(current: State, action: str) -> tuple[Step, ...]:
    """From a running state to WAIT, Transient."""
    return (
        Enter(current, Readiness.TRANSIENT),
        Effect.CLOSE,
        Effect.UNWATCH,
        *_scripts(current, S.WAIT, action),
        Effect.RELEASE,
    )


def stop(current: State, action: str = "stop", *, force: bool = False) -> tuple[Step, ...]:
    """From any state to STOP, NotReady.

    From WAIT nothing runs any more but what a broken start left: it is released, and the forced scripts remove the
    rest.

    :param force: skip the graceful scripts and go straight to the forced ones.
    """
    if current is S.STOP:
        return (Enter(S.STOP, Readiness.NOT_READY),)
    if current is S.WAIT:
        down: tuple[Step, ...] = (Effect.CLOSE, Effect.UNWATCH, Effect.RELEASE)
    else:
        down = fall(current, action)
        if force:
            down = tuple(s for s in down if not (isinstance(s, Script) and s.name != TRANSITION))
    return (*down, Effect.REST, *_scripts(S.WAIT, S.STOP, action))


def wait(current: State) -> tuple[Step, ...]:
    """From a running state to WAIT, where the module stays until the cause is gone."""
    return (*fall(current, "stopwait"), Enter(S.WAIT, Readiness.NOT_READY))


def restart(current: State) -> tuple[Step, ...]:
    """Stop and start the application; the state stays, clients are elsewhere meanwhile."""
    stops, starts = RESTART[current]
    return (
        Enter(current, Readiness.TRANSIENT),
        Effect.CLOSE,
        Effect.UNWATCH,
        *(Script(name, current, current, "stop") for name in stops),
        *(Script(name, current, current, "start") for name in starts),
        Effect.WATCH,
        Effect.OPEN,
        Enter(current, Readiness.READY),
    )
