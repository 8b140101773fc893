"""The short-lived process that checks configurations: one request in, one answer out, then all its memory is free.

Request, on stdin: pickle of a list of ``configcheck.Request``. Answer, on stdout: pickle of a list of pickles, each of
a ``Checked`` or ``CheckedCluster``. Pickle is safe here: both ends are the same program of the same user, joined by a
pipe of their own.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace

from safekit_py.config.checked import Checked, CheckedCluster, failed, ordered
from safekit_py.config.cluster import check_cluster
from safekit_py.config.load import check
from safekit_py.errors import Problem
from safekit_py.model.config import ModuleConfig
from safekit_py.runtime import guard, plugins
from safekit_py.runtime.configcheck import Request
from safekit_py.runtime.faults import said

RUNNING = ("both", "prim", "second")  # ``when`` of checkers that do not look in WAIT

LIMIT = 10.0  # seconds that the check of one file may take


def answer(request: Request, manager: plugins.Manager | None = None) -> Checked | CheckedCluster:
    """Check one file."""
    outcome = CheckedCluster if request.cluster else Checked
    data = request.data
    if data is None:
        try:
            with open(request.path, "rb") as stream:  # noqa: PTH123 - read(n) bounds what a wrong path can hold
                data = stream.read((1 << 20) + 1)
        except OSError as error:
            reason = error.strerror or str(error)
            problem = Problem("config.unreadable", f"The file cannot be read: {reason}", "name a file", request.path)
            return outcome(None, (problem,))
    if request.cluster:
        return check_cluster(data, request.name)
    manager = manager or plugins.load()
    checked = check(data, request.name, manager.elements(), macros=dict(request.macros))
    if checked.config is None:
        return checked
    more = [replace(each, file=request.name) for each in _beyond_schema(manager, checked.config)]
    problems = ordered([*checked.problems, *more])
    return replace(checked, config=None if failed(more) else checked.config, problems=problems)


def _beyond_schema(manager: plugins.Manager, config: ModuleConfig) -> Iterator[Problem]:
    """What only the plugins know: modes, actions, and what a module type asks of its configuration."""
    mode, types, actions = config.service.mode, manager.module_types(), manager.actions()
    if mode in types:
        yield from types[mode].check(config, None)
    else:
        yield Problem("config.unknown-mode", f"no plugin brings the mode {mode}", f"one of: {', '.join(sorted(types))}")
    for kind in manager.checkers().values():
        yield from kind.check(config)
    for path, values in config.elements:
        for value in values:
            action = getattr(value, "action", None)
            if isinstance(action, str) and action not in actions:
                text = f'action="{action}" of <{path.rpartition("/")[2]}> is brought by no plugin'
                yield Problem("config.unknown-action", text, f"one of: {', '.join(sorted(actions))}")
            yield from _cycles(path.rpartition("/")[2], value)
    for rule in config.failover.rules:
        if rule.action not in actions:
            text = f"the action '{rule.action}' of the rule '{rule.label}' is brought by no plugin"
            yield Problem("config.unknown-action", text, f"one of: {', '.join(sorted(actions))}", line=rule.line)


def _cycles(tag: str, value: object) -> Iterator[Problem]:
    """A checker that ends in WAIT cannot keep a module there: what it saw is forgotten, and the module starts again."""
    when, ident = getattr(value, "when", ""), getattr(value, "ident", "")
    if getattr(value, "action", "") == "wait" and when in RUNNING:
        name = f'<{tag} ident="{ident}">' if ident else f"<{tag}>"
        text = (
            f'{name} looks only while the application runs (when="{when}"): after action="wait" the module starts again'
        )
        yield Problem("config.wait-cycles", f"{text}, until maxloop", 'write when="pre"', severity="warning")


def main() -> None:
    """Answer the requests on stdin."""
    requests: list[Request] = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent, see above
    # What a plugin prints must not get between the bytes of the answer.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    # One set of plugins for all the files of a run: loading them takes longer than a check.
    manager = None if all(each.cluster for each in requests) else plugins.load()
    pickle.dump([_packed(each, manager) for each in requests], out)
    out.flush()


def _packed(request: Request, manager: plugins.Manager | None) -> bytes:
    """The answer, pickled by itself: a plugin that hangs, exits or builds odd values spoils one file, not all."""
    try:
        with guard.within(LIMIT, f"the check of {request.name}"):
            return pickle.dumps(answer(request, manager))
    except (Exception, SystemExit) as error:
        outcome = CheckedCluster if request.cluster else Checked
        text = f"The file could not be checked: {said(error)}"
        remedy = "safekit-py plugins check NAME tells whether a plugin is the reason"
        return pickle.dumps(outcome(None, (Problem("config.plugin-failed", text, remedy, request.name),)))


if __name__ == "__main__":
    main()
