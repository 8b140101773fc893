"""How long property tests search: less in the everyday run, more when ``SAFEKIT_EXAMPLES`` asks for it."""

import os

TIMES = float(os.environ.get("SAFEKIT_EXAMPLES", "1"))


def examples(usual):
    """The examples of a test that tries ``usual`` of them in the everyday run; at least one."""
    return max(1, round(usual * TIMES))
