"""A browser inside a lab, and what its tests ask of the pages."""

import contextlib
import os
import re
import stat
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",  # everything here runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOTS = os.environ.get("SAFEKIT_SCREENSHOTS", "")  # a folder: pictures of the pages go there


@contextlib.contextmanager
def browser(lab, folder, host="client1"):
    """Chromium in the network of one of the lab's hosts; Playwright drives it through inherited pipes."""
    from playwright.sync_api import sync_playwright

    target = next(word for word in lab._command(host, ["true"]) if word.startswith("--target="))
    start = Path(folder, "chromium")
    start.write_text(f'#!/bin/sh\nexec nsenter {target} --net -- {CHROMIUM} "$@"\n')
    start.chmod(start.stat().st_mode | stat.S_IXUSR)
    with sync_playwright() as player:
        made = player.chromium.launch(executable_path=str(start), args=QUIET)
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def window(made, address, *, language="en", dark=False, width=1280, height=800):
    """A window of a person of its own; what goes wrong in a page's scripts fails the test."""
    context = made.new_context(
        ignore_https_errors=True,
        locale=language,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": height},
        base_url=f"https://{address}:9453",
    )
    context.set_default_timeout(15_000)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
    try:
        yield page
        assert errors == []
    finally:
        context.close()


def log_in(page, user="alice", password="four words on paper", path="/ui/"):
    page.goto(path)
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(re.compile(re.escape(path) + "$"))


def shot(page, name):
    """A picture for docs/console.md, when pictures are asked for."""
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=False)
