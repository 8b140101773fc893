"""``<splitbrain>``: witnesses are asked for real, on the loopback device."""

import asyncio
import os
import time

import pytest
from safekit_py.plugins.checkers import splitbrain
from safekit_py.plugins.checkers.splitbrain_element import SplitbrainCheck

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="echo requests need a right")


def look(*witnesses):
    return asyncio.run(splitbrain.WitnessChecker(SplitbrainCheck("w", witnesses)).look())


def test_up_when_one_of_them_answers_without_waiting_for_the_others(monkeypatch):
    monkeypatch.setattr(splitbrain, "TIMEOUT", 30.0)
    began = time.monotonic()
    assert look("no-such-host.invalid", "127.0.0.1") == ("up", "127.0.0.1 answers")
    assert time.monotonic() - began < 10


def test_down_when_none_answers_and_each_is_named(monkeypatch):
    monkeypatch.setattr(splitbrain, "TIMEOUT", 0.5)
    status, cause = look("no-such-host.invalid", "255.255.255.255")
    assert status == "down"
    assert "no-such-host.invalid" in cause
    assert "255.255.255.255" in cause


def test_it_leaves_no_task_behind(monkeypatch):
    monkeypatch.setattr(splitbrain, "TIMEOUT", 30.0)

    async def looked():
        await splitbrain.WitnessChecker(SplitbrainCheck("w", ("127.0.0.1", "255.255.255.255"))).look()
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(looked()) == set()


def test_the_rule_looks_at_uptodate_which_is_up_without_roles():
    check = SplitbrainCheck("w", ("127.0.0.1",))
    witness, uptodate = splitbrain.WitnessChecker(check), splitbrain.UptodateChecker(check)
    assert (witness.resource, witness.action) == ("splitbrain.w", "noaction")
    assert (uptodate.resource, uptodate.rule, uptodate.action) == ("splitbrain.uptodate", "splitbrain_failure", "wait")
    found = []
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(uptodate.run(lambda *report: found.append(report[0])), 0.1))
    assert found == ["up"]
