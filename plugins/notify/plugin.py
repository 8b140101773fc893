"""The notifiers that safekit_py brings. Only the processes that check and send import them."""

from __future__ import annotations

from collections.abc import Iterable

from safekit_py.api import Notifier, hookimpl


@hookimpl
def safekit_notifiers() -> Iterable[Notifier]:
    """``<mail>``, ``<webhook>``, ``<snmp>`` and ``<syslog>``."""
    from . import mail, snmp, syslog, webhook  # noqa: PLC0415 - the agent loads this plugin and never calls it

    return (mail.NOTIFIER, webhook.NOTIFIER, snmp.NOTIFIER, syslog.NOTIFIER)
