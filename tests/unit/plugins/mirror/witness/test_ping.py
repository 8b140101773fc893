"""An echo as the witness: asked for real, on loopback."""

import asyncio

import pytest
from safekit_py.plugins.checkers.splitbrain_element import SplitbrainCheck
from safekit_py.plugins.mirror.lease import Lease, boottime
from safekit_py.plugins.mirror.seams import Beat
from safekit_py.plugins.mirror.witness.ping import PATIENCE, PingWitness

HERE, NOWHERE = "127.0.0.1", "fe80::1"  # to the second nothing can be sent: no device is named


def asked(*hosts, **how):
    return asyncio.run(PingWitness(SplitbrainCheck("router", hosts)).acquire("d2", "d1", **how))


@pytest.mark.lab
@pytest.mark.parametrize("hosts", [(HERE,), (NOWHERE, HERE)])
def test_one_host_that_answers_is_enough(hosts):
    found = asked(*hosts)
    assert found.granted, found.reason
    assert HERE in found.reason


@pytest.mark.lab
def test_no_host_that_answers():
    found = asked(NOWHERE)
    assert (found.granted, found.answered) == (False, False)
    assert NOWHERE in found.reason


@pytest.mark.lab
def test_it_says_nothing_of_data():
    assert not asked(HERE, known=True).granted


@pytest.mark.lab
def test_what_it_granted_holds_until_it_is_given_back():
    async def play():
        lease = Lease(PingWitness(SplitbrainCheck("router", (HERE,))), 0.0, PATIENCE)
        assert lease.until(None, None) == 0
        await lease.acquire("d2", "d1", known=False)
        lease.keep()
        later = lease.until(Beat(0, {}, 0), None)
        words = lease.words("alone")
        await lease.close()
        return later, words, lease.until(None, None)

    later, words, after = asyncio.run(play())
    assert later > boottime() + 1e15
    assert words == f"an echo: {HERE} answers"
    assert after == 0
