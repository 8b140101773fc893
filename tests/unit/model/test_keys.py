"""The key file: what is written comes back, and what is no key file is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekit_py.model.keys import MAX_KEYS, TITLE, Key, first, parse, render, ring_of

SECRETS = st.binary(min_size=32, max_size=32)
KEYS = st.builds(Key, st.integers(1, 999_999_999), SECRETS)
A, B = "ab" * 32, "cd" * 32


@given(SECRETS, st.lists(KEYS, min_size=1, max_size=MAX_KEYS, unique_by=lambda key: key.name))
def test_what_is_written_comes_back(origin, keys):
    ring = ring_of(origin, keys)
    assert parse(render(ring)) == ring


@given(SECRETS)
def test_a_first_key_stands_there_by_itself(secret):
    assert render(first(secret)) == f"{secret.hex()}\n"
    assert parse(f" {secret.hex().upper()} \n\n") == first(secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        A[:-1],
        A + "0",
        f"{A}\n{B}",
        TITLE,
        f"{TITLE}\norigin {A}",
        f"{TITLE}\nkey 1 {A}",
        f"{TITLE}\norigin {A}\norigin {A}\nkey 1 {B}",
        f"{TITLE}\norigin {A}\nkey 0 {B}",
        f"{TITLE}\norigin {A}\nkey 1234567890 {B}",
        f"{TITLE}\norigin {A}\nkey 1 {B}\nkey 2 {B}",
        f"{TITLE}\norigin {A}\nkey 1 {B}\nmore",
        f"{TITLE}\norigin {A}\nkey 1 {B[:-2]}zz",
        f"{TITLE} 2\norigin {A}\nkey 1 {B}",
        "\n".join([TITLE, f"origin {A}", *(f"key {n} {n:064x}" for n in range(1, MAX_KEYS + 2))]),
    ],
)
def test_what_is_no_key_file_is_refused(text):
    with pytest.raises(ValueError, match=r"no key file|twice"):
        parse(text)


@given(st.text(max_size=300))
def test_whatever_the_text_reading_ends(text):
    with contextlib.suppress(ValueError):
        parse(text)


def test_no_secret_is_shown_by_accident():
    ring = first(bytes(range(32)))
    assert bytes(range(32)).hex() not in repr(ring)
    assert "\\x01" not in repr(ring).replace(repr(ring.newest.name), "")
