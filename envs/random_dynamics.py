"""Bodies whose masses, inertias, frictions and dampings differ from task to task.

Task. One parameter for each kind of constant that varies, named as MuJoCo's field and in units of
the model's own value, so that 1 everywhere is the model itself:

============== ==================== ==== ===================================================
name           shape                base what
============== ==================== ==== ===================================================
body_mass      [bodies]             1.5  mass of each body
body_inertia   [bodies, 3]          1.5  principal moments of inertia of each body
geom_friction  [geoms, 3]           1.5  sliding, torsional and rolling friction of each geom
dof_damping    [degrees of freedom] 1.3  damping of each degree of freedom
============== ==================== ==== ===================================================

Every entry is base^U(-max_exponent, max_exponent), independently. The shifted tasks have exponents
whose size is U[max_exponent, max_exponent + 1], of either sign.

Moments of inertia that are drawn on their own, as published, may belong to no solid body: none of a
solid body's exceeds the sum of the other two. Without ``independent_inertia`` they are not part of
the task: each is multiplied by what its body's mass is multiplied by, as if the density had
changed.

Some entries change nothing: those of the world's body (the first; it has no mass) and the damping
of degrees of freedom that have none. Where two geoms touch, MuJoCo takes the larger friction of the
two: a rough floor hides a smooth foot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.checks import Allowed, check_fields
from metarl.envs.mujoco_env import Parameters
from metarl.envs.physics import BatchPhysics
from metarl.envs.task_lists import EndlessTasks, TaskListConfig, listed
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Parameter


class _Field(NamedTuple):
    text: str
    base: float


_FIELDS = {
    "body_mass": _Field("mass of each body", 1.5),
    "body_inertia": _Field("principal moments of inertia of each body", 1.5),
    "geom_friction": _Field("sliding, torsional and rolling friction of each geom", 1.5),
    "dof_damping": _Field("damping of each degree of freedom", 1.3),
}


@dataclass(frozen=True, kw_only=True)
class RandomDynamicsConfig(TaskListConfig):
    """Which constants of a body differ from task to task, and how much."""

    vary_mass: bool = True
    """Whether masses vary, and the moments of inertia with them."""
    independent_inertia: bool = False
    """Whether moments of inertia are drawn on their own instead, each of the three."""
    vary_friction: bool = True
    """Whether frictions vary."""
    vary_damping: bool = True
    """Whether dampings vary."""
    max_exponent: float = 3.0
    """Multipliers are base^U(-this, this)."""

    def __post_init__(self) -> None:
        TaskListConfig.__post_init__(self)
        owner, fault = type(self).__name__, None
        if not varied(self):
            fault = f"{owner}.vary_mass must be True where nothing else varies, got False"
        exponent = Allowed(0.0, 10.0, "a number above 0, at most 10", low_open=True)
        check_fields(self, {"max_exponent": exponent}, fault)


def varied(config: RandomDynamicsConfig) -> tuple[str, ...]:
    """Return the names of a task's parameters."""
    wanted = {
        "body_mass": config.vary_mass,
        "body_inertia": config.independent_inertia,
        "geom_friction": config.vary_friction,
        "dof_damping": config.vary_damping,
    }
    return tuple(field for field in _FIELDS if wanted[field])


def random_dynamics(
    name: str, device: str, config: RandomDynamicsConfig, physics: BatchPhysics
) -> TaskDistribution:
    """Return the tasks of a body: multipliers of the fields that its physics has."""
    shapes = {field: physics.nominal(field).shape for field in varied(config)}
    largest = config.max_exponent + 1.0
    parameters = {
        field: Parameter(
            _FIELDS[field].text,
            "x nominal",
            shape,
            float(torch.tensor(_FIELDS[field].base ** -largest)),
            float(torch.tensor(_FIELDS[field].base ** largest)),
        )
        for field, shape in shapes.items()
    }
    draw = partial(draw_multipliers, shapes=shapes)
    tasks = EndlessTasks(
        name,
        partial(draw, low=0.0, width=config.max_exponent),
        device,
        parameters,
        shifted=partial(draw, low=config.max_exponent, width=1.0),
    )
    return listed(tasks, name, config, device)


def draw_multipliers(
    num_tasks: int,
    streams: Streams,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    low: float,
    width: float,
) -> dict[str, Tensor]:
    """Draw base^x of the given shapes, where abs(x) is U(low, low + width), of either sign."""
    multipliers = {}
    for field, shape in shapes.items():
        # In float64, whose rounded power is the same on every processor.
        side = 2.0 * streams.uniform(field, num_tasks, shape).double() - 1.0
        exponent = side * width + torch.copysign(torch.full_like(side, low), side)
        multipliers[field] = (_FIELDS[field].base ** exponent).float()
    return multipliers


def scale_fields(physics: BatchPhysics, parameter: Parameters) -> None:
    """Give each copy its own multiples of the model's constants, and what MuJoCo derives from them.

    Multiplies what the model has, not what the copies had before.
    """
    multipliers = dict(parameter)
    if "body_mass" in multipliers and "body_inertia" not in multipliers:
        multipliers["body_inertia"] = multipliers["body_mass"][..., None]
    for field, multiplier in multipliers.items():
        physics.expand(field)[:] = physics.nominal(field) * multiplier
    physics.set_constants()
