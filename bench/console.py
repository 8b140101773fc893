"""How fast a browser shows the console's overview of 32 modules on 16 servers, and a change in it.

    .venv/bin/python bench/console.py [--servers 16] [--modules 32] [--rounds 20] [--json FILE]

Chromium, driven by Playwright, in front of the console's own pages and scripts; only what the servers answer is made up
here, because so many agents do not fit one machine. Printed: the bytes of the first load; from the navigation to the
end of loading; and from a change of one module's state to the page that shows it, of which the page's own pause between
two looks is 0.3 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/integration"))

import uvicorn
from console_support import CHROMIUM, QUIET
from playwright.sync_api import sync_playwright
from starlette.requests import Request

from safekit_py.control.access import Caller, Role
from safekit_py.web.console.cluster import Server
from safekit_py.web.console.pages import Pages

WANTED_KB, WANTED_S, PORT = 300, 1.0, 9499
BYTES = "performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)"
TEXT = "takes its share of the clients"


class Made:
    """Servers that are not there, and their news."""

    def __init__(self, servers: int, modules: int) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.queues: set[asyncio.Queue[str]] = set()
        names = [f"server{number + 1}" for number in range(servers)]
        self.all = [Server(name, name == "server1", self._modules(modules, names)) for name in names]

    @staticmethod
    def _modules(count: int, names: list[str]) -> dict[str, dict[str, object]]:
        members = [{"name": name, "state": "member", "shares": [100 / len(names)]} for name in names]
        about = {"mode": "farm", "state": "UP", "readiness": "Ready", "age": 90.0, "busy": "", "reason": TEXT,
                 "resources": [], "report": {"members": members}, "problems": [], "pending": []}  # fmt: skip
        return {f"module{number + 1}": {"name": f"module{number + 1}", **about} for number in range(count)}

    async def servers(self, _: Caller) -> list[Server]:
        return self.all

    async def news(self):
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.queues.add(queue)
        while True:
            yield await queue.get()

    def change(self, reason: str) -> None:
        self.all[-1].modules["module7"]["reason"] = reason
        for queue in self.queues:
            self.loop.call_soon_threadsafe(queue.put_nowait, self.all[-1].name)


def serve(made: Made) -> uvicorn.Server:
    pages = Pages(made, secure=False)

    async def app(scope, receive, send):
        made.loop = asyncio.get_running_loop()
        request, path = Request(scope), scope["path"]
        if path.startswith("/ui/static/"):
            answer = await pages.static(path.removeprefix("/ui/static/"))
        else:
            answer = await pages.answer(request, Caller(Role.CONTROL, "alice", "bench"), "proof")
        await answer(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, port=PORT, lifespan="off", log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return server


def measure(page, made: Made, rounds: int) -> dict[str, float]:
    loads, shown, size = [], [], 0
    for number in range(rounds):
        page.goto(f"http://127.0.0.1:{PORT}/ui/", wait_until="load")
        timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        loads.append(float(timing))
        size = max(
            size, page.evaluate("performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)")
        )
        page.locator("#live.on").wait_for()
        cell = page.locator('td[data-server="server1"]').first
        cell.wait_for()
        time.sleep(0.5)
        began = time.perf_counter()
        made.change(f"changed {number}")
        page.get_by_text(f"changed {number}", exact=True).wait_for()
        shown.append(time.perf_counter() - began)
    return {
        "kilobytes": size / 1000,
        "load_ms": statistics.median(loads),
        "most_load_ms": max(loads),
        "change_s": statistics.median(shown),
        "most_change_s": max(shown),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, default=16)
    parser.add_argument("--modules", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    made = Made(options.servers, options.modules)
    server = serve(made)
    with sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        row = measure(chromium.new_context().new_page(), made, options.rounds)
        chromium.close()
    server.should_exit = True
    print(f"{options.modules} modules on {options.servers} servers: {row['kilobytes']:.0f} kB (wanted {WANTED_KB}); "
          f"loaded after {row['load_ms']:.0f} ms, at most {row['most_load_ms']:.0f}; a change shown after "
          f"{row['change_s']:.2f} s, at most {row['most_change_s']:.2f} (wanted {WANTED_S})")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps([row], indent=1))


if __name__ == "__main__":
    main()
