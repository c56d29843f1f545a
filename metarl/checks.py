"""Checks of what a user writes: each names what came, what is allowed and the nearest match."""

import dataclasses
import difflib
import math
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

_PYTHON = Path(traceback.__file__).parent


class Allowed(NamedTuple):
    """The values that a numeric field may take."""

    low: float
    high: float
    text: str
    low_open: bool = False
    high_open: bool = False
    whole: bool = False
    odd: bool = False

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is a finite number in the range; booleans and NaN are not."""
        kinds = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and not (self.odd and value % 2 != 1)


LARGEST = 3.4e38
"""About the largest float32, as weights are: what that cannot hold is as good as infinite."""
POSITIVE = Allowed(0.0, LARGEST, "a finite number > 0", low_open=True)
NON_NEGATIVE = Allowed(0.0, LARGEST, "a finite number >= 0")
UNIT = Allowed(0.0, 1.0, "a number from 0 to 1")
FRACTION = Allowed(0.0, 1.0, "a number above 0 and below 1", low_open=True, high_open=True)
SHARE = Allowed(0.0, 1.0, "a number above 0, at most 1", low_open=True)
COUNT = Allowed(1, 2**31 - 1, "a whole number from 1 to 2^31 - 1", whole=True)
COUNT_OR_ZERO = Allowed(0, 2**31 - 1, "a whole number from 0 to 2^31 - 1", whole=True)
SEED = Allowed(0, 2**63 - 1, "a whole number from 0 to 2^63 - 1", whole=True)


class EnvFaultError(RuntimeError):
    """A user's environment failed; the message says where, and holds what it said itself."""


class CannotDrawError(RuntimeError):
    """There is nothing to draw with here; the message says what to install."""


class InputError(ValueError):
    """A user's input that cannot be accepted; one line per fault in ``lines``."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def check_fields(config: object, allowed: Mapping[str, Allowed], *more: str | None) -> None:
    """Check a config: numeric fields by the given rules, every flag, and the caller's findings.

    Raises:
        InputError: a value is out of its range, or one of ``more`` is a message.
    """
    owner = type(config).__name__
    lines = [
        f"{owner}.{name} must be {rule.text}, got {getattr(config, name)!r}"
        for name, rule in allowed.items()
        if not rule.accepts(getattr(config, name))
    ]
    lines += [
        f"{owner}.{field.name} must be True or False, got {getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
        if field.type is bool and not isinstance(getattr(config, field.name), bool)
    ]
    lines += [line for line in more if line]
    if lines:
        raise InputError(lines)


def fault_in_choice(config: object, name: str, known: Iterable[str]) -> str | None:
    """Return the message for a field that must be one of ``known``, or None when it is."""
    value, known = getattr(config, name), tuple(known)
    if value in known:
        return None
    return f"{type(config).__name__}." + unknown(name, value, known)


def without_effect(config: object, choice: str, wanted: object, names: Iterable[str]) -> list[str]:
    """Return a message for each field that was set, and is for another choice than the one made.

    Args:
        config: a dataclass whose fields ``names`` have plain defaults.
        choice: the field that decides.
        wanted: its value with which the others have an effect.
        names: the others.
    """
    made = getattr(config, choice)
    if made == wanted:
        return []
    defaults = {field.name: field.default for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    return [
        f"{type(config).__name__}.{name}={getattr(config, name)!r} has no effect with"
        f" {choice}={made!r}: it is for {choice}={wanted!r}, and else stays {defaults[name]!r}"
        for name in names
        if getattr(config, name) != defaults[name]
    ]


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the message for a name that is not in a table, with the nearest one that is."""
    known = tuple(known)
    # The part behind the last slash counts too: people leave out "metarl/" and the agent's name.
    tails = {entry.rsplit("/", 1)[-1]: entry for entry in known}
    # Whoever types the first half of a name means that name, however near another one is.
    begun = [entry for entry in known if str(name) and entry.startswith(str(name))]
    close = begun or difflib.get_close_matches(str(name), (*known, *tails), n=1, cutoff=0.5)
    hint = f"did you mean {tails.get(close[0], close[0])!r}? " if close else ""
    return f"{kind}: no {name!r}; {hint}known: {', '.join(known)}"


def told(error: BaseException) -> str:
    """Return an exception in one line: its type, what it says, and the user's line it came from.

    Where no line is the user's own, the last one of a package, or of ours, is named.
    """
    text = f"{type(error).__name__}: {error}"
    frames = [
        (str(frame.f_globals.get("__name__", "")), Path(frame.f_code.co_filename), line, frame)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    foreign = [entry for entry in frames if entry[0].partition(".")[0] != "metarl"]
    mine = [entry for entry in foreign if not _is_packaged(entry[1])]
    chosen = mine or foreign or frames
    if not chosen or chosen[-1][1].name.startswith("<frozen"):
        return text
    _, file, line, frame = chosen[-1]
    return f"{text} ({file.name}, line {line}, in {frame.f_code.co_name})"


def _is_packaged(file: Path) -> bool:
    """Whether a file comes with Python or with a package."""
    packaged = {"site-packages", "dist-packages"} & {*file.parts}
    return bool(packaged) or file.name.startswith("<frozen") or file.is_relative_to(_PYTHON)


def field_names(config_type: type) -> tuple[str, ...]:
    """Return the field names of a dataclass type."""
    return tuple(field.name for field in dataclasses.fields(config_type))
