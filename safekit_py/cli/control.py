"""Commands that change what a module does, or wait until it has done it; and the agent itself."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

import click

from safekit_py.cli.common import Command, Session, emit, json_option, module_option
from safekit_py.errors import Problem, SafekitError, SystemProblem
from safekit_py.model.state import State

DRAIN = "60s"
RENEWED = 90.0  # seconds in which the next agent answers
HELP = {
    "start": "Start a module on this server.",
    "restart": "Stop and start the application; the module keeps its state.",
    "stopstart": "Stop the module and start it again.",
    "forcestop": "Stop at once: ends a script that hangs, runs only the forced stop scripts.",
}


def _make(verb: str) -> click.Command:
    @click.command(verb, cls=Command, help=HELP[verb], short_help=HELP[verb])
    @module_option
    @click.option("-i", "--identity", help="Who asks (a script, a checker): counts against maxloop.")
    @click.option("--wait", is_flag=True, help="Return when it is done, and fail if it fails.")
    @json_option
    @click.pass_obj
    def command(session: Session, module: str, identity: str | None, wait: bool, as_json: bool) -> None:
        _ask(session, module, verb, identity, wait=wait, as_json=as_json)

    return command


def _ask(session: Session, module: str, verb: str, identity: str | None, *, wait: bool, as_json: bool) -> None:
    parameters = {"wait": wait, **({"identity": identity} if identity else {})}
    if wait and not as_json and sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415 - loaded only where needed

        with Console(stderr=True).status(f"{verb} {module} …"):
            answer = session.call("POST", f"/modules/{module}/{verb}", params=parameters)
    else:
        answer = session.call("POST", f"/modules/{module}/{verb}", params=parameters)
    _tell(module, verb, answer, as_json=as_json)


def _tell(module: str, verb: str, answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(answer)
        return
    item = answer["module"]
    if answer["done"]:
        click.echo(f"{verb} {module}: done, {item['state']} {item['readiness']}")
    else:
        click.echo(f"{verb} {module}: accepted; follow it with safekit-py status --watch")


class Drain(click.ParamType):  # type: ignore[type-arg]
    """How long clients are waited for: a duration, bare numbers count in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        from safekit_py.config.durations import parse  # noqa: PLC0415 - most commands do without

        try:
            return value if isinstance(value, float) else parse(value, "s")
        except ValueError as error:
            self.fail(f"{error}. The module's name stands before --drain, or after -m.", param, ctx)


@click.command(cls=Command)
@module_option
@click.option("-i", "--identity", help="Who asks (a script, a checker).")
@click.option("--wait", is_flag=True, help="Return when it is done, and fail if it fails.")
@click.option(
    "--drain",
    type=Drain(),
    is_flag=False,
    flag_value=DRAIN,
    metavar="[DURATION]",
    help=f"Give new clients to the other servers at once, and stop when those that are here have left, or after this "
    f"time ({DRAIN} without a value). Shows what it waits for; another stop, without --drain, ends the waiting.",
)
@json_option
@click.pass_obj
def stop(session: Session, module: str, identity: str | None, wait: bool, drain: float | None, as_json: bool) -> None:
    """Stop a module on this server; new clients go to the other servers first."""
    if drain is None:
        _ask(session, module, "stop", identity, wait=wait, as_json=as_json)
        return
    from safekit_py.cli.drain import drained  # noqa: PLC0415 - most commands do without

    _tell(module, "stop", drained(session, module, drain, identity, quiet=as_json), as_json=as_json)


@click.command(cls=Command)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("--trace-hooks", is_flag=True, help="Write every call of a plugin's hook to stderr.")
@click.pass_obj
def agent(session: Session, verbose: bool, trace_hooks: bool) -> None:
    """Run the agent in the foreground (systemd does this)."""
    if trace_hooks:
        os.environ["SAFEKIT_TRACE_HOOKS"] = "1"
    from safekit_py.cli.agent import run  # noqa: PLC0415 - loaded only where needed

    run(session.paths, verbose=verbose)


@click.command(cls=Command)
@click.option("--if-running", is_flag=True, help="Do nothing, and succeed, where no agent runs.")
@json_option
@click.pass_obj
def renew(session: Session, if_running: bool, as_json: bool) -> None:
    """Replace the agent's process by one of the installed version, as after an upgrade; modules go on meanwhile.

    Refused, with nothing changed, while a module could not go on, as one that is being started or stopped.
    """
    try:
        before = session.call("GET", "/process")
    except SystemProblem:
        if if_running:
            return
        raise
    following = session.call("POST", "/renew")["pid"]
    end, now = time.monotonic() + RENEWED, before
    while now["pid"] == before["pid"] and time.monotonic() < end:
        time.sleep(0.1)
        with contextlib.suppress(SystemProblem):  # neither of them answers for a moment
            now = session.call("GET", "/process")
    if now["pid"] != following:
        text = f"process {following} does not answer" if now == before else f"process {now['pid']} answers instead"
        raise SafekitError(Problem("agent.not-renewed", f"the agent was not replaced as agreed: {text}", "see its log"))
    emit({"before": before, "now": now}) if as_json else click.echo(
        f"the agent is process {now['pid']} of version {now['version']} now; before: {before['version']}"
    )


start, restart, stopstart, forcestop = map(_make, HELP)

WAITS = {
    "waitstart": ("start", "Wait until a module is Ready; exit code 1 when it ends in STOP or the time is over."),
    "waitstop": ("stop", "Wait until a module is stopped."),
}


def _wait(session: Session, module: str, state: str, timeout: float | None, as_json: bool) -> None:
    parameters: dict[str, object] = {"state": state}
    if timeout is not None:
        parameters["limit"] = timeout
    answer = session.call("GET", f"/modules/{module}/wait", params=parameters)
    item = answer["module"]
    emit(answer) if as_json else click.echo(f"{module}: {item['state']} {item['readiness']}")


timeout_option = click.option(
    "-t", "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Give up after this time."
)


def _make_wait(name: str) -> click.Command:
    state, text = WAITS[name]

    @click.command(name, cls=Command, help=text, short_help=text)
    @module_option
    @timeout_option
    @json_option
    @click.pass_obj
    def command(session: Session, module: str, timeout: float | None, as_json: bool) -> None:
        _wait(session, module, state, timeout, as_json)

    return command


waitstart, waitstop = map(_make_wait, WAITS)


@click.command(cls=Command)
@click.argument("state", type=click.Choice([each.value for each in State], case_sensitive=False))
@click.option("-m", "--module", "module", envvar="SAFEMODULE", required=True, metavar="NAME", help="The module.")
@timeout_option
@json_option
@click.pass_obj
def waitstate(session: Session, state: str, module: str, timeout: float | None, as_json: bool) -> None:
    """Wait until a module is in STATE, and Ready where the state knows that."""
    _wait(session, module, state.upper(), timeout, as_json)


@click.command(cls=Command)
@click.option("-m", "--module", "module", metavar="NAME", help="Only this module.")
@json_option
@click.pass_obj
def shutdown(session: Session, module: str | None, as_json: bool) -> None:
    """Stop every module of this server, and wait until all are stopped."""
    if module:
        stopped = [session.call("POST", f"/modules/{module}/stop", params={"wait": True})["module"]]
    else:
        stopped = session.call("POST", "/shutdown")
    if as_json:
        emit(stopped)
        return
    for item in stopped:
        click.echo(f"{item['name']}: {item['state']} {item['readiness']}")
