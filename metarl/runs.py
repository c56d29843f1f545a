"""What a run leaves on disk: one folder, one configuration, one writer.

``runs/<agent>/<task>__s<seed>__<id>/`` with ``config.yaml``, ``system.json``, ``metrics.jsonl``,
``tb/``, ``tracking/``, ``checkpoints/``, ``best/``, ``eval/`` and, at the run's end, ``DONE``.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeAlias

import torch
import yaml

from metarl.checkpoint import StorageError, write_bytes_atomic, write_json
from metarl.files import parse_json, read_regular, refuse, refuse_rich_yaml
from metarl.locks import acquire_lock

Config: TypeAlias = dict[str, object]
"""A nested dict of scalars, lists and dicts, as YAML and JSON both know them."""

RUN_NAME = re.compile(r"[A-Za-z0-9._-]{1,96}")
"""What folders of runs, and of sweeps, may be called, save . and .. ."""
_CONFIG, _SYSTEM, _LOCK, _DONE = "config.yaml", "system.json", "lock", "DONE"
_LONGEST_CONFIG = 1_000_000
_LONGEST_SYSTEM = 100_000_000
# What a first start that was killed may leave before config.yaml is there.
_BEGINNING = re.compile(r"lock|\.config\.yaml\.\d+\.part")
_NOTHING = object()


class RunConflictError(ValueError):
    """The folder belongs to another run or is not a run folder; nothing was written into it."""


def config_id(config: Config, free: Collection[str]) -> str:
    """Return 8 hex digits that name a configuration, save for the top-level keys in ``free``."""
    fixed = {key: value for key, value in config.items() if key not in free}
    text = json.dumps(fixed, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def default_run_folder(root: Path, preset: str, seed: int, identity: str) -> Path:
    """Return the place of a run: ``<root>/<agent>/<task>__s<seed>__<identity>``.

    ``preset`` is ``agent/task`` or ``agent/task@version``, or such a name with an environment
    behind a ``+``; dots stand for ``@`` and ``+``.

    Raises:
        ValueError: a part is no plain name, or the place would lie outside ``root``.
    """
    agent, slash, task = preset.partition("/")
    if not slash or seed < 0:
        raise ValueError(f"need a preset like 'agent/task' and a seed >= 0, got {preset!r}, {seed}")
    parts = (agent, f"{re.sub('[@+]', '.', task)}__s{seed}__{identity}")
    for part in parts:
        if not RUN_NAME.fullmatch(part) or part in (".", ".."):
            raise ValueError(f"run name {part!r} must match {RUN_NAME.pattern}, and not be . or ..")
    folder = root.joinpath(*parts)
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"run folder {folder} leads outside {root}")
    return folder


def differences(old: Config, new: Config, free: Collection[str]) -> list[str]:
    """Return one line per entry that differs, save for the top-level keys in ``free``."""
    there, asked = (dict(leaves(_plain(config))) for config in (old, new))
    lines = []
    for place in sorted(there.keys() | asked.keys()):
        values = there.get(place, _NOTHING), asked.get(place, _NOTHING)
        # True == 1 in Python, but not in a configuration.
        same = values[0] == values[1] and len({isinstance(value, bool) for value in values}) == 1
        if place[0] not in free and not same:
            has, wants = ("nothing" if value is _NOTHING else repr(value) for value in values)
            lines.append(f"{'.'.join(place)}: the run has {has}, asked for {wants}")
    return lines


def read_config(path: Path) -> Config:
    """Read the configuration of the run in the folder ``path``.

    Raises:
        RunConflictError: it is not a run folder, or its ``config.yaml`` is too long, is not plain
            YAML, or not a mapping.
    """
    file = path / _CONFIG
    if not file.is_file():
        raise RunConflictError(
            f"{path} is not a run folder: it has no {_CONFIG}; a run folder holds {_CONFIG}, "
            f"{_SYSTEM}, metrics.jsonl, checkpoints/, best/, eval/ and {_DONE}"
        )
    with file.open("rb") as stream:
        data = stream.read(_LONGEST_CONFIG + 1)
    if len(data) > _LONGEST_CONFIG:
        raise RunConflictError(f"{file}: longer than {_LONGEST_CONFIG} bytes")
    try:
        refuse_rich_yaml(data)
        config: Any = yaml.safe_load(data)
        if not isinstance(config, dict):
            raise ValueError(f"must be a mapping, got {type(config).__name__}")
        if _plain(config) != config:
            raise ValueError("every key must be a string")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise RunConflictError(f"{file}: {' '.join(str(error).split())}") from error
    return config


def system_facts() -> dict[str, object]:
    """Return what one must know of software and machine to judge or repeat a run."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in ("torch", "numpy", "mujoco", "metarl-suite")},
        "git": _checkout(),
    }


class RunFolder:
    """The folder of one run, locked against a second writer for as long as it is open.

    The kernel holds the lock (``flock``) and drops it with the process, however that ends; the text
    in the file ``lock`` only says who it is.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.tensorboard = path / "tb"
        self.checkpoints = path / "checkpoints"
        self.best = path / "best"
        self.evaluations = path / "eval"
        self._lock = os.fdopen(lock, "r+b")

    @classmethod
    def open(
        cls, path: Path, config: Config, free: Collection[str], facts: Config | None = None
    ) -> Self:
        """Start a run in ``path``, or go on with the one that is there.

        Keys in ``free`` may differ from those on disk, which then follow, and a ``DONE`` for
        something else is taken away. ``facts`` about this sitting go into ``system.json``.

        Raises:
            RunConflictError: the folder holds a run with another configuration, or something else.
            BrokenFileError: its ``system.json`` is damaged.
            RunLockedError: another process has it open.
            StorageError: it cannot be written.
        """
        asked = _plain(config)
        if path.exists() and not path.is_dir():
            raise RunConflictError(f"{path} is a file, not a folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Before the lock, since that would already be a trace in a folder that is not ours.
            _compare(path, asked, free)
            lock = acquire_lock(path / _LOCK)
        except OSError as error:
            raise StorageError(path, 0, error) from error
        run = cls(path, lock)
        try:
            run._settle(asked, free, facts or {})
        except BaseException:
            run.close()
            raise
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def done(self) -> bool:
        """Whether the run has come to its end."""
        return (self.path / _DONE).exists()

    def mark_done(self, facts: dict[str, object]) -> None:
        """Say that the run has come to its end, with ``facts`` about it as JSON."""
        write_json(self.path / _DONE, facts)

    def mark_undone(self) -> None:
        """Take back that the run has come to its end, if that was said."""
        (self.path / _DONE).unlink(missing_ok=True)

    def close(self) -> None:
        """Give the folder back; closing twice does no harm."""
        if not self._lock.closed:
            # An empty lock file tells the next host that this one has left in good order.
            self._lock.truncate(0)
            self._lock.close()

    def _settle(self, asked: Config, free: Collection[str], facts: Config) -> None:
        """Bring the folder up to what is asked for, now that nobody else can."""
        if _compare(self.path, asked, free) != asked:
            self.mark_undone()
            write_bytes_atomic(self.path / _CONFIG, yaml.safe_dump(asked, sort_keys=False).encode())
        earlier = _sittings(self.path / _SYSTEM)
        write_json(self.path / _SYSTEM, {"sittings": [*earlier, system_facts() | facts]})


def _sittings(file: Path) -> list[object]:
    """Return what is recorded of earlier sittings.

    Raises:
        BrokenFileError: the record is damaged.
    """
    if not file.exists():
        return []
    content = parse_json(file, read_regular(file, 0, _LONGEST_SYSTEM))
    if not isinstance(content, dict) or not isinstance(content.get("sittings"), list):
        refuse(file, "does not hold a list of sittings; without it, a new one begins")
    return list(content["sittings"])


def _compare(path: Path, asked: Config, free: Collection[str]) -> Config | None:
    """Return the configuration in a folder that this run may use; None where there is none yet."""
    names = os.listdir(path)
    if _CONFIG not in names:
        if foreign := sorted(name for name in names if not _BEGINNING.fullmatch(name)):
            raise RunConflictError(f"{path} is not a run folder: {foreign[0]!r} but no {_CONFIG}")
        return None
    there = read_config(path)
    if lines := differences(there, asked, free):
        raise RunConflictError("\n".join((f"{path} holds a run that differs:", *lines)))
    return there


def _plain(config: Config) -> Config:
    """Return a copy made of what JSON knows, so that what is compared is what is written."""
    return json.loads(json.dumps(config, allow_nan=False))  # type: ignore[no-any-return]


def leaves(config: Config, *above: str) -> Iterator[tuple[tuple[str, ...], object]]:
    """Walk through all values of a nested dict; each comes with the keys that lead to it."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, *above, key)
        else:
            yield (*above, key), value


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _checkout() -> dict[str, object] | None:
    """Return commit and cleanness of the checkout this package runs from; None outside of one."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(Path(__file__).parent), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        # An installed copy may lie inside the checkout of something else, which does not track it.
        git("ls-files", "--error-unmatch", "__init__.py")
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"commit": git("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.SubprocessError):
        return None
