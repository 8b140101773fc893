"""Tables show texts of others as they are."""

import io

from safekit_py.cli import tables
from safekit_py.cli.screen import Screen


def test_neither_markup_nor_sequences_of_others_act():
    made = tables.table("A")
    made.add_row("[red]x[/red] [/nothing]\x1b[2J :smile:")
    for terminal in (False, True):
        stream = io.StringIO()
        Screen(file=stream, width=80, force_terminal=terminal, color_system=None).print(made)
        assert "[red]x[/red] [/nothing]␛[2J :smile:" in stream.getvalue()
        assert "\x1b[2J" not in stream.getvalue()


def test_colours_of_our_own_stay():
    stream = io.StringIO()
    Screen(file=stream, width=80, force_terminal=True, color_system="standard").print("x", style="red")
    assert "\x1b[31m" in stream.getvalue()
