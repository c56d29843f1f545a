"""Point navigation: a point in the plane moves towards a hidden goal.

Task. ``goal`` [2]; it shows in the reward alone. Lengths have no unit. With ``goal_range`` r:

=============== =============================================== ================================
goals           drawn from                                      ``shifted``
=============== =============================================== ================================
``square``      U[-r, r]^2                                      uniform in the ring around that
                                                                square, out to [-2r, 2r]^2
``corners``     (-r, -r), (r, -r), (-r, r) and (r, r)           none
``half_circle`` radius r, angle U[0, pi]; lists of training and angle U[pi, 2 pi]
                test tasks together are equally spaced angles
                from 0 to pi, both included, shuffled
=============== =============================================== ================================

Observation. Position x, y (2 entries).

Action. Two numbers; divided by ``action_scale`` they are the displacement of one step. With
``clip``, each is clipped to +-``max_step``.

Reached is the goal where abs(x - goal_x) and abs(y - goal_y) are below ``goal_size`` (shape
``box``), or where the Euclidean distance is at most that (``disc``). That is a step's ``success``.

Reward per step, of the position p after it, at Euclidean distance d from the goal:

============ ======================================================================================
reward       what is paid
============ ======================================================================================
``distance`` -d
``nearby``   1 - d where the goal is reached, else 0
``progress`` by how much d has become less in this step, where abs(p_x) + abs(p_y) >= 0.5 and the
             goal is at least as near as its mirror images about the axes (for corners: as every
             other corner); else 0
============ ======================================================================================

Horizon. See the presets. Terminates once the goal is reached if ``ends``, otherwise never.

Start. U[-``start_range``, ``start_range``]^2.

Presets:

===================== =========== ======== ========== ============ ============ ============ =====
preset                goals       r        reward     ``max_step`` start        reached      steps
===================== =========== ======== ========== ============ ============ ============ =====
``maml-2017``         square      0.5      distance   0.1          the origin   box 0.01     100
``promp-2019``        corners     2        progress   0.2          U[-.2, .2]^2 disc 0.2     100
``pearl-2019``        half circle 1        distance   not clipped  the origin   disc 0.2     20
``pearl-2019-sparse`` half circle 1        nearby     not clipped  the origin   disc 0.2     20
``varibad-2020``      half circle 1        nearby     0.1          the origin   disc 0.2     100
===================== =========== ======== ========== ============ ============ ============ =====

Only ``maml-2017`` ends at the goal. The codes of the others know no success; for the corners 0.2 is
ours, the largest displacement along an axis.

Source. Finn et al. 2017: the paper's text says squared distance; its code, and the return of -40.4
that it prints before adaptation, say Euclidean, and that is followed. The released code wraps the
environment so that an action of 1 is the largest displacement: ``action_scale`` 10. Rothfuss et al.
2019: its wrapper makes an action of 10 the largest, hence 50. Rakelly et al. 2019: 80 training
and 20 test tasks, in the order of the released code's shuffle, so that the test goals are the
paper's. Its agent learns from the dense reward and infers the task from the sparse one, hence two
presets. Its environment does not clip, and neither does ours; there, a wrapper around it and a
policy squashed to [-1, 1] kept displacements within 0.1. Zintgraf et al. 2020: sparse reward, goals
drawn afresh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import COUNT, NON_NEGATIVE, POSITIVE, check_fields, fault_in_choice
from metarl.envs import drawing
from metarl.envs.drawing import Raster
from metarl.envs.plane_goals import Goals, goal_tasks
from metarl.envs.refusals import refuse_other_actions, refuse_other_tasks
from metarl.envs.task_lists import TaskListConfig
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import EnvSpec, Step, Tasks

Shape: TypeAlias = Literal["box", "disc"]
Reward: TypeAlias = Literal["distance", "nearby", "progress"]

_CHOICES = {"goals": get_args(Goals), "goal_shape": get_args(Shape), "reward": get_args(Reward)}
_DARK = 0.5
_PIXELS = 256


@dataclass(frozen=True, kw_only=True)
class NavigationConfig(TaskListConfig):
    """A point that looks for its goal."""

    horizon: int = 100
    """Steps of an episode."""
    action_scale: float = 10.0
    """The policy's action is divided by this before it is clipped to the largest step."""
    goal_range: float = 0.5
    """r: goals lie in [-r, r]^2, at its corners, or at this distance from the origin."""
    goals: Goals = "square"
    """Where goals lie."""
    goal_size: float = 0.01
    """The goal is reached when both offsets, or the distance, are within this."""
    goal_shape: Shape = "box"
    """Whether ``goal_size`` bounds both offsets (box) or the Euclidean distance (disc)."""
    reward: Reward = "distance"
    """Minus the distance; 1 minus it where the goal is reached; or progress towards it."""
    ends: bool = True
    """Whether reaching the goal ends the episode."""
    start_range: float = 0.0
    """Starts are drawn within this distance of the origin along each axis."""
    max_step: float = 0.1
    """The largest displacement along each axis."""
    clip: bool = True
    """Whether larger displacements are clipped to ``max_step``; else it only names the scale."""

    def __post_init__(self) -> None:
        TaskListConfig.__post_init__(self)
        lists = self.goals == "corners" and self.num_train_tasks
        check_fields(
            self,
            {
                "horizon": COUNT,
                "action_scale": POSITIVE,
                "goal_range": POSITIVE,
                "goal_size": POSITIVE,
                "start_range": NON_NEGATIVE,
                "max_step": POSITIVE,
            },
            *(fault_in_choice(self, name, known) for name, known in _CHOICES.items()),
            f"NavigationConfig.num_train_tasks must be 0 where goals is 'corners': there are 4,"
            f" got {self.num_train_tasks}"
            if lists
            else None,
        )


_CIRCLE = NavigationConfig(
    goals="half_circle",
    goal_range=1.0,
    goal_size=0.2,
    goal_shape="disc",
    reward="nearby",
    ends=False,
)
_PEARL = replace(_CIRCLE, horizon=20, clip=False, num_train_tasks=80, num_test_tasks=20)
PRESETS: Mapping[str, NavigationConfig] = {
    "maml-2017": NavigationConfig(),
    "promp-2019": NavigationConfig(
        action_scale=50.0,
        goals="corners",
        goal_range=2.0,
        goal_size=0.2,
        goal_shape="disc",
        reward="progress",
        ends=False,
        start_range=0.2,
        max_step=0.2,
    ),
    "pearl-2019": replace(_PEARL, reward="distance"),
    "pearl-2019-sparse": _PEARL,
    "varibad-2020": _CIRCLE,
}


class NavigationEnv:
    """E points for each of K goals. Owns their positions."""

    threads = 1

    def __init__(self, spec: EnvSpec, config: NavigationConfig, device: str) -> None:
        self.spec = spec
        self._config, self._device = config, device

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Put E points per task at their starts; return obs [K, E, 2]."""
        refuse_other_tasks(self.spec, ("goal",), tasks)
        self._goal = tasks.parameter["goal"].to(self._device)[:, None]
        self._position = torch.zeros(len(tasks.task_id), episodes, 2, device=self._device)
        self._position = self._starts(streams)
        return self._position.clone()

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Put the points of ``copies`` [K, E] bool at new starts; return obs [K, E, 2]."""
        self._position = torch.where(copies[..., None], self._starts(streams), self._position)
        return self._position.clone()

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply displacements [K, E, 2] to the running points."""
        refuse_other_actions(self.spec, action, running.shape)
        config = self._config
        displacement = action / config.action_scale
        if config.clip:
            displacement = displacement.clamp(-config.max_step, config.max_step)
        before = self._position - self._goal
        moved = self._position + displacement
        self._position = torch.where(running[..., None], moved, self._position)
        offset = self._position - self._goal
        distance = torch.linalg.vector_norm(offset, dim=-1)
        if config.goal_shape == "box":
            reached = (offset.abs() < config.goal_size).all(-1)
        else:
            reached = distance <= config.goal_size
        never = torch.zeros_like(running)
        return Step(
            obs=self._position.clone(),
            reward=self._reward(distance, before, reached),
            terminated=reached if config.ends else never,
            faulty=never,
            success=reached,
        )

    def place(self, task: int, episode: int) -> NDArray[np.float64]:
        """Return the position of a point, [2]."""
        position: NDArray[np.float64] = self._position[task, episode].double().cpu().numpy()
        return position

    def picture(self, task: int, episode: int, path: Sequence[NDArray[np.float64]] = ()) -> Raster:
        """Draw a point, the origin and the goal, as large as it is; [256, 256, 3] RGB.

        The picture reaches beyond the goals; a point that has left it is drawn at its edge. The
        ``path`` leads there through earlier positions.
        """
        config = self._config
        goal = self._goal[task, 0].double().cpu().numpy()
        reach = 1.25 * max(config.goal_range, float(np.abs(goal).max()))
        pixels_per_unit = _PIXELS / (2.0 * reach)

        def pixel(x: float, y: float) -> tuple[float, float]:
            """Pixels from the top left corner."""
            return (x + reach) * pixels_per_unit, (reach - y) * pixels_per_unit

        image = drawing.canvas(_PIXELS, _PIXELS)
        drawing.line(image, pixel(-reach, 0), pixel(reach, 0), 1.0, drawing.LINES)
        drawing.line(image, pixel(0, -reach), pixel(0, reach), 1.0, drawing.LINES)
        x, y = pixel(*goal)
        size = max(config.goal_size * pixels_per_unit, 4.0)
        if config.goal_shape == "box":
            drawing.box(image, y - size, x - size, y + size, x + size, drawing.GOAL)
        else:
            drawing.disc(image, (x, y), size, drawing.GOAL)
        drawing.ring(image, pixel(0, 0), 5.0, 1.5, drawing.START)
        way = np.vstack((*path, self.place(task, episode))).clip(-reach, reach)
        pixels = [pixel(*position) for position in way]
        drawing.path(image, pixels, 2.0)
        drawing.disc(image, pixels[-1], 5.0, drawing.AGENT)
        return image

    def _reward(self, distance: Tensor, before: Tensor, reached: Tensor) -> Tensor:
        """Pay for one step, [K, E]; ``before`` is the offset from the goal ahead of it."""
        if self._config.reward == "distance":
            return -distance
        if self._config.reward == "nearby":
            return torch.where(reached, 1.0 - distance, 0.0)
        # Among its mirror images the goal is nearest to those who are on its side of both axes.
        same_side = (self._position * self._goal >= 0.0).all(-1)
        pays = same_side & (self._position.abs().sum(-1) >= _DARK)
        return torch.where(pays, torch.linalg.vector_norm(before, dim=-1) - distance, 0.0)

    def _starts(self, streams: Streams) -> Tensor:
        """Draw the starts of all copies, [K, E, 2]."""
        num_tasks, episodes, _ = self._position.shape
        if self._config.start_range == 0.0:
            return torch.zeros_like(self._position)
        uniform = streams.uniform("start", num_tasks, (episodes, 2)).to(self._device)
        return (2.0 * uniform - 1.0) * self._config.start_range


def build(
    name: str, config: NavigationConfig, device: str, _threads: int
) -> tuple[TaskDistribution, NavigationEnv]:
    """Build the distribution and the environment."""
    limit = config.max_step * config.action_scale
    spec = EnvSpec(name, 2, 2, False, config.horizon, score_is_total=False, action_limit=limit)
    tasks = goal_tasks(name, config.goals, config.goal_range, config, device)
    return tasks, NavigationEnv(spec, config, device)
