"""The console's languages: English in the code and the pages, the others in ``texts_XX.toml`` beside this file.

Flows through it: an English text in; the same in the language of whoever looks out. What is missing stays English.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LANGUAGES = {"en": "English", "fr": "Français"}


@cache
def catalog(language: str) -> Mapping[str, str]:
    """The texts of a language by their English ones."""
    path = Path(__file__).parent / f"texts_{language}.toml"
    return dict(tomllib.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def chosen(cookie: str, accepted: str) -> str:
    """The language for somebody.

    :param cookie: the one that was switched to; empty for none.
    :param accepted: the head Accept-Language: the first one of ours in it counts.
    """
    for wanted in (cookie, *(part.partition(";")[0].strip().lower()[:2] for part in accepted.split(","))):
        if wanted in LANGUAGES:
            return wanted
    return "en"


def translate(language: str, text: str, **values: object) -> str:
    """The text in a language, with values for its ``{names}``."""
    found = catalog(language).get(text, text) if language != "en" else text
    return found.format(**values) if values else found
