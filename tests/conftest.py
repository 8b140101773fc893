"""What holds for every test."""

from effort import examples
from hypothesis import settings

# No limit for the time of one example: it says how busy the machine is, and the whole test has its limit.
settings.register_profile("safekit", deadline=None, max_examples=examples(100))
settings.load_profile("safekit")
