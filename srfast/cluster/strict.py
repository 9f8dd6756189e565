"""JSON read into frozen dataclasses: every field there, of its type, and no other."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class ShapeError(Exception):
    """A value is not what its place takes; the message says where, what it is and what was expected."""


def read(kind: type[T], value: Any, where: str = "") -> T:
    """Makes a dataclass, or a value of another type, of what JSON holds.

    Args:
        kind: the type: a dataclass, str, int, float, bool, None, Any, list[T], dict[str, T], tuple[T, ...] or a union of these.
        value: of JSON.
        where: its place, for messages.

    Raises:
        ShapeError: it is something else.

    >>> read(dict[str, int], {"a": 1})
    {'a': 1}
    >>> read(list[int], [1, True], "list")
    Traceback (most recent call last):
    srfast.cluster.strict.ShapeError: list[1] is true or false; an integer was expected
    """
    found: T = _read(kind, value, where)
    return found


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _object(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return _one_of(inner, value, where)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _wrong(kind, value, where)
        return origin(_read(inner[0], one, f"{where}[{number}]") for number, one in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(kind, value, where)
        return {key: _read(inner[1], one, _inside(where, key)) for key, one in value.items()}
    # Programs write 18.0 as 18.
    if kind is float and type(value) is int:
        return float(value)
    # Not isinstance: to Python true is a number.
    if type(value) is not kind:
        raise _wrong(kind, value, where)
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(kind, value, where)
    hints, names = typing.get_type_hints(kind), [field.name for field in fields(kind)]
    for name in names:
        if name not in value:
            raise ShapeError(f"{_inside(where, name)} is missing; {_words(hints[name])} was expected")
    for name in value:
        if name not in names:
            raise ShapeError(f"{_inside(where, name)} is unknown; {', '.join(names)} were expected")
    return kind(**{name: _read(hints[name], value[name], _inside(where, name)) for name in names})


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) == 1:
        return _read(others[0], value, where)
    for kind in others:
        try:
            return _read(kind, value, where)
        except ShapeError:
            continue
    raise _wrong(kinds, value, where)


def _inside(where: str, name: str) -> str:
    shown = name if len(name) <= 40 else name[:37] + "..."
    return f"{where}.{shown}" if where else shown


_NAMES = {str: "a text", int: "an integer", float: "a number", bool: "true or false", types.NoneType: "null"}


def _words(kind: Any) -> str:
    if isinstance(kind, tuple):
        return " or ".join(_words(one) for one in kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _words(typing.get_args(kind))
    if kind in _NAMES:
        return _NAMES[kind]
    return "a list" if typing.get_origin(kind) in (list, tuple) or kind is list else "an object"


def _wrong(kind: Any, value: Any, where: str) -> ShapeError:
    given = _words(type(value)) if type(value) in (bool, type(None), list, dict) else f"{value!r:.40}"
    return ShapeError(f"{where or 'it'} is {given}; {_words(kind)} was expected")
