"""Tasks as plain dicts, which people write, keep as JSON and hand to an environment.

A dict has one entry for each parameter of its family: a number, or nested lists of them. A task
that has a place in a finite list also has ``task_id``; a task written by hand needs none.
"""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from metarl.checks import COUNT_OR_ZERO, LARGEST, InputError, unknown
from metarl.types import Parameter, Tasks

TaskDict: TypeAlias = dict[str, Any]
"""One task by the names of its parameters: numbers, or nested lists of them."""

_ID = "task_id"


def as_dicts(tasks: Tasks) -> list[TaskDict]:
    """Return each task as a dict that ``json`` can write; ``from_dicts`` reads it bit by bit."""
    columns: dict[str, list[Any]] = {name: leaf.tolist() for name, leaf in tasks.parameter.items()}
    rows: list[TaskDict] = []
    for row, task_id in enumerate(tasks.task_id.tolist()):
        place = {_ID: task_id} if task_id >= 0 else {}
        rows.append({name: column[row] for name, column in columns.items()} | place)
    return rows


def from_dicts(
    name: str,
    parameters: Mapping[str, Parameter],
    dicts: Sequence[Mapping[str, Any]],
    device: str = "cpu",
) -> Tasks:
    """Make K tasks of K dicts.

    Args:
        name: of the environment, for messages.
        parameters: what the tasks of that environment have.
        dicts: one for each task.
        device: where the tensors shall live.

    Raises:
        InputError: a dict is not a task of this environment. All faults of the first such dict, a
            line each: what came, and what is allowed.
    """
    if not dicts:
        raise InputError([f"{name}: at least one task is needed, got none"])
    rows = []
    for number, task in enumerate(dicts):
        owner = name if len(dicts) == 1 else f"{name}, task {number} of {len(dicts)}"
        rows.append(_read(owner, parameters, task))
    shapes = [{key: tuple(leaf.shape) for key, leaf in row.items()} for row in rows]
    different = next((shape for shape in shapes if shape != shapes[0]), None)
    if different is not None:
        raise InputError([f"{name}: tasks of one size are needed, got {shapes[0]} and {different}"])
    parameter = {key: torch.stack([row[key] for row in rows]).to(device) for key in parameters}
    places = [int(task.get(_ID, -1)) for task in dicts]
    return Tasks(torch.tensor(places, dtype=torch.int64, device=device), parameter)


def describe(parameter: Parameter) -> str:
    """Say in a few words what a parameter may be."""
    sizes = " x ".join("n" if size is None else str(size) for size in parameter.shape)
    what = f"{sizes} numbers" if sizes else "a number"
    if parameter.values:
        allowed = f" among {', '.join(f'{value:g}' for value in parameter.values)}"
    else:
        allowed = f" from {parameter.low:g} to {parameter.high:g}"
    return what + allowed + (f" {parameter.unit}" if parameter.unit else "")


def plain(value: object) -> object:
    """Return the numbers of numpy and torch as Python's own, arrays and tensors as nested lists."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic | Tensor) else value


def _read(owner: str, parameters: Mapping[str, Parameter], task: object) -> dict[str, Tensor]:
    """Return the parameters of one task, or raise with all its faults."""
    if not isinstance(task, Mapping):
        known = ", ".join(parameters)
        raise InputError([f"{owner}: a task is a dict with {known}; got {reprlib.repr(task)}"])
    lines, row = [], {}
    for key, parameter in parameters.items():
        if key not in task:
            lines.append(f"{owner}: {key} ({parameter.text}) is missing: {describe(parameter)}")
            continue
        fault, leaf = _read_value(parameter, task[key])
        if fault is not None:
            came = reprlib.repr(plain(task[key]))
            lines.append(f"{owner}: {key} ({parameter.text}) must be {fault}, got {came}")
        else:
            row[key] = leaf
    strangers = [key for key in task if key not in parameters and key != _ID]
    lines += [unknown(f"{owner}: task parameter", key, parameters) for key in strangers]
    place = plain(task.get(_ID, 0))
    if place != -1 and not COUNT_OR_ZERO.accepts(place):
        lines.append(f"{owner}: {_ID} must be {COUNT_OR_ZERO.text}, or absent; got {place!r}")
    if lines:
        raise InputError(lines)
    return row


def _read_value(parameter: Parameter, value: object) -> tuple[str | None, Tensor]:
    """Return what is allowed where the value is not, else None; and the value as float32."""
    allowed, nothing = describe(parameter), torch.empty(0)
    shape = _shape(plain(value))
    if shape is None:
        return allowed, nothing
    fits = len(shape) == len(parameter.shape) and all(
        expected in (None, size) for size, expected in zip(shape, parameter.shape, strict=True)
    )
    if not fits:
        return allowed, nothing
    # What is stored is float32, and so bounds are met by what they round to.
    leaf = torch.from_numpy(np.asarray(plain(value), dtype=np.float64)).float()
    low, high = (torch.tensor(bound).float() for bound in (parameter.low, parameter.high))
    if not bool(((leaf >= low) & (leaf <= high)).all()):
        return allowed, nothing
    if parameter.values and not bool(torch.isin(leaf, torch.tensor(parameter.values)).all()):
        return allowed, nothing
    return (None if parameter.fault is None else parameter.fault(leaf)), leaf


def _shape(value: object) -> tuple[int, ...] | None:
    """Return the shape of nested lists of numbers; None where they are none, or ragged."""
    if isinstance(value, list | tuple):
        shapes = {_shape(plain(entry)) for entry in value}
        inner = shapes.pop() if len(shapes) == 1 else None
        return None if inner is None else (len(value), *inner)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return () if abs(value) < LARGEST else None  # which NaN is not
