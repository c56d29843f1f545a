"""What a user may write, and what is said when it is something else."""

import math
from dataclasses import dataclass

import pytest

from metarl.checks import (
    COUNT,
    FRACTION,
    NON_NEGATIVE,
    POSITIVE,
    UNIT,
    Allowed,
    InputError,
    check_fields,
    fault_in_choice,
    unknown,
)


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    count: int = 2
    flag: bool = False
    colour: str = "red"

    def __post_init__(self) -> None:
        rules = {"rate": POSITIVE, "count": COUNT}
        check_fields(self, rules, fault_in_choice(self, "colour", ("red", "blue")))


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        (POSITIVE, [1e-9, 5, 1e38], [0, -1, 1e39, math.inf, math.nan, True, "1", None]),
        (NON_NEGATIVE, [0, 0.0, 2], [-1e-9, math.inf]),
        (UNIT, [0, 0.5, 1], [1.0001, -0.1]),
        (FRACTION, [0.5], [0, 1, 0.0, 1.0]),
        (COUNT, [1, 7], [0, 1.0, True, 2**31, 10**400]),
        (Allowed(3, 9, "odd", whole=True, odd=True), [3, 9], [1, 4, 11, 5.0, True]),
    ],
)
def test_rules(rule: Allowed, inside: list[object], outside: list[object]) -> None:
    assert all(rule.accepts(value) for value in inside)
    assert not any(rule.accepts(value) for value in outside)


def test_every_fault_has_a_line() -> None:
    with pytest.raises(InputError) as caught:
        Config(rate=math.nan, count=0, flag="yes", colour="rde")  # type: ignore[arg-type]
    assert caught.value.lines == (
        "Config.rate must be a finite number > 0, got nan",
        "Config.count must be a whole number from 1 to 2^31 - 1, got 0",
        "Config.flag must be True or False, got 'yes'",
        "Config.colour: no 'rde'; did you mean 'red'? known: red, blue",
    )


def test_nearest_name_is_found_by_its_tail_too() -> None:
    known = ("metarl/HalfCheetahDir-v0", "metarl/TabularMDP-v0")
    assert "did you mean 'metarl/HalfCheetahDir-v0'" in unknown("env", "HalfChetahDir-v0", known)
    assert "did you mean" not in unknown("env", "zzz", known)
    assert "did you mean 'maml-trpo'" in unknown("agent", "maml", ("emaml", "maml-trpo"))
