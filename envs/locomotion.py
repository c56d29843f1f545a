"""What bodies that walk or run have in common: their settings, and where they are told to go."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from metarl.checks import COUNT, POSITIVE, check_fields
from metarl.envs.mujoco_env import Array, Parameters
from metarl.envs.mujoco_renderer import Marker
from metarl.envs.task_lists import EndlessTasks, EnumeratedTasks
from metarl.seeding import Streams
from metarl.types import Parameter


@dataclass(frozen=True, kw_only=True)
class LocomotionConfig:
    """Time limit and action scale of a body."""

    horizon: int = 100
    """Steps of an episode."""
    action_scale: float = 10.0
    """The policy's action is divided by this before it is clipped to [-1, 1]."""

    def __post_init__(self) -> None:
        check_fields(self, {"horizon": COUNT, "action_scale": POSITIVE})


def directions(name: str, device: str) -> EnumeratedTasks:
    """Return the two tasks ``direction`` -1 and +1; ``task_id`` 0 is backwards."""
    both = {"direction": torch.tensor([-1.0, 1.0], device=device)}
    about = Parameter("sign of the rewarded velocity", "", (), -1.0, 1.0, values=(-1.0, 1.0))
    return EnumeratedTasks(name, both, {"direction": about})


def velocities(name: str, device: str, max_velocity: float) -> EndlessTasks:
    """Return tasks ``velocity`` ~ U[0, v]; the shifted ones lie in U[v, v + 1] m/s."""
    about = Parameter("rewarded velocity", "m/s", (), 0.0, max_velocity + 1.0)
    return EndlessTasks(
        name,
        partial(_draw_velocities, low=0.0, width=max_velocity),
        device,
        {"velocity": about},
        shifted=partial(_draw_velocities, low=max_velocity, width=1.0),
    )


def _draw_velocities(
    num_tasks: int, streams: Streams, low: float, width: float
) -> dict[str, Tensor]:
    return {"velocity": low + streams.uniform("velocity", num_tasks, ()) * width}


def headings(name: str, device: str) -> EndlessTasks:
    """Return tasks ``heading`` [2], unit vectors in the plane whose angle is U[0, 2 pi]."""
    about = Parameter("unit vector of the rewarded velocity", "", (2,), -1.0, 1.0, fault=_not_unit)
    return EndlessTasks(name, _draw_headings, device, {"heading": about})


def _draw_headings(num_tasks: int, streams: Streams) -> dict[str, Tensor]:
    # In float64, whose rounded cosine is the same on every processor.
    angle = 2.0 * math.pi * streams.uniform("angle", num_tasks, ()).double()
    return {"heading": torch.stack((angle.cos(), angle.sin()), -1).float()}


def direction_arrow(place: Array, parameter: Parameters) -> Sequence[Marker]:
    """Mark ``direction`` by an arrow of 1 m above the body, along x."""
    return _arrow(place, parameter["direction"], 0.0)


def velocity_arrow(place: Array, parameter: Parameters) -> Sequence[Marker]:
    """Mark ``velocity`` by an arrow above the body, along x, of half a metre for each m/s."""
    return _arrow(place, 0.5 * parameter["velocity"], 0.0)


def heading_arrow(place: Array, parameter: Parameters) -> Sequence[Marker]:
    """Mark ``heading`` by an arrow of 1 m above the body."""
    return _arrow(place, *parameter["heading"])


def _arrow(place: Array, x: ArrayLike, y: ArrayLike) -> Sequence[Marker]:
    tip = np.array([x, y, 0.0], dtype=np.float64)
    return [Marker(place + np.array([0.0, 0.0, 0.6]), arrow=tip, size=0.03)]


def _not_unit(heading: Tensor) -> str | None:
    length = float(torch.linalg.vector_norm(heading))
    return None if abs(length - 1.0) < 1e-3 else f"a vector of length 1, this one's is {length:.4g}"
