"""The folder of an export: what it may hold, the manifest that vouches for it, and its place.

An export has the layout of a run, so that whatever reads a run reads it too. ``manifest.json``
holds size and SHA-256 of every other file.
"""

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from metarl.checkpoint import latest_checkpoint, write_json
from metarl.checks import InputError
from metarl.experiments.experiment import FREE_FIELDS
from metarl.files import BrokenFileError, parse_json, read_regular, refuse
from metarl.runs import RunConflictError, differences, read_config

MANIFEST, CARD = "manifest.json", "README.md"
_SCHEMA = 1
_LONGEST_MANIFEST = 1_000_000
_MOST_LINES = 10
_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}"
_ALLOWED = re.compile(
    r"README\.md|config\.yaml|system\.json|results\.json|metrics\.jsonl|manifest\.json|DONE"
    r"|checkpoints/[0-9]{6,12}/(tensors\.safetensors|state\.json|manifest\.json)"
    rf"|eval/{_NAME}\.(json|csv|png)|videos/{_NAME}\.(mp4|gif)"
)


class Entry(NamedTuple):
    """What the manifest says of one file."""

    size: int
    """In bytes."""
    sha256: str
    """Hexadecimal."""


def foreign_names(names: Iterable[str]) -> list[str]:
    """Return those of some paths, relative and with slashes, that no export holds."""
    return sorted(name for name in names if not _ALLOWED.fullmatch(name))


def refuse_foreign(where: object, names: Iterable[str]) -> None:
    """Refuse a place by the names of what no export holds.

    Raises:
        InputError: there is one; a line for each.
    """
    kinds = "JSON, YAML, Markdown, safetensors, CSV, PNG, MP4 and GIF files of a run"
    lines = [f"{where}: {name!r} is no part of an export: {kinds}" for name in foreign_names(names)]
    if lines:
        raise InputError(_shortened(lines))


def write_manifest(folder: Path) -> None:
    """Write the manifest of all other files of a folder."""
    entries = {name: _entry_of(folder / name) for name in sorted(_files_in(folder))}
    files = {name: {"bytes": size, "sha256": sha} for name, (size, sha) in entries.items()}
    write_json(folder / MANIFEST, {"schema": _SCHEMA, "files": files})


def is_export(folder: Path) -> bool:
    """Whether a folder claims to be an export, by its manifest."""
    return (folder / MANIFEST).is_file()


def check_export(folder: Path, *, card_too: bool = False) -> None:
    """Hold every file of an export against the manifest, and against that of its weights.

    Args:
        folder: of the export.
        card_too: whether the card must be as it was written: people edit it, and no code reads it.

    Raises:
        BrokenFileError: a file is missing, changed or foreign; a line for each, ten at most.
        RunConflictError: its configuration is not plain YAML.
    """
    entries, there = _read_manifest(folder / MANIFEST), _files_in(folder)
    lines = [
        f"{folder / name}: foreign, the manifest has no such file"
        for name in there - entries.keys()
    ]
    for name, entry in entries.items():
        if name not in there:
            lines.append(f"{folder / name}: missing")
        elif not _is_as(folder / name, entry, edited=name == CARD and not card_too):
            lines.append(f"{folder / name}: changed since it was exported")
    if lines:
        raise BrokenFileError("\n".join(_shortened(sorted(lines))))
    read_config(folder)
    if latest_checkpoint(folder / "checkpoints", _stop) is None:
        refuse(folder / "checkpoints", "no weights")


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``out`` that takes its place when the block ends without error.

    Raises:
        InputError: ``out`` is neither free nor an untouched export of the run that comes, or has no
            name.
    """
    if out.name in ("", ".."):
        raise InputError([f"{str(out)!r} is no name for a folder: it is made, or replaced, whole"])
    _refuse_taken(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{out.name}.", suffix=".part", dir=out.parent
    ) as near:
        new, old = Path(near, "new"), Path(near, "old")
        new.mkdir()
        yield new
        _refuse_taken(out, new)
        if out.exists():
            os.rename(out, old)
        try:
            os.rename(new, out)
        except OSError:
            if old.exists():
                os.rename(old, out)
            raise


def _refuse_taken(out: Path, new: Path | None = None) -> None:
    """Refuse a folder that is taken, unless by an untouched export, of the run of ``new``."""
    if not os.path.lexists(out) or (out.is_dir() and not os.listdir(out)):
        return
    rule = "only an export of the same run, as it was written, is replaced"
    if not is_export(out):
        raise InputError([f"{out} is there already, and is no export; {rule}"])
    try:
        check_export(out, card_too=True)
        other = new and differences(read_config(out), read_config(new), FREE_FIELDS)
    except (BrokenFileError, RunConflictError) as error:
        raise InputError([*str(error).splitlines(), f"{out} is there already; {rule}"]) from None
    if other:
        raise InputError([*_shortened(other), f"{out} holds an export of another run; {rule}"])


def _stop(fault: str) -> NoReturn:
    raise BrokenFileError(fault)


def _read_manifest(file: Path) -> dict[str, Entry]:
    content = parse_json(file, read_regular(file, 0, _LONGEST_MANIFEST))
    try:
        schema = content["schema"]
        found = {
            name: Entry(entry["bytes"], entry["sha256"]) for name, entry in content["files"].items()
        }
    except (LookupError, TypeError, AttributeError):
        refuse(file, "does not hold schema, and bytes and sha256 of each file")
    if schema != _SCHEMA:
        refuse(file, f"schema version {schema!r}, this version reads {_SCHEMA}")
    if foreign := foreign_names(found):
        refuse(file, f"{foreign[0]!r} is no part of an export")
    return found


def _files_in(folder: Path) -> set[str]:
    """Return the paths of everything below a folder that is no folder, links included."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found} - {MANIFEST}


def _entry_of(file: Path) -> Entry:
    """Return size and hash of a regular file; of anything else what matches no manifest."""
    info = file.lstat()
    if not stat.S_ISREG(info.st_mode):
        return Entry(-1, "")
    with file.open("rb") as stream:
        return Entry(info.st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _is_as(file: Path, entry: Entry, *, edited: bool) -> bool:
    """Whether a file is as the manifest says; of one that may be edited, whether it is a file."""
    return stat.S_ISREG(file.lstat().st_mode) if edited else _entry_of(file) == entry


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], f"and {more} more"] if more > 0 else lines
