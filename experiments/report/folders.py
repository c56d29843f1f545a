"""What a report shows of a run's folder beside its results: facts, links and moving pictures."""

import base64
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import yaml

from metarl.experiments.outcomes import Outcome
from metarl.files import BrokenFileError, parse_json, read_regular
from metarl.runs import leaves

_KINDS: Mapping[str, str] = {".mp4": "video/mp4", ".gif": "image/gif"}
_RAW = ("config.yaml", "system.json", "metrics.jsonl")
_MEGABYTE = 1_000_000


class Link(NamedTuple):
    """A file of a run, from where the report lies."""

    text: str
    href: str


class Clip(NamedTuple):
    """One moving picture of a run."""

    link: Link
    kind: str
    """Its media type."""
    megabytes: float
    source: str
    """All of it, as a data URI; empty where it is too large for that."""


class RunView(NamedTuple):
    """One run, beside its results."""

    folder: Link
    seed: int
    commits: str
    facts: Sequence[tuple[str, str]]
    """What its last sitting says of software and machine: dotted names and values."""
    config: str
    """All of it, as YAML."""
    files: Sequence[Link]
    clips: Sequence[Clip]


class Allowance(NamedTuple):
    """How many megabytes of moving pictures go into a report, by the sizes of their files."""

    each: float
    total: float


def view(outcome: Outcome, clips: Sequence[Clip], page: Path) -> RunView:
    """Return what the report at ``page`` shows of a run."""
    folder = outcome.folder
    raw = [folder / name for name in _RAW] + sorted((folder / "eval").glob("*.*"))
    return RunView(
        folder=_link(folder, page, str(folder)),
        seed=outcome.seed,
        commits=", ".join(sorted(outcome.commits)),
        facts=_facts(folder / "system.json"),
        config=yaml.safe_dump(outcome.config, sort_keys=False, allow_unicode=True),
        files=[_link(file, page, str(file.relative_to(folder))) for file in raw if file.is_file()],
        clips=clips,
    )


def clips_of(
    folders: Iterable[Path], page: Path, allowance: Allowance
) -> dict[Path, Sequence[Clip]]:
    """Return the moving pictures of runs; the first ones go into the page, as far as is allowed."""
    left = allowance.total * _MEGABYTE
    found: dict[Path, Sequence[Clip]] = {}
    for folder in folders:
        clips = []
        for file in sorted((folder / "videos").glob("*")):
            if file.suffix in _KINDS and file.is_file():
                clip = _clip(file, page, min(left, allowance.each * _MEGABYTE))
                left -= clip.megabytes * _MEGABYTE if clip.source else 0.0
                clips.append(clip)
        found[folder] = clips
    return found


def shown(value: object) -> str:
    """Return a value of a configuration as text."""
    return value if isinstance(value, str) else json.dumps(value)


def _clip(file: Path, page: Path, most: float) -> Clip:
    kind, about = _KINDS[file.suffix], file.lstat()
    source = ""
    # What a symbolic link leads to may be none of the run's.
    if stat.S_ISREG(about.st_mode) and 0 < about.st_size <= most:
        data = base64.b64encode(read_regular(file, about.st_size, about.st_size)).decode()
        source = f"data:{kind};base64,{data}"
    return Clip(_link(file, page, file.name), kind, about.st_size / _MEGABYTE, source)


def _link(file: Path, page: Path, text: str) -> Link:
    # A colon is quoted, too: what stands before one would be read as a scheme. Names are bytes.
    return Link(text, quote(os.fsencode(os.path.relpath(file, page.parent)), safe="/"))


def _facts(file: Path) -> list[tuple[str, str]]:
    """Return what the last sitting says; what cannot be read says nothing."""
    try:
        sittings = parse_json(file, file.read_bytes())["sittings"]
        return [(".".join(place), shown(value)) for place, value in leaves(sittings[-1])]
    except (OSError, BrokenFileError, LookupError, TypeError, AttributeError):
        return []
