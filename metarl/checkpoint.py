"""Checkpoints that survive a kill at any instant, and atomic writes for everything else on disk.

A checkpoint is a folder ``<root>/<iteration:06d>/`` of ``tensors.safetensors``, ``state.json`` and
``manifest.json``, which is written last and holds the size and SHA-256 of the others. It is written
under a name that starts with a dot and renamed when it is whole. Nothing here can run code that
came from a file. A root has one writer at a time; readers may come at any moment.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from metarl.files import (
    BrokenFileError,
    parse_json,
    parse_tensors,
    read_regular,
    refuse,
    tensors_to_bytes,
)

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_SCHEMA = 1
_LONGEST_MANIFEST = 4096
# .part: worthless, a write or a removal in progress; .old: whole, but about to be replaced.
_FOLDER = re.compile(r"(?P<final>\d{6,})|\.(?P<old>\d{6,})\.old\d+|\.(?P<part>\d{6,})\.part")


class Checkpoint(NamedTuple):
    """What a run needs to go on as if it had never stopped."""

    iteration: int
    """Meta-iterations done."""
    tensors: dict[str, Tensor]
    """Weights and the like by name, of any shape and dtype; floating ones are finite."""
    state: dict[str, object]
    """Anything else that JSON can hold exactly: string keys, lists, finite numbers."""


class StorageError(OSError):
    """Something could not be written; the message names the path, the reason and the space."""

    def __init__(self, path: Path, needed: int, error: OSError) -> None:
        free: int | str = "unknown"
        with contextlib.suppress(OSError):
            place = next(parent for parent in path.absolute().parents if parent.exists())
            free = shutil.disk_usage(place).free
        space = f"; {needed} bytes needed, {free} bytes free" if needed else ""
        super().__init__(f"cannot write {path}: {error.strerror or error}{space}")
        self.errno = error.errno


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a file so that its name leads to the old content or to the new, never to a mixture.

    Raises:
        StorageError: the disk is full or the path cannot be written; the old content is intact.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write_synced(part, data)
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StorageError(path, len(data), error) from error


def write_json(path: Path, value: object) -> None:
    """Write a value as a JSON file, atomically.

    Raises:
        ValueError, TypeError: a float is not finite, or JSON does not know the type of a value.
        StorageError: as ``write_bytes_atomic``.
    """
    write_bytes_atomic(path, _to_json(value))


def save_checkpoint(root: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Save a checkpoint below ``root``, then remove all but the newest ``keep`` up to this one.

    One that is there for this iteration is replaced; it stays until the new one is whole.

    Raises:
        BrokenFileError: a tensor is not finite; nothing is written.
        TypeError: ``state`` would come back from JSON as something else; nothing is written.
        StorageError: it could not be written; the checkpoints that were there are intact.
    """
    if keep < 1 or checkpoint.iteration < 0:
        raise ValueError(f"keep must be >= 1, iteration >= 0; got {keep}, {checkpoint.iteration}")
    final = root / f"{checkpoint.iteration:06d}"
    part = root / f".{final.name}.part"
    files = _encode(checkpoint, final)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for folder, kind, _ in list(_folders(root)):
            if kind == "part":
                shutil.rmtree(folder, ignore_errors=True)
        part.mkdir()
        for name, data in files.items():
            _write_synced(part / name, data)
        _sync_folder(part)
        _move_into_place(part, final)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(final, sum(map(len, files.values())), error) from error
    _prune(root, checkpoint.iteration, keep)
    return final


def load_checkpoint(folder: Path, device: str = "cpu") -> Checkpoint:
    """Load a checkpoint folder after checking every byte of it, with its tensors on ``device``.

    Raises:
        BrokenFileError: a file is missing, cut, changed, foreign or not what it should be.
    """
    files = _read_verified(folder)
    match parse_json(folder / _STATE, files[_STATE]):
        case {"iteration": int(iteration), "tensors": list(names), "state": dict(state)}:
            pass
        case _:
            refuse(folder / _STATE, "does not hold iteration, tensors and state")
    if folder.name.isdecimal() and int(folder.name) != iteration:
        refuse(folder / _STATE, f"holds iteration {iteration}, the folder says {folder.name}")
    tensors = parse_tensors(folder / _TENSORS, files[_TENSORS])
    if sorted(map(repr, names)) != sorted(map(repr, tensors)):
        refuse(folder / _TENSORS, f"does not hold the tensors that {_STATE} lists")
    # In the order of saving: sums over a dict of weights must not change with a resume.
    return Checkpoint(iteration, {name: tensors[name].to(device) for name in names}, state)


def latest_checkpoint(root: Path, refuse: Callable[[str], None]) -> Checkpoint | None:
    """Load the newest good checkpoint below ``root``; None when there is none at all.

    ``refuse`` is told of each broken one that is passed over.

    Raises:
        BrokenFileError: there are checkpoints, and none of them is good.
    """
    # "final" comes before "old" of the same iteration.
    found = sorted((-number, kind, path) for path, kind, number in _folders(root) if kind != "part")
    for _, _, folder in found:
        try:
            return load_checkpoint(folder)
        except BrokenFileError as error:
            refuse(str(error))
    if found:
        raise BrokenFileError(f"{root}: none of the {len(found)} checkpoints is good")
    return None


def _encode(checkpoint: Checkpoint, folder: Path) -> dict[str, bytes]:
    """Return the content of each file by name, the manifest last."""
    iteration, tensors, _ = checkpoint
    content = {"iteration": iteration, "tensors": list(tensors), "state": checkpoint.state}
    state = _to_json(content)
    if json.loads(state) != content:
        raise TypeError("checkpoint state must have string keys, and lists instead of tuples")
    files = {_TENSORS: tensors_to_bytes(folder / _TENSORS, tensors), _STATE: state}
    return files | {_MANIFEST: _manifest(files)}


def _read_verified(folder: Path) -> dict[str, bytes]:
    """Return the content of the files of a checkpoint, as vouched for by its manifest."""
    try:
        foreign = sorted({*os.listdir(folder)} - {_TENSORS, _STATE, _MANIFEST})
    except OSError as error:
        refuse(folder, f"not a folder of {_TENSORS}, {_STATE} and {_MANIFEST}: {error.strerror}")
    if foreign:
        refuse(folder / foreign[0], "a foreign file in a checkpoint")
    raw = read_regular(folder / _MANIFEST, 0, _LONGEST_MANIFEST)
    manifest = parse_json(folder / _MANIFEST, raw)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != _SCHEMA:
        refuse(folder / _MANIFEST, f"schema version {schema!r}, this version reads {_SCHEMA}")
    files = {}
    for name in (_TENSORS, _STATE):
        try:
            size, digest = (manifest["files"][name][key] for key in ("bytes", "sha256"))
            files[name] = read_regular(folder / name, size, size)
        except (LookupError, TypeError):
            refuse(folder / _MANIFEST, f"does not hold bytes and sha256 of {name}")
        if hashlib.sha256(files[name]).hexdigest() != digest:
            refuse(folder / name, "SHA-256 is not the one in the manifest")
    if _manifest(files) != raw:
        refuse(folder / _MANIFEST, "not as it was written")
    return files


def _manifest(files: dict[str, bytes]) -> bytes:
    entries = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    return _to_json({"schema": _SCHEMA, "files": entries})


def _to_json(value: object) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _folders(root: Path) -> Iterator[tuple[Path, str, int]]:
    """Yield (folder, "final" | "old" | "part", iteration) of everything here that is ours."""
    for name in os.listdir(root) if root.is_dir() else ():
        if (match := _FOLDER.fullmatch(name)) and (kind := match.lastgroup):
            yield root / name, kind, int(match[kind])


def _move_into_place(part: Path, final: Path) -> None:
    if os.path.lexists(final):
        # A full folder cannot be renamed over; set aside, it is still found by latest_checkpoint.
        os.rename(final, final.with_name(f".{final.name}.old{time.time_ns()}"))
    os.rename(part, final)
    _sync_folder(final.parent)


def _prune(root: Path, iteration: int, keep: int) -> None:
    """Remove what the checkpoint of ``iteration``, now in place, makes superfluous.

    Later ones do not count: what was just saved must never give way to one that may be broken.
    """
    folders = list(_folders(root))
    kept = sorted(n for _, kind, n in folders if kind == "final" and n <= iteration)[-keep:]
    for folder, kind, number in folders:
        if kind == "old" or number < kept[0]:
            # Renamed first: a removal cut short must not leave what looks like a checkpoint.
            part = folder.with_name(f".{number:06d}.part")
            with contextlib.suppress(OSError):
                os.rename(folder, part)
            shutil.rmtree(part, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as network file systems answer
            raise
    finally:
        os.close(descriptor)
