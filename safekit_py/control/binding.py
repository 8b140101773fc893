"""The values that an operation is called with, read from a request by the operation's signature.

Flows through it: a request in; arguments out, each of the type that the signature names, or every finding at once. What
a signature may hold is small: values of the path and the query (text, numbers, truth values, ``Literal``, enumerations,
lists of text), one document as the body, and the request itself.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from starlette.requests import Request

from safekit_py.control.routing import Endpoint, Query
from safekit_py.errors import ConfigError, Problem

TRUE, FALSE = {"true", "1", "on", "yes", "t", "y"}, {"false", "0", "off", "no", "f", "n"}
LARGEST = 1 << 20  # bytes of a document
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
Convert = Callable[[Any], Any]


class Unfit(ValueError):
    """A value is not what it should be; the text says what that is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One value of the path or the query."""

    name: str  # of the function's parameter
    given: str  # in the path or the query
    convert: Convert
    several: bool
    required: bool


class Binding:
    """How one operation is called.

    :raises TypeError: the signature holds something that no request can give.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._request = self._body = ""
        self._document: type | None = None
        self._parameters: list[Parameter] = []
        hints = get_type_hints(endpoint, include_extras=True)
        for name, parameter in inspect.signature(endpoint).parameters.items():
            hint = hints[name]
            if hint is Request:
                self._request = name
            elif dataclasses.is_dataclass(hint):
                self._body, self._document = name, hint  # type: ignore[assignment]
            else:
                limits = next((each for each in get_args(hint)[1:] if isinstance(each, Query)), Query())
                several = _bare(hint) is list
                required = parameter.default is inspect.Parameter.empty
                given = limits.alias or name
                self._parameters.append(Parameter(name, given, converter(hint), several, required))

    async def arguments(self, request: Request) -> dict[str, Any]:
        """The arguments of one call.

        :raises ConfigError: the findings about what the request gave.
        """
        found: list[Problem] = []
        values: dict[str, Any] = {}
        for each in self._parameters:
            try:
                if each.given in request.path_params:
                    values[each.name] = each.convert(request.path_params[each.given])
                elif each.given in request.query_params:
                    given = request.query_params
                    raw: Any = given.getlist(each.given) if each.several else given[each.given]
                    values[each.name] = each.convert(raw)
                elif each.required:
                    raise Unfit("is missing")
            except Unfit as error:
                found.append(_finding(each.given, error))
        if self._document is not None:
            try:
                values[self._body] = document(self._document, await _json(request))
            except Unfit as error:
                found.append(_finding("the body", error))
        if self._request:
            values[self._request] = request
        if found:
            raise ConfigError(found)
        return values


def _finding(name: str, error: Unfit) -> Problem:
    return Problem("request.bad-value", f"{name} {error}", "the API's document says what it takes: GET /openapi.json")


async def _json(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Unfit(f"is longer than {LARGEST} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unfit("is no JSON") from error


def document(kind: type, value: Any) -> Any:
    """A document out of JSON; what it does not know is passed over.

    :raises Unfit: something is missing, or not what it should be.
    """
    if not isinstance(value, dict):
        raise Unfit("is no JSON object")
    hints = get_type_hints(kind, include_extras=True)
    found = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            try:
                found[field.name] = _checked(hints[field.name], field.metadata, value[field.name])
            except Unfit as error:
                raise Unfit(f"has a wrong {field.name}: it {error}") from None
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Unfit(f"lacks {field.name}")
    return kind(**found)


def _checked(hint: Any, limits: typing.Mapping[str, Any], value: Any) -> Any:
    if hint is str:
        if not isinstance(value, str):
            raise Unfit("is no text")
    elif hint == list[str]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise Unfit("is no list of texts")
    elif hint == dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise Unfit("is no object of texts")
    else:
        raise TypeError(f"{hint} in the body of a request")
    if len(value) > limits.get("max_length", len(value)):
        raise Unfit(f"is longer than {limits['max_length']}")
    if "pattern" in limits and not re.search(limits["pattern"], value):
        raise Unfit(f"does not match {limits['pattern']}")
    return value


def _bare(hint: Any) -> Any:
    """The type without its limits and without None; ``list`` for any list."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(each for each in get_args(hint) if each is not type(None))
        return _bare(hint)
    return get_origin(hint) or hint


def converter(hint: Any) -> Convert:
    """What makes a value of a type out of the text in a path or a query.

    :raises TypeError: it is none of the types that a request can give.
    """
    if get_origin(hint) is Annotated:
        inner, *others = get_args(hint)
        limits = next((each for each in others if isinstance(each, Query)), Query())
        return lambda text: _within(limits, converter(inner)(text))
    if get_origin(hint) in (types.UnionType, typing.Union):
        inner, *others = (each for each in get_args(hint) if each is not type(None))
        if not others:
            return converter(inner)
    elif get_origin(hint) is Literal:
        return lambda text: _one_of(get_args(hint), text)
    elif hint == list[str] or hint is str:
        return lambda text: text
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        return lambda text: hint(_one_of([each.value for each in hint], text))
    elif hint in SIMPLE:
        return SIMPLE[hint]
    raise TypeError(f"{hint} cannot be read from a request")


def _one_of(known: typing.Iterable[Any], text: str) -> str:
    if text not in known:
        raise Unfit(f"is none of {', '.join(map(str, known))}")
    return text


def _integer(text: str) -> int:
    if not INTEGER.fullmatch(text):
        raise Unfit("is no whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise Unfit("is no number")
    return found


def _truth(text: str) -> bool:
    if text.lower() not in TRUE | FALSE:
        raise Unfit("is neither true nor false")
    return text.lower() in TRUE


SIMPLE: dict[Any, Convert] = {int: _integer, float: _number, bool: _truth}


def _within(limits: Query, value: Any) -> Any:
    if limits.ge is not None and value < limits.ge:
        raise Unfit(f"is less than {limits.ge:g}")
    if limits.gt is not None and value <= limits.gt:
        raise Unfit(f"is not above {limits.gt:g}")
    if limits.le is not None and value > limits.le:
        raise Unfit(f"is more than {limits.le:g}")
    if limits.lt is not None and value >= limits.lt:
        raise Unfit(f"is not below {limits.lt:g}")
    return value
