"""A notice as text for people."""

from __future__ import annotations

from datetime import UTC, datetime

from safekit_py.api import Notice

WORDS = {"cleared": "over", "repeated": "still"}


def one_line(text: str) -> str:
    """Without what could end a line, or a header."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def subject(notice: Notice) -> str:
    """One line: how bad, and what."""
    word = "test" if notice.kind == "test" else WORDS.get(notice.kind, notice.level)
    return one_line(f"[safekit {notice.server}] {word}: {notice.subject}")[:250]


def body(notice: Notice) -> str:
    """All of it."""
    lines = [notice.subject, "", notice.text, ""]
    facts = [("server", notice.server), ("module", notice.module), ("level", notice.level), ("kind", notice.kind)]
    facts += [("time", when(notice.time)), ("since", when(notice.since)), ("ident", notice.ident)]
    lines += [f"{name}: {value}" for name, value in facts if value]
    if notice.held:
        lines += ["", f"{notice.held} notices before this one were held: there were too many."]
    return "\n".join(lines) + "\n"


def when(seconds: float) -> str:
    """Local time with its zone; empty for 0."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="seconds")
