"""Sets the values of macros in the text of a userconfig.xml; every other byte stays as the author wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from safekit_py.bundle.names import USERCONFIG, reject
from safekit_py.config.scan import scan

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}


def escape(value: str) -> bytes:
    """A value between quotes of either kind, in any encoding: what is not plain ASCII becomes a reference.

    :raises ConfigError: it holds a character that XML has no way to write.
    """
    bad = next((each for each in value if (each < " " and each not in "\t\n\r") or "\ud800" <= each <= "\udfff"), None)
    if bad is not None or "\ufffe" in value or "\uffff" in value:
        raise reject("macro-value", f"The value {value!a} cannot stand in XML", "give plain text")
    parts = (_ESCAPES.get(each) or (each if " " <= each <= "~" else f"&#{ord(each)};") for each in value)
    return "".join(parts).encode("ascii")


def fill(data: bytes, macros: Mapping[str, str]) -> bytes:
    """The file with these macros set.

    :param data: conf/userconfig.xml.
    :param macros: name to value.
    :raises ConfigError: a macro that the file does not have, or a file that is not XML.
    """
    if not macros:
        return data
    places = {
        tag.attributes["name"]: tag.places["value"]
        for tag in scan(data, USERCONFIG, "safe")
        if tag.name == "macro" and tag.depth <= 3 and {"name", "value"} <= tag.places.keys()
    }
    for name in macros:
        if name not in places:
            near = difflib.get_close_matches(name, places, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            known = ", ".join(sorted(places)) or "none"
            raise reject("unknown-macro", f"The module has no macro '{name}'", f"{hint}it has: {known}", USERCONFIG)
    for name in sorted(macros, key=lambda each: places[each].start, reverse=True):
        place = places[name]
        data = data[: place.start] + escape(macros[name]) + data[place.end :]
    return data
