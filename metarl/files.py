"""Reading files that nothing vouches for: regular ones, of bounded size, of plain data and tensors.

Nothing here can run code that came from a file.
"""

import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

_DEEPEST = 50


class BrokenFileError(ValueError):
    """A file that cannot be trusted; the message names it and what is wrong with it."""


def refuse(file: Path, reason: str) -> NoReturn:
    """Raise BrokenFileError."""
    raise BrokenFileError(f"{file}: {reason}")


def read_regular(file: Path, least: int, most: int) -> bytes:
    """Return the bytes of a regular file whose size was checked before it is opened.

    Raises:
        BrokenFileError: it is missing, no regular file, or has fewer or more bytes.
    """
    try:
        info = file.lstat()
        if not stat.S_ISREG(info.st_mode):
            refuse(file, "not a regular file")
        if not least <= info.st_size <= most:
            word = "truncated" if info.st_size < least else "too long"
            refuse(file, f"{word}: expected {most} bytes, got {info.st_size}")
        return file.read_bytes()
    except OSError as error:
        refuse(file, "missing" if isinstance(error, FileNotFoundError) else str(error))


def refuse_rich_yaml(data: bytes) -> None:
    """Refuse YAML that asks for more than plain values, or blows up when it is read.

    Raises:
        ValueError, yaml.YAMLError: it has a tag, an alias or deep nesting, or is no YAML at all.
    """
    depth = 0
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) or depth > _DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise ValueError(f"line {line}: tags, aliases and deep nesting are not allowed")


def parse_json(file: Path, data: bytes) -> Any:
    """Return what a JSON file holds.

    Raises:
        BrokenFileError: it is not JSON, is nested too deeply, or holds NaN or an infinity.
    """
    try:
        value = json.loads(data)
        json.dumps(value, allow_nan=False)  # Reading lets NaN and infinity pass, writing does not.
    except (ValueError, RecursionError) as error:
        refuse(file, f"not JSON: {error}")
    level = [value]
    for _ in range(_DEEPEST + 1):
        inner = [node for node in level if isinstance(node, dict | list)]
        level = [leaf for node in inner for leaf in _entries(node)]
    if level:
        refuse(file, f"not JSON: nested more than {_DEEPEST} deep")
    return value


def _entries(node: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node


def tensors_to_bytes(file: Path, tensors: dict[str, Tensor]) -> bytes:
    """Return tensors in the safetensors format.

    Raises:
        BrokenFileError: one is not finite; ``file`` is where it was to be written.
    """
    _check_finite(file, tensors)
    # A copy of each: tensors that share memory are refused by the format.
    copies = {key: leaf.detach().to("cpu", copy=True).contiguous() for key, leaf in tensors.items()}
    return bytes(safetensors.torch.save(copies))


def parse_tensors(file: Path, data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, with memory of their own.

    Raises:
        BrokenFileError: it is not in that format, or one is not finite.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, LookupError, ValueError, RuntimeError, AssertionError) as error:
        refuse(file, f"not in the safetensors format: {error}")
    _check_finite(file, tensors)
    return {name: leaf.clone() for name, leaf in tensors.items()}


def _check_finite(file: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        # float8 has no isfinite of its own.
        wide = tensor.double() if tensor.is_floating_point() else tensor
        if not bool(torch.isfinite(wide).all()):
            refuse(file, f"tensor {name!r} is not finite")
