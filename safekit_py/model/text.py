"""Texts that others wrote, made fit to be shown: what scripts, callers and other servers say ends up on terminals.

Invariant: what is shown moves no cursor, begins no line of its own, and leaves the order of what stands beside it.
"""

from __future__ import annotations

PICTURES = 0x2400  # Unicode's pictures of control characters, in their order
DELETE = 0x7F
TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x2028, 0x2029)  # order and lines of text
UNSEEN = {
    **{code: chr(PICTURES + code) for code in range(32)},
    **dict.fromkeys((*range(0x80, 0xA0), *TURNS), "\N{REPLACEMENT CHARACTER}"),
    DELETE: "\N{SYMBOL FOR DELETE}",
}
PLAIN = {ord("\t"): " ", **{code: picture for code, picture in UNSEEN.items() if chr(code) not in "\t\n"}}


def visible(text: str) -> str:
    """The text with a picture for each control character; line feeds stay, a tab is a blank."""
    return text.translate(PLAIN)


def set_in(text: str) -> str:
    """The same for a log: what stands after a line feed is set in, so that nobody takes it for a line of the log."""
    return visible(text).replace("\n", "\n    ")
