"""A sweep as a person writes it down: presets, seeds, and the values that are set or tried."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from metarl.checks import SEED, InputError
from metarl.experiments.experiment import Experiment, from_dict, to_dict
from metarl.experiments.presets import preset
from metarl.experiments.sweep.spec_file import read_plain
from metarl.files import BrokenFileError
from metarl.plain_data import read_fields
from metarl.runs import RUN_NAME, Config

Scalar: TypeAlias = bool | int | float | str | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]
"""What a field of an experiment may be set to."""

_ELSEWHERE: Mapping[str, str] = {
    "preset": "presets",
    "env.name": "presets",
    "agent.name": "presets",
    "seed": "seeds",
    "threads": "the flag --threads",
}
"""Fields that neither set nor grid may hold, and where they are said."""
_SHAPES: Mapping[str, tuple[type, str]] = {
    "presets": (list, "a list of presets, such as [maml-trpo/bandit]"),
    "seeds": (list, "a list of whole numbers, such as [1, 2, 3]"),
    "set": (dict, "fields with a value each"),
    "grid": (dict, "fields with a list of values each"),
    "search": (dict, "fields with a range each"),
}
_SCALARS = (bool, int, float, str, type(None))
_MOST_RUNS = 10_000
_ANY: Config = {"low": None, "high": None, "log": False, "integer": False}


class _Written(NamedTuple):
    """The keys of a file, before their values are looked at."""

    name: str
    presets: tuple[str, ...]
    seeds: tuple[int, ...]
    set: dict[str, object]
    grid: dict[str, object]
    search: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Range:
    """What `metarl search` may try for one field: an interval or a list."""

    low: float | None = None
    """Least value."""
    high: float | None = None
    """Largest value."""
    log: bool = False
    """Whether to draw the logarithm evenly."""
    integer: bool = False
    """Whether to draw whole numbers."""
    choices: tuple[Value, ...] = ()
    """The values themselves, instead of an interval."""

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise InputError([f"must {fault}"])

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values between which, or of which, is drawn."""
        if self.low is None or self.high is None:
            return self.choices
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    def _fault(self) -> str | None:
        low, high = self.low, self.high
        if self.choices:
            alone = (low, high, self.log, self.integer) == (None, None, False, False)
            return None if alone else "hold choices and nothing else"
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
            return f"hold choices, or two numbers low and high; got low {low!r}, high {high!r}"
        if not low < high:
            return f"have low below high, got low {low!r}, high {high!r}"
        if self.log and not low > 0:
            return f"have low above 0 with log, got {low!r}"
        if self.integer and not (low == int(low) and high == int(high)):
            return f"have whole ends with integer, got low {low!r}, high {high!r}"
        return None


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """Presets times grid times seeds. Fields of experiments have dotted names: ``agent.inner_lr``.

    What it raises on creation starts with the place of the fault, such as ``grid.agent.inner_lr``.
    """

    name: str
    """Of the sweep, and of its folder."""
    presets: tuple[str, ...]
    """What is varied."""
    seeds: tuple[int, ...]
    """Of each setting."""
    set: Mapping[str, Value] = field(default_factory=dict)
    """Values that all runs have instead of their preset's."""
    grid: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Values to try, in every combination."""
    search: Mapping[str, Range] = field(default_factory=dict)
    """Ranges for `metarl search`; `metarl sweep` refuses them."""

    def __post_init__(self) -> None:
        if lines := [*self._faults()]:
            raise InputError(lines)
        if lines := [*self._faults_of_values()]:
            raise InputError(lines)

    def points(self) -> Iterator[dict[str, Value]]:
        """Yield the values of each point of the grid, with those that are set for all."""
        for values in itertools.product(*self.grid.values()):
            yield dict(self.set) | dict(zip(self.grid, values, strict=True))

    def _faults(self) -> Iterator[str]:
        if not RUN_NAME.fullmatch(self.name) or self.name in (".", ".."):
            yield f"name must match {RUN_NAME.pattern}, got {self.name!r}"
        if not self.presets:
            yield "presets must hold at least one preset, as `metarl list presets` names them"
        if not self.seeds:
            yield "seeds must hold at least one seed, such as [1, 2, 3]"
        for name in self.presets:
            try:
                preset(name)
            except InputError as error:
                yield from error.lines
        for seed in self.seeds:
            if not SEED.accepts(seed):
                yield f"seeds must each be {SEED.text}, got {seed!r}"
        yield from self._faults_of_keys()
        points = len(self.presets) * len(self.seeds)
        for key, values in self.grid.items():
            points *= len(values)
            if not values:
                yield f"grid.{key} must hold at least one value"
        if points > _MOST_RUNS:
            yield f"grid must make at most {_MOST_RUNS} runs, got {points}"

    def _faults_of_keys(self) -> Iterator[str]:
        sections = {"set": self.set, "grid": self.grid, "search": self.search}
        first: dict[str, str] = {}
        for section, values in sections.items():
            for key in values:
                if key in _ELSEWHERE:
                    yield f"{section}.{key} has no place here: it is said in {_ELSEWHERE[key]}"
                if first.setdefault(key, section) != section:
                    yield f"{section}.{key} stands in {first[key]} too: choose one"

    def _faults_of_values(self) -> Iterator[str]:
        """Try every point of the grid with every preset, and the ends of each range."""
        said = set()
        for name, point in itertools.product(self.presets, self._probes()):
            try:
                configured(name, self.seeds[0], point)
            except InputError as error:
                for line in error.lines:
                    place = self._place_of(line)
                    if line not in said:
                        said.add(line)
                        yield f"{place}: {line}"

    def _probes(self) -> Iterator[dict[str, Value]]:
        lowest = {key: allowed.ends[0] for key, allowed in self.search.items()}
        point = dict(self.set)
        for point in self.points():
            yield point | lowest
        for key, allowed in self.search.items():
            for end in allowed.ends[1:]:
                yield point | lowest | {key: end}

    def _place_of(self, line: str) -> str:
        """Return which entry of the spec a complaint about an experiment is about."""
        places = {
            key: f"{section}.{key}"
            for section, values in (("set", self.set), ("grid", self.grid), ("search", self.search))
            for key in values
        }
        # "promp/navigation: agent.inner_rl: no ...", or "...: PrompConfig.inner_lr must be ...".
        field = re.sub(r"^[^ ]*: ([\w.]*).*", r"\1", line, flags=re.DOTALL)
        for key, place in places.items():
            if f"{key}.".startswith(f"{field}."):
                return place
        for key, place in places.items():
            if key.rpartition(".")[2] == field.rpartition(".")[2]:
                return place
        return next(iter(places.values()), "presets")


def configured(preset_name: str, seed: int, values: Mapping[str, Value]) -> Experiment:
    """Return a preset with another seed and other values in fields of dotted names.

    Raises:
        InputError: no such preset or field, with the nearest name, or a value that the field does
            not take; a line for each, which starts with the preset.
    """
    config = to_dict(preset(preset_name)) | {"seed": seed}
    lines = []
    for key, value in values.items():
        *above, last = key.split(".")
        place: object = config
        for part in above:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = value
        else:
            lines.append(f"{preset_name}: {key}: {'.'.join(above)} is a value and holds no fields")
    if lines:
        raise InputError(lines)
    return from_dict(config, Path(preset_name))


def read_spec(path: Path) -> SweepSpec:
    """Read a sweep from its YAML file, strictly: plain values, no key twice, none unknown.

    Raises:
        InputError: a line for each fault, with the file and the line in it.
    """
    try:
        content, lines = read_plain(path)
    except BrokenFileError as error:
        raise InputError([str(error)]) from error
    try:
        return _spec_of(content, path.stem)
    except InputError as error:
        placed = [f"{path}, line {_line_of(line, lines)}: {line}" for line in error.lines]
        raise InputError(placed) from None


def _line_of(message: str, lines: Mapping[str, int]) -> int:
    """Return the line of the longest place that a message starts with."""
    started = [place for place in lines if re.match(re.escape(place) + r"(?![\w.-])", message)]
    return lines[max(started, key=len)] if started else 1


def _spec_of(content: Config, name: str) -> SweepSpec:
    """Build the spec of what its file holds."""
    lines = [f"{key} is missing" for key in ("presets", "seeds") if key not in content]
    for key, (shape, said) in _SHAPES.items():
        if key in content and not isinstance(content[key], shape):
            raise InputError([*lines, f"{key} must be {said}; got {content[key]!r}"])
    empty: Config = {"name": name, "presets": [], "seeds": [], "set": {}, "grid": {}, "search": {}}
    try:
        written = read_fields(_Written, empty | content)
    except InputError as error:
        raise InputError([*lines, *error.lines]) from None
    common = {key: _value(f"set.{key}", value, lines) for key, value in written.set.items()}
    grid = {key: _values(f"grid.{key}", value, lines) for key, value in written.grid.items()}
    search = {key: _range(f"search.{key}", value, lines) for key, value in written.search.items()}
    if lines:
        raise InputError(lines)
    return SweepSpec(
        name=written.name,
        presets=written.presets,
        seeds=written.seeds,
        set=common,
        grid=grid,
        search=search,
    )


def _value(place: str, value: object, lines: list[str]) -> Value:
    """Return what was written in a place; where it is no value, say so in ``lines``."""
    if isinstance(value, list) and all(isinstance(entry, _SCALARS) for entry in value):
        return tuple(value)
    if isinstance(value, _SCALARS):
        return value
    hint = f"; fields have dotted names: {place}.field" if isinstance(value, dict) else ""
    lines.append(f"{place} must be a value or a list of values, got {value!r}{hint}")
    return None


def _values(place: str, value: object, lines: list[str]) -> tuple[Value, ...]:
    if isinstance(value, list):
        return tuple(_value(place, entry, lines) for entry in value)
    lines.append(f"{place} must be a list of values to try, got {value!r}")
    return ()


def _range(place: str, value: object, lines: list[str]) -> Range:
    try:
        if not isinstance(value, dict):
            raise InputError([f"must be {{low, high}} or {{choices}}, got {value!r}"])
        choices = _values(f"{place}.choices", value.get("choices", []), lines)
        return read_fields(Range, _ANY | value | {"choices": choices})
    except InputError as error:
        lines += [f"{place} {line}" for line in error.lines]
        return Range(choices=(0,))
