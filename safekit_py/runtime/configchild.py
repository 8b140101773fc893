"""The short-lived process that checks configurations: one request in, one answer out, then all its memory is free.

Request, on stdin: pickle of a list of ``configcheck.Request``. Answer, on stdout: pickle of a list of ``Checked`` or
``CheckedCluster``. Pickle is safe here: both ends are the same program of the same user, joined by a pipe of their own.
"""

from __future__ import annotations

import pickle
import sys

from safekit_py.config.checked import Checked, CheckedCluster
from safekit_py.config.cluster import check_cluster
from safekit_py.config.load import check
from safekit_py.errors import Problem
from safekit_py.runtime import plugins
from safekit_py.runtime.configcheck import Request


def answer(request: Request) -> Checked | CheckedCluster:
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
    return check(data, request.name, plugins.load().elements(), macros=dict(request.macros))


def main() -> None:
    """Answer the requests on stdin."""
    requests: list[Request] = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent, see above
    # What a plugin prints must not get between the bytes of the answer.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    pickle.dump([answer(each) for each in requests], out)
    out.flush()


if __name__ == "__main__":
    main()
