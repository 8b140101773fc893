"""Takes secrets out of texts that leave the server. Pure.

Invariants, held by tests/unit/cli/test_hidden.py: the value of a macro, variable or attribute with a secret's name is,
once learnt, in no text that comes out, nor is any key of a cluster; XML stays well-formed and a tree keeps its shape.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

from safekit_py.control.audit import MASK, SECRET

LEAST = 4  # characters; a shorter value would mask half of every text
TAG = re.compile(r"""<[A-Za-z](?:"[^"]*"|'[^']*'|[^<>"'])*>""")
ATTRIBUTE = re.compile(r"""([\w:.-]+)\s*=\s*("[^"]*"|'[^']*')""")
ASSIGNED = re.compile(
    r"""(?P<name>[A-Za-z_][\w.-]*)(?P<sign>["']?\s*[=:]\s*)(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s"'<>;&|)]+)"""
)
OPTION = re.compile(r"(?P<name>--?[A-Za-z][\w-]*)(?P<sign>[ \t]+)(?P<value>[^\s-]\S*)")
URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
KEY = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}(?![0-9A-Fa-f])")
MACRO = re.compile(r"%(\w+)%")


@dataclass(slots=True)
class Hidden:
    """Masks what must not leave.

    :param values: secrets that are known; they are masked wherever they stand.
    :param names: macros that a secret is made of.
    """

    values: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def learn(self, xml: str) -> None:
        """Take the secrets out of a configuration: of all that follows they are kept out."""
        tags = [{name: text[1:-1] for name, text in ATTRIBUTE.findall(tag)} for tag in TAG.findall(xml)]
        before = -1
        while before != len(self.names):  # a secret may be made of macros that are made of macros
            before = len(self.names)
            for tag in tags:
                for name, value in tag.items():
                    if self._secret(tag, name):
                        self.names.update(MACRO.findall(value))
                        found = {value, html.unescape(value)}
                        self.values.update(each for each in found if len(each) >= LEAST and not MACRO.fullmatch(each))

    def _secret(self, tag: dict[str, str], name: str) -> bool:
        whose = tag.get("name", "")
        if name == "value":
            return whose in self.names or bool(SECRET.search(whose))
        return name not in {"name", "ident"} and bool(SECRET.search(name))

    def xml(self, text: str) -> str:
        """A configuration."""

        def masked(tag: re.Match[str]) -> str:
            found = {name: value[1:-1] for name, value in ATTRIBUTE.findall(tag[0])}
            return ATTRIBUTE.sub(
                lambda pair: f'{pair[1]}="{MASK}"' if self._secret(found, pair[1]) else pair[0], tag[0]
            )

        return self._known(TAG.sub(masked, text))

    def plain(self, text: str) -> str:
        """A script or a log: known secrets, what is assigned to a secret's name, passwords in addresses."""

        def masked(pair: re.Match[str]) -> str:
            if not SECRET.search(pair["name"]):
                return pair[0]
            quote = pair["value"][0] if pair["value"][0] in "\"'" else ""
            return f"{pair['name']}{pair['sign']}{quote}{MASK}{quote}"

        return self._known(OPTION.sub(masked, ASSIGNED.sub(masked, text)))

    def tree(self, value: Any, name: str = "") -> Any:
        """Values of JSON, masked one by one."""
        if isinstance(value, dict):
            return {key: self.tree(each, str(key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self.tree(each, name) for each in value]
        if isinstance(value, str):
            return MASK if SECRET.search(name) else self.plain(value)
        return value

    def _known(self, text: str) -> str:
        for value in sorted(self.values, key=len, reverse=True):
            text = text.replace(value, MASK)
        return KEY.sub(MASK, URL.sub(rf"\1{MASK}@", text))
