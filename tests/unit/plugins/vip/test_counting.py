"""The number of an address's connections as a resource: real sockets on loopback."""

import asyncio
import socket
from ipaddress import ip_address

from safekit_py.plugins.vip import counting


def test_it_counts_what_is_established_at_each_look(monkeypatch):
    monkeypatch.setattr(counting, "PERIOD", 0.05)
    checker = counting.ConnectionCount(ip_address("127.0.9.7"))
    assert (checker.resource, checker.action) == ("connections.127.0.9.7", "noaction")

    async def main():
        said = asyncio.Queue()
        task = asyncio.create_task(checker.run(lambda status, cause: said.put_nowait(status)))

        async def until(value):
            async with asyncio.timeout(5):
                while await said.get() != value:
                    pass

        with socket.create_server(("127.0.9.7", 0)) as listener:
            await until("0")
            with socket.create_connection(listener.getsockname()):
                await until("1")
            await until("0")
        task.cancel()

    asyncio.run(main())
