"""Accepted paths stay below their folder and name distinct files, whatever the archive says."""

import os.path
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.bundle.names import base, check_distinct, check_path
from safekit_py.errors import ConfigError

parts = st.one_of(
    st.sampled_from(["..", ".", "", "a", "A", "bin", "é", "e\u0301", "C:", "a\\b", "\0"]), st.text(max_size=5)
)
paths = st.lists(st.lists(parts, min_size=1, max_size=4).map("/".join), max_size=5)


@given(paths)
def test_accepted_paths_are_below_and_distinct(names):
    try:
        accepted = [check_path(each, "a.zip") for each in names]
        check_distinct(((each, False) for each in accepted), "a.zip")
    except ConfigError:
        return
    for each in accepted:
        assert os.path.normpath(f"/m/{each}") == f"/m/{each}"
    folded = [unicodedata.normalize("NFC", each).casefold() for each in accepted]
    assert len(set(folded)) == len(folded)
    assert not any(one != two and two.startswith(one + "/") for one in folded for two in folded)


def test_base():
    assert base(["conf/userconfig.xml", "README.md"], "a") == ""
    assert base(["app/conf/userconfig.xml", "app/bin/x"], "a") == "app/"
    with pytest.raises(ConfigError):
        base(["app/conf/userconfig.xml", "README.md"], "a")
