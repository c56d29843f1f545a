"""Configs and other records as plain data, which YAML and JSON know, and back again, strictly."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from metarl.checks import InputError, unknown

_RecordT = TypeVar("_RecordT")


def plain(value: Any) -> Any:
    """Turn tuples into lists, which is how they are read back."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def read_fields(
    record_type: type[_RecordT], data: Mapping[str, object], path: str = ""
) -> _RecordT:
    """Build a dataclass or NamedTuple from plain data; nested ones by recursion.

    Args:
        record_type: of the result.
        data: every field by its name, and nothing else.
        path: in front of each name in messages.

    Raises:
        InputError: a field is unknown or missing, or its value of the wrong type or out of range; a
            line for each.
    """
    hints = typing.get_type_hints(record_type)
    lines = [unknown(f"{path}{key}", key, hints) for key in data if key not in hints]
    lines += [f"{path}{key} is missing" for key in hints if key not in data]
    if lines:
        raise InputError(lines)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if _is_record(hints[key]) and isinstance(value, dict):
            values[key] = read_fields(hints[key], value, f"{path}{key}.")
        else:
            values[key] = _frozen(value)
            if not _fits(values[key], hints[key]):
                hint = hints[key]
                allowed = hint.__name__ if isinstance(hint, type) else hint
                lines.append(f"{path}{key} must be {allowed}, got {value!r}")
            elif hints[key] is float:
                # A whole number that a person wrote: the same setting must be the same data.
                values[key] = float(values[key])
    if lines:
        raise InputError(lines)
    return record_type(**values)


def _frozen(value: object) -> object:
    """Turn lists back into the tuples that ``plain`` made them of."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _is_record(hint: Any) -> bool:
    named_tuple = isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")
    return named_tuple or dataclasses.is_dataclass(hint)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value has the type of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(entry, arguments[0]) for entry in value)
    if origin is dict:
        return isinstance(value, dict)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
