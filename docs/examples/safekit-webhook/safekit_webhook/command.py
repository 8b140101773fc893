"""``safekit-py webhook test|status``."""

from __future__ import annotations

from typing import Any

import click


@click.group()
def webhook() -> None:
    """Notifications to a URL."""


@webhook.command()
@click.option("-m", "--module", "module", required=True, metavar="NAME", help="The module whose <webhook> is tried.")
@click.pass_obj
def test(agent: Any, module: str) -> None:
    """Send a test document now, and say how it was taken."""
    answer = agent.call("POST", f"/plugins/webhook/test/{module}")
    click.echo(f"{answer['url']} answers {answer['status']}")


@webhook.command()
@click.pass_obj
def status(agent: Any) -> None:
    """Show what is on its way, and what became of the rest."""
    found = agent.call("GET", "/plugins/webhook/status")
    for module, url in found["modules"].items():
        click.echo(f"{module} -> {url}")
    click.echo(", ".join(f"{found[each]} {each}" for each in ("waiting", "delivered", "failed", "dropped")))
    if found["last_error"]:
        click.echo(f"last error: {found['last_error']}")
