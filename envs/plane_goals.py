"""Where hidden goals lie in the plane: in a square, at its corners or on a half circle."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from metarl.envs.task_lists import EndlessTasks, EnumeratedTasks, TaskListConfig, listed
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Parameter

Goals: TypeAlias = Literal["square", "corners", "half_circle"]

_CORNERS = ((-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0))


def goal_tasks(
    name: str, goals: Goals, goal_range: float, lists: TaskListConfig, device: str
) -> TaskDistribution:
    """Return tasks ``goal`` [2]; ``navigation`` says where they lie, in training and shifted.

    Finite lists on the half circle are equally spaced on it, whatever the streams.
    """
    text = "where to go"
    if goals == "corners":
        corners = {"goal": goal_range * torch.tensor(_CORNERS, device=device)}
        values = (-goal_range, goal_range)
        about = Parameter(text, "", (2,), -goal_range, goal_range, values)
        return EnumeratedTasks(name, corners, {"goal": about})
    if goals == "square":
        about = Parameter(text, "", (2,), -2.0 * goal_range, 2.0 * goal_range)
        draw = partial(draw_goals, goal_range=goal_range)
        shifted = partial(draw_in_frame, inner=goal_range, outer=2.0 * goal_range)
    else:
        about = Parameter(text, "", (2,), -goal_range, goal_range)
        draw = partial(draw_on_circle, goal_range=goal_range, first_angle=0.0)
        if lists.num_train_tasks:
            draw = partial(spread_on_circle, goal_range=goal_range)
        shifted = partial(draw_on_circle, goal_range=goal_range, first_angle=math.pi)
    return listed(EndlessTasks(name, draw, device, {"goal": about}, shifted), name, lists, device)


def goals_around(
    name: str,
    device: str,
    radius: float,
    *,
    disc: bool = True,
    beyond: float = 1.0,
    fault: Callable[[Tensor], str | None] | None = None,
) -> EndlessTasks:
    """Return tasks ``goal`` [2], uniform in the disc of that radius or the square around it, in m.

    The shifted ones are uniform in the ring around the disc or the frame around the square,
    ``beyond`` m wide. ``fault`` is a further rule of the parameter, as in ``Parameter``.
    """
    reach = radius + beyond
    about = Parameter("where to go", "m", (2,), -reach, reach, fault=fault)
    if disc:
        draw = partial(draw_in_ring, inner=0.0, outer=radius)
        shifted = partial(draw_in_ring, inner=radius, outer=reach)
    else:
        draw = partial(draw_goals, goal_range=radius)
        shifted = partial(draw_in_frame, inner=radius, outer=reach)
    return EndlessTasks(name, draw, device, {"goal": about}, shifted)


def draw_goals(num_tasks: int, streams: Streams, goal_range: float) -> dict[str, Tensor]:
    """Draw K goals uniformly from a square around the origin."""
    return {"goal": (2.0 * streams.uniform("goal", num_tasks, (2,)) - 1.0) * goal_range}


def draw_in_frame(
    num_tasks: int, streams: Streams, inner: float, outer: float
) -> dict[str, Tensor]:
    """Draw K goals uniformly from between two squares of those half sides."""
    uniform = streams.uniform("goal", num_tasks, (3,)).double()
    out = _between(uniform[:, 0], inner, outer)
    along = out * (2.0 * uniform[:, 1] - 1.0)
    side = (4.0 * uniform[:, 2]).long()
    sign = torch.where(side < 2, out, -out)
    upright = side % 2 == 0
    goal = torch.stack((torch.where(upright, sign, along), torch.where(upright, along, sign)), -1)
    return {"goal": goal.float()}


def draw_in_ring(num_tasks: int, streams: Streams, inner: float, outer: float) -> dict[str, Tensor]:
    """Draw K goals uniformly from between two circles of those radii."""
    distance = _between(streams.uniform("distance", num_tasks, ()).double(), inner, outer)
    angle = 2.0 * math.pi * streams.uniform("angle", num_tasks, ()).double()
    return _on_circle(angle, distance[:, None])


def _between(uniform: Tensor, inner: float, outer: float) -> Tensor:
    """Draw distances under which areas, which grow with their squares, are uniform."""
    return torch.sqrt(inner**2 + (outer**2 - inner**2) * uniform)


def draw_on_circle(
    num_tasks: int, streams: Streams, goal_range: float, first_angle: float
) -> dict[str, Tensor]:
    """Draw K goals from the half circle that starts at an angle in rad."""
    angle = first_angle + math.pi * streams.uniform("angle", num_tasks, ()).double()
    return _on_circle(angle, goal_range)


def spread_on_circle(num_tasks: int, _streams: Streams, goal_range: float) -> dict[str, Tensor]:
    """Return K equally spaced goals on the upper half circle, in a fixed shuffled order."""
    # The released code's own generator and seed: for 100 goals, its last 20 are the paper's.
    order = np.random.RandomState(1337).permutation(num_tasks)
    return _on_circle(torch.from_numpy(np.linspace(0.0, np.pi, num_tasks)[order]), goal_range)


def _on_circle(angle: Tensor, radius: float | Tensor) -> dict[str, Tensor]:
    # Angles are float64, whose rounded cosines are the same on every processor.
    return {"goal": (radius * torch.stack((angle.cos(), angle.sin()), -1)).float()}
