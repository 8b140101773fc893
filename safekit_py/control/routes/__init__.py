"""The routes of the control API, one file a subject; each declares its operations for an agent."""

from safekit_py.control.routes import (
    cluster,
    configuration,
    configure,
    control,
    failover,
    history,
    maintenance,
    metrics,
    monitor,
    plugins,
    role,
    support,
)

# In this order they are tried: /modules/NAME/VERB of control must not hide what stands in others.
ALL = (
    history,
    support,
    monitor,
    control,
    role,
    maintenance,
    failover,
    configure,
    configuration,
    cluster,
    plugins,
    metrics,
)
