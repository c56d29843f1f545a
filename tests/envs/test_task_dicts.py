"""Tasks as dicts: they survive JSON bit by bit, and what is no task is refused by name."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.checks import InputError
from metarl.envs import ENVS
from metarl.envs.task_dicts import as_dicts, describe, from_dicts
from metarl.seeding import Streams
from metarl.types import Parameter

CASES = [(name, preset) for name, family in ENVS.items() for preset in family.presets]
every_case = pytest.mark.parametrize(("name", "preset"), CASES)
VELOCITY = {"velocity": Parameter("how fast", "m/s", (), 0.0, 4.0)}


def distribution_of(name: str, preset: str) -> Any:
    return envs.build(name, envs.preset(name, preset), threads=1)[0]


def lines_of(parameters: dict[str, Parameter], task: Any, name: str = "E") -> tuple[str, ...]:
    with pytest.raises(InputError) as refusal:
        from_dicts(name, parameters, [task])
    return refusal.value.lines


@every_case
def test_every_task_survives_json(name: str, preset: str) -> None:
    distribution = distribution_of(name, preset)
    lists = [distribution.sample(4, Streams(3))]
    lists += [distribution.held_out(4, split) for split in distribution.held_out_lists]
    for tasks in lists:
        dicts = json.loads(json.dumps(as_dicts(tasks), allow_nan=False))
        again = from_dicts(name, distribution.parameters, dicts)
        assert torch.equal(again.task_id, tasks.task_id)
        assert list(again.parameter) == list(distribution.parameters)
        for key, leaf in tasks.parameter.items():
            assert torch.equal(again.parameter[key], leaf)
            assert again.parameter[key].dtype == torch.float32


@every_case
def test_every_fault_of_every_parameter_is_refused(name: str, preset: str) -> None:
    distribution = distribution_of(name, preset)
    parameters = distribution.parameters
    (good,) = as_dicts(distribution.held_out(1))
    for key, parameter in parameters.items():
        value = np.array(good[key])
        wrong: list[Any] = [None, "3", [good[key]], [], np.full_like(value, math.nan).tolist()]
        wrong += [np.full_like(value, math.inf).tolist(), np.full(value.shape, True).tolist()]
        wrong += [np.full_like(value, parameter.high + abs(parameter.high) + 1.0).tolist()]
        wrong += [np.full_like(value, parameter.low - abs(parameter.low) - 1.0).tolist()]
        for bad in wrong:
            (line,) = lines_of(parameters, good | {key: bad}, name)
            assert line.startswith(f"{name}: {key} ("), line
            assert f"must be {describe(parameter)}, got " in line
        without = {other: entry for other, entry in good.items() if other != key}
        (line,) = lines_of(parameters, without, name)
        assert line.startswith(f"{name}: {key} (")
        assert "is missing" in line
        (line,) = lines_of(parameters, good | {f"{key}x": 1.0}, name)
        assert f"no '{key}x'; did you mean '{key}'?" in line


def test_messages_say_what_came_and_what_is_allowed() -> None:
    assert lines_of(VELOCITY, {"velocity": 5.0}) == (
        "E: velocity (how fast) must be a number from 0 to 4 m/s, got 5.0",
    )
    goals = {"goal": Parameter("where to go", "", (None, 2), -1.0, 1.0)}
    assert lines_of(goals, {"goal": [[0.0, 0.0], [0.0]]}) == (
        "E: goal (where to go) must be n x 2 numbers from -1 to 1, got [[0.0, 0.0], [0.0]]",
    )
    signs = {"sign": Parameter("which way", "", (), -1.0, 1.0, values=(-1.0, 1.0))}
    assert lines_of(signs, {"sign": 0.5}) == (
        "E: sign (which way) must be a number among -1, 1, got 0.5",
    )
    units = {"to": Parameter("where", "", (2,), -1.0, 1.0, fault=lambda leaf: "a unit vector")}
    assert lines_of(units, {"to": (0.5, 0.5)}) == (
        "E: to (where) must be a unit vector, got (0.5, 0.5)",
    )


def test_all_faults_of_a_dict_come_at_once_with_its_number() -> None:
    both = VELOCITY | {"mass": Parameter("how heavy", "kg", (), 1.0, 2.0)}
    good = {"velocity": 1.0, "mass": 1.0}
    with pytest.raises(InputError) as refusal:
        from_dicts("E", both, [good, {"velocity": -1, "weight": 1, "task_id": -2}])
    first, second, third, fourth = refusal.value.lines
    assert first.startswith("E, task 1 of 2: velocity (how fast) must be")
    assert second == "E, task 1 of 2: mass (how heavy) is missing: a number from 1 to 2 kg"
    assert "no 'weight'" in third
    assert "task_id must be a whole number" in fourth


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1.0), np.array(1.0), torch.tensor(1.0)])
def test_numbers_of_every_library_are_taken(value: object) -> None:
    assert from_dicts("E", VELOCITY, [{"velocity": value}]).parameter["velocity"].tolist() == [1.0]


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), True, np.True_, 1 + 0j])
def test_numbers_that_are_none_are_refused(value: object) -> None:
    assert len(lines_of(VELOCITY, {"velocity": value})) == 1


def test_what_is_no_list_of_dicts_is_refused() -> None:
    assert "a task is a dict with velocity; got 3" in lines_of(VELOCITY, 3)[0]
    with pytest.raises(InputError, match="at least one task"):
        from_dicts("E", VELOCITY, [])


def test_bounds_are_met_by_what_is_stored() -> None:
    tight = {"x": Parameter("", "", (), 0.0, 0.1)}
    assert from_dicts("E", tight, [{"x": float(torch.tensor(0.1))}]).parameter["x"] == 0.1


def test_tasks_of_two_sizes_are_refused() -> None:
    free = {"wall": Parameter("", "m", (None,), 0.0, 1.0)}
    with pytest.raises(InputError, match=r"tasks of one size .* \(1,\).* \(2,\)"):
        from_dicts("E", free, [{"wall": [0.5]}, {"wall": [0.5, 0.5]}])
