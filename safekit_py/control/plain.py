"""Values as JSON: documents, enumerations, and whatever a module type puts into its report."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from typing import Any

LISTS = (list, tuple, set, frozenset)


def plain(value: Any) -> Any:
    """The value in terms of JSON; a number that JSON does not have is null, what is unknown becomes its text."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, LISTS):
        return [plain(each) for each in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def encoded(value: Any) -> bytes:
    """The value as JSON."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        errors="backslashreplace"  # a lone half of a surrogate pair, from a file's name
    )
