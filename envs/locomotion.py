"""What bodies that walk or run have in common: their settings, and where they are told to go."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from metarl.checks import COUNT, POSITIVE, check_fields
from metarl.envs.mujoco_env import Array, Flags, Moved, Parameters
from metarl.envs.mujoco_renderer import Marker
from metarl.envs.physics import BatchPhysics
from metarl.envs.task_lists import EndlessTasks, EnumeratedTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter

_ABOVE = np.array([0.0, 0.0, 0.6])  # m from a body to the arrow that shows its task


@dataclass(frozen=True, kw_only=True)
class LocomotionConfig:
    """Time limit and action scale of a body."""

    horizon: int = 200
    """Steps of an episode."""
    action_scale: float = 1.0
    """The policy's action is divided by this before it is clipped to [-1, 1]."""

    def __post_init__(self) -> None:
        check_fields(self, {"horizon": COUNT, "action_scale": POSITIVE})

    def spec(self, name: str, observation_size: int, action_size: int) -> EnvSpec:
        """Return what an agent must know of the body."""
        return EnvSpec(
            name,
            observation_size,
            action_size,
            discrete=False,
            horizon=self.horizon,
            score_is_total=False,
            action_limit=self.action_scale,
        )


def forwards(physics: BatchPhysics) -> Array:
    """Return how far along x the bodies have come, [N] in m."""
    position: Array = physics.qpos[:, 0].copy()
    return position


def place(physics: BatchPhysics) -> Array:
    """Return where the bodies are, x and y, [N, 2] in m."""
    position: Array = physics.qpos[:, :2].copy()
    return position


def velocity_miss(moved: Moved) -> Array:
    """Return how far the velocities along x are from the task's, [N] in m/s."""
    velocity = moved.velocity if moved.velocity.ndim == 1 else moved.velocity[:, 0]
    miss: Array = np.abs(velocity - moved.parameter["velocity"])
    return miss


def directions(name: str, device: str) -> EnumeratedTasks:
    """Return the two tasks ``direction`` -1 and +1; ``task_id`` 0 is backwards."""
    both = {"direction": torch.tensor([-1.0, 1.0], device=device)}
    about = Parameter("sign of the rewarded velocity", "", (), -1.0, 1.0, values=(-1.0, 1.0))
    return EnumeratedTasks(name, both, {"direction": about})


def velocities(name: str, device: str, max_velocity: float, beyond: float = 1.0) -> EndlessTasks:
    """Return tasks ``velocity`` ~ U[0, v]; the shifted ones lie in U[v, v + ``beyond``] m/s."""
    about = Parameter("rewarded velocity", "m/s", (), 0.0, max_velocity + beyond)
    return EndlessTasks(
        name,
        partial(_draw_velocities, low=0.0, width=max_velocity),
        device,
        {"velocity": about},
        shifted=partial(_draw_velocities, low=max_velocity, width=beyond),
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


def two_headings(name: str, device: str) -> EnumeratedTasks:
    """Return the two tasks ``heading`` (-1, 0) and (1, 0); ``task_id`` 0 is backwards."""
    both = {"heading": torch.tensor([[-1.0, 0.0], [1.0, 0.0]], device=device)}
    about = Parameter(
        "unit vector of the rewarded velocity",
        "",
        (2,),
        -1.0,
        1.0,
        values=(-1.0, 0.0, 1.0),
        fault=_not_unit,
    )
    return EnumeratedTasks(name, both, {"heading": about})


def show_task(place: Array, parameter: Parameters, scale: float = 0.5) -> Sequence[Marker]:
    """Mark what one copy is paid for, by the names of its task's parameters.

    ``goal`` [2] is a sphere at its x and y; ``heading`` and ``direction`` are arrows of 1 m above
    the body, ``velocity`` one of ``scale`` m for each m/s.
    """
    if "goal" in parameter:
        return [Marker(np.array([*parameter["goal"], place[2]]), size=0.15)]
    if "heading" in parameter:
        tip = np.array([*parameter["heading"], 0.0])
    elif "direction" in parameter:
        tip = np.array([float(parameter["direction"]), 0.0, 0.0])
    elif "velocity" in parameter:
        tip = np.array([scale * float(parameter["velocity"]), 0.0, 0.0])
    else:
        return ()
    return [Marker(place + _ABOVE, arrow=tip, size=0.03)]


def _not_unit(heading: Tensor) -> str | None:
    length = float(torch.linalg.vector_norm(heading))
    return None if abs(length - 1.0) < 1e-3 else f"a vector of length 1, this one's is {length:.4g}"


def outside(physics: BatchPhysics, healthy: tuple[float, float]) -> Flags:
    """Return [N]: whether the torso of a free body is lower or higher than it may be."""
    height, (lowest, highest) = physics.qpos[:, 2], healthy
    flags: Flags = (height < lowest) | (height > highest)
    return flags
