"""The routes of the control API, one file a subject; each declares its operations for an agent."""

from safekit_py.control.routes import (
    access,
    cluster,
    configuration,
    configure,
    control,
    events,
    failover,
    history,
    maintenance,
    metrics,
    monitor,
    notify,
    operations,
    plugins,
    role,
    support,
)

# In this order they are tried: /modules/NAME/VERB of control must not hide what stands in others.
ALL = (
    access,
    events,
    history,
    support,
    monitor,
    operations,
    control,
    role,
    maintenance,
    failover,
    configure,
    configuration,
    cluster,
    plugins,
    notify,
    metrics,
)
