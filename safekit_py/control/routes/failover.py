"""The route that explains the failover rules of a module; it changes nothing."""

from __future__ import annotations

from typing import Annotated

from safekit_py.control import schemas
from safekit_py.control.access import Role
from safekit_py.control.routing import Query, Routes
from safekit_py.core.rules import Explained
from safekit_py.errors import ConfigError, Problem
from safekit_py.runtime.agent import Agent


def simulated(pairs: list[str]) -> dict[str, str]:
    """``class.id=value`` as name and value; a name may begin with ``remote.``.

    :raises ConfigError: one is not of that form.
    """
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        kind, _, ident = name.partition(".")
        if not sign or not kind or not ident or not value:
            text = f"'{pair}' does not say which resource has which value"
            remedy = "write class.id=value, such as tcp.Check_Appli=down"
            raise ConfigError(Problem("failover.bad-simulation", text, remedy))
        found[name] = value
    return found


def _item(rule: Explained) -> schemas.RuleItem:
    return schemas.RuleItem(
        label=rule.label,
        action=rule.action,
        origin=rule.origin,
        line=rule.line,
        text=rule.text,
        true=rule.true,
        operands=[schemas.OperandItem(operand=each.operand, values=dict(each.values)) for each in rule.operands],
        causes=list(rule.causes),
        since=rule.since,
        left=rule.left,
        taken=rule.taken,
        why=rule.why,
    )


def router(agent: Agent) -> Routes:
    """The routes for this agent."""
    routes = Routes(prefix="/api/v1", tags=["failover"], changes=Role.CONTROL)

    @routes.get("/modules/{name}/failover")
    async def explain(name: str, simulate: Annotated[list[str] | None, Query()] = None) -> schemas.FailoverDocument:
        """Each failover rule, whether it is true, why, and what would follow; ``simulate`` takes class.id=value."""
        runner = agent.runner(name)
        values = simulated(simulate or [])
        return schemas.FailoverDocument(
            module=name,
            on=runner.failover_on,
            handle_time=runner.config.failover.handle_time,
            simulated=values,
            rules=[_item(rule) for rule in runner.explain(values)],
        )

    return routes
