"""Texts of others on a terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.model.text import set_in, visible


def test_what_would_act_is_a_picture():
    assert (
        visible("\x1b[2J\r\x07\x7f\x9b\u202eab\tc")
        == "␛[2J␍␇␡\N{REPLACEMENT CHARACTER}" + "\N{REPLACEMENT CHARACTER}ab c"
    )
    assert set_in("one\n2026-01-01 E web: forged") == "one\n    2026-01-01 E web: forged"
    assert visible("Überall 東京 [red] é") == "Überall 東京 [red] é"


@given(st.text())
def test_nothing_that_is_shown_acts(text):
    assert all(unicodedata.category(each) != "Cc" for each in visible(text).replace("\n", ""))
    assert len(visible(text)) == len(text)
