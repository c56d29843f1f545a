"""Point navigation: a point in the plane moves towards a hidden goal.

Task. ``goal`` [2], drawn from the square U[-0.5, 0.5]^2. It shows in the reward alone.

Observation. Position x, y (2 entries; no unit: the goals' square has side 1).

Action. Two numbers; divided by ``action_scale`` and clipped to [-0.1, 0.1] they are the
displacement of one step.

Reward per step. Minus the Euclidean distance to the goal after the step.

Horizon. 100 steps. Terminates once both abs(x - goal_x) and abs(y - goal_y) are below 0.01.

Start. The origin.

Source. Finn et al. 2017 (``maml-2017``). The paper's text says squared distance; its code, and the
return of -40.4 that it prints before adaptation, say Euclidean, and that is followed. The released
code wraps the environment so that an action of 1 is the largest displacement: ``action_scale`` 10.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from metarl.checks import COUNT, POSITIVE, check_fields
from metarl.envs.task_lists import EndlessTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

_MAX_STEP = 0.1
_GOAL_SIZE = 0.01


@dataclass(frozen=True, kw_only=True)
class NavigationConfig:
    """A point that looks for its goal."""

    horizon: int = 100
    """Steps of an episode."""
    action_scale: float = 10.0
    """The policy's action is divided by this before it is clipped to [-0.1, 0.1]."""
    goal_range: float = 0.5
    """Goals lie within this distance of the origin along each axis."""

    def __post_init__(self) -> None:
        check_fields(self, {"horizon": COUNT, "action_scale": POSITIVE, "goal_range": POSITIVE})


PRESETS: Mapping[str, NavigationConfig] = {"maml-2017": NavigationConfig()}


class NavigationEnv:
    """E points for each of K goals. Owns their positions."""

    threads = 1

    def __init__(self, spec: EnvSpec, action_scale: float, device: str) -> None:
        self.spec = spec
        self._action_scale, self._device = action_scale, device

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Put E points per task at the origin; return obs [K, E, 2]."""
        self._goal = tasks.parameter["goal"].to(self._device)[:, None]
        self._position = torch.zeros(len(tasks.task_id), episodes, 2, device=self._device)
        return self._position

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Put the points of ``copies`` [K, E] bool at the origin; return obs [K, E, 2]."""
        self._position = self._position * ~copies[..., None]
        return self._position

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply displacements [K, E, 2] to the running points."""
        displacement = (action / self._action_scale).clamp(-_MAX_STEP, _MAX_STEP)
        self._position = self._position + displacement * running[..., None]
        offset = self._position - self._goal
        return Step(
            obs=self._position,
            reward=-torch.linalg.vector_norm(offset, dim=-1),
            terminated=(offset.abs() < _GOAL_SIZE).all(-1),
            faulty=torch.zeros_like(running),
        )


def draw_goals(num_tasks: int, streams: Streams, goal_range: float) -> dict[str, Tensor]:
    """Draw K goals uniformly from a square around the origin."""
    return {"goal": (2.0 * streams.uniform("goal", num_tasks, (2,)) - 1.0) * goal_range}


def build(
    name: str, config: NavigationConfig, device: str, _threads: int
) -> tuple[EndlessTasks, NavigationEnv]:
    """Build the distribution and the environment."""
    limit = _MAX_STEP * config.action_scale
    spec = EnvSpec(name, 2, 2, False, config.horizon, score_is_total=False, action_limit=limit)
    size = config.goal_range
    about = Parameter("where to go", "", (2,), -size, size)
    goals = EndlessTasks(name, partial(draw_goals, goal_range=size), device, {"goal": about})
    return goals, NavigationEnv(spec, config.action_scale, device)
