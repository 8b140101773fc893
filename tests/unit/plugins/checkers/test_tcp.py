"""``<tcp>`` against a port of this machine."""

import asyncio

from safekit_py.plugins.checkers.tcp import TcpChecker
from safekit_py.plugins.checkers.tcp_element import TcpCheck


def checker(port, host="127.0.0.1", interval=0.3):
    return TcpChecker(TcpCheck("web", "both", "restart", host, port, interval, 1.0))


def test_what_the_engine_reads():
    made = checker(80)
    assert (made.resource, made.rule, made.when, made.action) == ("tcp.web", "t_web", "both", "restart")
    assert made.limit > 1.3


def test_a_port_that_answers_then_does_not_and_does_again():
    async def scenario():
        said = asyncio.Queue()
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        task = asyncio.create_task(checker(port).run(lambda *words: said.put_nowait(words)))

        async def until(status):
            async with asyncio.timeout(10):
                while (words := await said.get())[0] != status:
                    pass
            return words[1]

        try:
            assert await until("up") == f"127.0.0.1:{port} answers"
            server.close()
            await server.wait_closed()
            assert await until("down") == f"connection refused by 127.0.0.1:{port}"
            server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", port)
            await until("up")
        finally:
            task.cancel()
            server.close()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def test_a_name_that_cannot_be_resolved():
    found = asyncio.run(checker(80, "no-such-host.invalid").look())
    assert found == "the host name no-such-host.invalid cannot be resolved"
