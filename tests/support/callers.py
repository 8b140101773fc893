"""Calls of the agent's application without a socket, as if a local process of a role had made them."""

import os

from safekit_py.control.access import Role
from safekit_py.runtime.commandlog import Peer


def of_role(app, role, peer=None):
    """The application, called by a process of this role."""

    async def called(scope, receive, send):
        scope["state"] = {"peer": peer or Peer(os.geteuid(), os.getpid()), "role": role}
        await app(scope, receive, send)

    return called


def of_root(app):
    """The application, called by root."""
    return of_role(app, Role.ADMIN)
