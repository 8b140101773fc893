"""The console of all tables: rich's, but that texts of others neither act on the terminal nor are taken for markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from safekit_py.model.text import visible


class Screen(Console):
    """A console that shows texts as they are."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """A text, before its width is measured."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is to be printed; only what rich itself made controls the terminal."""
        for each in super().render(renderable, options):
            yield each if each.control else each._replace(text=visible(each.text))
