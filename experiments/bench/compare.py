"""A benchmark beside an earlier one: the file is checked first, and then figure by figure."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from metarl.checks import InputError
from metarl.experiments.bench.measure import MEBIBYTES, SECONDS, SHARE, TIMES, Figure, Figures
from metarl.experiments.bench.phases import PHASES
from metarl.runs import Config, differences

FORMAT = "metarl-bench-1"
"""First entry of a benchmark's JSON; another number says that its figures mean something else."""

_LONGEST_FILE = 1_000_000
_LARGEST = 1e18
_NOT_WORK = ("iterations", "checkpoint_every", "evaluate_every", "seed", "device", "threads")
"""Fields of an experiment that change nothing about the work that is measured, or who does it."""
_MACHINE = ("platform", "cpu", "cpu_count", "usable_cores", "gpu")
_SOFTWARE = ("python", "versions", "torch_threads")
_VERDICTS: Mapping[str, tuple[str, str]] = {
    SECONDS: ("faster", "slower"),
    MEBIBYTES: ("less", "more"),
    SHARE: ("lower", "higher"),
    TIMES: ("lower", "higher"),
}
"""By unit: what a smaller and what a larger new figure is. Anything else is a rate."""


class Earlier(NamedTuple):
    """A benchmark read from a file."""

    path: Path
    content: Config


def read_benchmark(path: Path) -> Earlier:
    """Read a file that ``metarl bench PRESET --out`` wrote.

    Raises:
        InputError: there is no such file, or it is something else; the message says what.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LONGEST_FILE + 1)
        if len(data) > _LONGEST_FILE:
            raise InputError([f"{path}: longer than {_LONGEST_FILE} bytes"])
        content = json.loads(data)
    except OSError as error:
        raise InputError([f"{path}: {error.strerror}"]) from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError([f"{path} is not JSON: {error}"]) from None
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise InputError(
            [
                f"{path} was not written by metarl bench PRESET --out: its format is {found!r},"
                f" not {FORMAT!r}"
            ]
        )
    try:
        entries = {"preset": str, "config": dict, "phases": dict, "memory": dict, "system": dict}
        for name, kind in entries.items():
            if not isinstance(content.get(name), kind):
                raise ValueError(f"{name} must be a {kind.__name__}, got {content.get(name)!r}")
        sections(content)
    except ValueError as error:
        raise InputError([f"{path}: {error}"]) from None
    return Earlier(path, content)


def sections(content: Config) -> dict[str, Figures]:
    """Return every figure of a benchmark: one section per phase, then "memory" and "peers".

    Raises:
        ValueError: an entry is not a figure; the message names it.
    """
    raw = dict(_mapping("phases", content["phases"]))
    raw |= {name: content[name] for name in ("memory", "peers") if name in content}
    return {
        section: {
            name: _figure(f"{section}.{name}", entry)
            for name, entry in _mapping(section, entries).items()
        }
        for section, entries in raw.items()
    }


def refuse_other_work(earlier: Earlier, config: Config, phases: Collection[str]) -> None:
    """Refuse an earlier benchmark of something else than what is about to be measured.

    Raises:
        InputError: of another preset, with another configuration, or of other phases alone.
    """
    path, content = earlier
    if content["preset"] != config["preset"]:
        raise InputError(
            [f"{path} is a benchmark of {content['preset']}, this one is of {config['preset']}"]
        )
    there = _mapping("config", content["config"])
    if lines := differences(there, config, _NOT_WORK):
        raise InputError(f"{path} is of another configuration: {line}" for line in lines)
    measured = _mapping("phases", content["phases"])
    if not measured.keys() & set(phases):
        raise InputError(
            [f"{path} holds {', '.join(measured) or 'no phases'}, asked for {', '.join(phases)}"]
        )


def compare(earlier: Earlier, new: Config) -> Config:
    """Put the figures that two benchmarks share side by side.

    Returns:
        For each figure both medians, old / new, and what that says: "within the spread" where the
        ranges of the rounds overlap. ``notes`` name what else is not as it was.
    """
    old = earlier.content
    then, now = sections(old), sections(new)
    systems = (_mapping("system", old["system"]), _mapping("system", new["system"]))
    configs = (_mapping("config", old["config"]), _mapping("config", new["config"]))
    machine = _changes(*systems, _MACHINE)
    notes = [f"another machine: {line}" for line in machine]
    notes += _changes(*systems, _SOFTWARE)
    notes += _changes(*configs, ("device", "threads", "seed"))
    notes += _changes(old, new, ("processes", "physics_threads", "peer_envs"))
    if then.keys() & PHASES.keys() != now.keys() & PHASES.keys():
        notes.append("memory is not compared: other phases were measured")
        del now["memory"]
    return {
        "file": str(earlier.path),
        "started": systems[0].get("started"),
        "same_machine": not machine,
        "notes": notes,
        "figures": {
            section: {
                name: _beside(then[section][name], figure)
                for name, figure in figures.items()
                if name in then.get(section, {}) and figure.median > 0
            }
            for section, figures in now.items()
            if section in then
        },
    }


def _beside(old: Figure, new: Figure) -> dict[str, object]:
    smaller, larger = _VERDICTS.get(new.unit, ("slower", "faster"))
    if old.low <= new.high and new.low <= old.high:
        verdict = "within the spread"
    else:
        verdict = smaller if new.median < old.median else larger
    return {
        "unit": new.unit,
        "old": old.median,
        "new": new.median,
        "old_over_new": old.median / new.median,
        "verdict": verdict,
    }


def _changes(old: Config, new: Config, names: Collection[str]) -> list[str]:
    """Return one line per entry that differs and that the new benchmark has."""
    return [
        f"{name} was {old.get(name)!r}, is {new[name]!r}"
        for name in names
        if name in new and old.get(name) != new[name]
    ]


def _figure(place: str, entry: object) -> Figure:
    """Read one figure back, strictly."""
    values = entry if isinstance(entry, dict) else {}
    numbers = [values.get(name) for name in ("median", "low", "high")]
    good = all(
        isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= _LARGEST
        for number in numbers
    )
    if not (good and values.keys() == set(Figure._fields) and isinstance(values["unit"], str)):
        raise ValueError(
            f"{place} must be {', '.join(Figure._fields)}, numbers from 0 to {_LARGEST:g},"
            f" got {entry!r}"
        )
    return Figure(**values)


def _mapping(place: str, value: object) -> Config:
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be a dict, got {value!r}")
    return value
