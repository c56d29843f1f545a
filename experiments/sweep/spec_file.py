"""YAML files that people write: plain values only, and the line of everything in them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from metarl.files import read_regular, refuse, refuse_rich_yaml

_LONGEST = 1_000_000
# YAML 1.1 takes 1e-3 for a text, and asks for 1.0e-3.
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class Written(NamedTuple):
    """What a file holds."""

    content: dict[str, object]
    lines: Mapping[str, int]
    """The line of each key, from 1, by its place: the keys above it and itself, with dots."""


def read_plain(file: Path) -> Written:
    """Read a YAML file of at most 1 MB that holds a mapping of plain values.

    Raises:
        BrokenFileError: it is too long, not YAML, or not plain: a tag, an alias, a key twice.
    """
    data = read_regular(file.resolve(), 0, _LONGEST)
    lines: dict[str, int] = {}
    try:
        refuse_rich_yaml(data)
        loader = yaml.SafeLoader(data)
        content = _value(loader, loader.get_single_node(), "", lines)
        if not isinstance(content, dict):
            raise ValueError(f"must hold a mapping such as `presets: [...]`, got {content!r:.80}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        refuse(file, " ".join(str(error).split()))
    return Written(content, lines)


def _value(
    loader: yaml.SafeLoader, node: yaml.Node | None, place: str, lines: dict[str, int]
) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, entry, place, lines) for entry in node.value]
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, place, lines)
    if isinstance(node, yaml.ScalarNode) and node.style is None and _FLOAT.fullmatch(node.value):
        return float(node.value)
    return None if node is None else loader.construct_object(node)


def _mapping(
    loader: yaml.SafeLoader, node: yaml.MappingNode, place: str, lines: dict[str, int]
) -> dict[str, object]:
    result: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if not isinstance(key, str):
            raise ValueError(f"line {line}: a key must be a word, got a list or a mapping")
        if key in result:
            raise ValueError(f"line {line}: {key!r} stands here a second time")
        inner = f"{place}.{key}" if place else key
        lines[inner] = line
        result[key] = _value(loader, value_node, inner, lines)
    return result
