"""What a worker leaves to its keeper and to the next one: over the end of a process."""

import os

from hypothesis import given
from hypothesis import strategies as st
from safekit_py.plugins.mirror.volume.shared import Shared


@given(st.sampled_from([None, True, False]), st.booleans(), st.booleans())
def test_the_keeper_knows_what_a_dead_worker_knew(resends, failed, denied):
    shared = Shared(denied=denied)
    assert (shared.resends, shared.failed) == (None, False)
    pid = os.fork()
    if pid == 0:
        if resends is not None:
            shared.learnt(resends)
        shared.failed = failed
        os._exit(0)
    os.waitpid(pid, 0)
    assert shared.resends is (None if resends is None else resends and not denied)
    assert shared.failed is failed


def test_two_keepers_have_their_own():
    one, two = Shared(), Shared()
    one.failed = True
    assert not two.failed
