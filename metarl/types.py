"""The data that flows through the suite, and the letters of its axes.

Axes, outermost first: K tasks, E episodes (copies) of each task, T time steps; then O observation
entries or A action entries. A function written for one task sees [E, T, ...] and is batched over K
from outside by ``torch.func.vmap``.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from torch import Tensor

Params: TypeAlias = dict[str, Tensor]
"""The weights of one policy; "stacked" when every leaf leads with K."""

Adapted: TypeAlias = dict[str, Tensor]
"""What an agent knows of its K tasks; every leaf leads with K."""

Metrics: TypeAlias = dict[str, float]
"""Named numbers of one meta-iteration."""


class EnvSpec(NamedTuple):
    """What an agent must know of an environment before it meets it."""

    name: str
    """Registered name, such as ``metarl/HalfCheetahDir-v0``."""
    observation_size: int
    """O, the length of an observation."""
    action_size: int
    """A: entries of a continuous action, or the number of choices of a discrete one."""
    discrete: bool
    """Whether an action is one of A choices (int64) or a vector of A numbers."""
    horizon: int
    """T, the time limit of an episode in steps."""
    score_is_total: bool
    """Whether a round scores by the total over its E episodes (bandits) or by their mean."""
    action_limit: float = 1.0
    """Where entries of a continuous action saturate: 1 to libraries whose actions are shares."""


class ActionRange(NamedTuple):
    """The bounds between which someone outside of the suite takes entries of a continuous action.

    The faces of the suite's environments take [-1, 1]; a robot's drivers may take volts.
    """

    low: Tensor
    """[A]."""
    high: Tensor
    """[A]."""

    def place(self, action: Tensor, limit: float) -> Tensor:
        """Turn actions [..., A] that saturate at +-``limit`` into the same share of this range."""
        share = (action / limit).clamp(-1.0, 1.0)
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * share


class Tasks(NamedTuple):
    """K tasks, by their parameters."""

    task_id: Tensor
    """[K] int64: place in a finite list of tasks; -1 for a task drawn afresh."""
    parameter: dict[str, Tensor]
    """Task parameters by name; every leaf leads with K. Units are in the environment's contract."""

    def take(self, rows: slice) -> "Tasks":
        """Return some of the tasks."""
        parameter = {name: leaf[rows] for name, leaf in self.parameter.items()}
        return Tasks(self.task_id[rows], parameter)


class Parameter(NamedTuple):
    """What one parameter of an environment's tasks is, and may be."""

    text: str
    """What it is, in a few words."""
    unit: str
    """Its unit, or an empty string."""
    shape: tuple[int | None, ...]
    """Of one task's value; None for an axis of any length."""
    low: float
    """No entry is below this."""
    high: float
    """No entry is above this."""
    values: tuple[float, ...] = ()
    """Where only these are allowed."""
    fault: Callable[[Tensor], str | None] | None = None
    """A further rule: what is allowed, where one task's value breaks it; else None."""


class Step(NamedTuple):
    """What one step of all copies led to."""

    obs: Tensor
    """[K, E, O] float32. A copy that was not running keeps its last observation."""
    reward: Tensor
    """[K, E] float32, in the task's own units."""
    terminated: Tensor
    """[K, E] bool: the MDP ended here. A time limit is not a termination."""
    faulty: Tensor
    """[K, E] bool: the simulator failed in this step; its result means nothing."""
    success: Tensor | None = None
    """[K, E] bool: where the task has a goal, whether the copy is there after this step."""


class Acted(NamedTuple):
    """One decision for every copy."""

    action: Tensor
    """[K, E, A] float32, or [K, E] int64 when discrete."""
    log_prob: Tensor
    """[K, E] nats, of that action."""
    adapted: Adapted
    """Passed on to the next step: agents with memory change it, others return what they got."""


class Outcome(NamedTuple):
    """What one decision led to, for agents with memory."""

    reward: Tensor
    """[K, E] in the task's own units; 0 where nothing was earned."""
    ended: Tensor
    """[K, E] bool: the copy's episode is over by now: terminated, faulty, or out of time."""
    counted: Tensor
    """[K, E] bool: this step is one of the episode's, as ``Trajectories.mask`` will say.

    Off where the episode had ended before, and where the simulator failed in this step.
    """


class Trajectories(NamedTuple):
    """One round of experience: E episodes of each of K tasks; without K inside ``vmap``.

    Where the mask is off, a sampler returns 0 as action, log_prob, reward and terminated.
    """

    task_id: Tensor
    """[K] int64, -1 for a task drawn afresh."""
    obs: Tensor
    """[K, E, T+1, O]; ``obs[..., t+1, :]`` is where step t led, also at the end."""
    action: Tensor
    """[K, E, T, A] float32, or [K, E, T] int64 when discrete."""
    log_prob: Tensor
    """[K, E, T] nats, under the policy that acted."""
    reward: Tensor
    """[K, E, T] in the task's own units, never rescaled; 0 where the mask is off."""
    terminated: Tensor
    """[K, E, T] bool: the MDP ended here; the value of what follows is 0."""
    mask: Tensor
    """[K, E, T] bool: the episode was still running. True up to its last step, then False."""
    faulty: Tensor
    """[K, E] bool: the simulator failed in this episode; it is cut before the failing step."""
    success: Tensor
    """[K, E] int8: 1 where the copy was at its goal after any step under the mask, 0 where it never
    was, -1 where the environment knows no goal (``Step.success`` is None)."""
