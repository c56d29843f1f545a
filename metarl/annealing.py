"""What goes linearly from a first value to a last one as learning goes on, such as step sizes.

With epsilon_0 the first size, epsilon_N the last and N the number of steps between them, step i,
counted from 0, has the size

    epsilon_0 + (epsilon_N - epsilon_0) min(i / N, 1)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl import trees
from metarl.checks import COUNT_OR_ZERO, NON_NEGATIVE, check_fields
from metarl.optimizers import MetaOptimizer, OptimizerName, OuterOptimizerConfig
from metarl.types import Metrics, Params

NUM_STEPS = "num_outer_steps"
"""Name in an annealed optimiser's state: int64 scalar, how many steps were taken."""


def anneal(first: float, last: float, steps_taken: int, over: int) -> float:
    """Return the size of the next step: the module's formula, or ``first`` where ``over`` is 0."""
    if over == 0:
        return first
    return first + (last - first) * min(steps_taken / over, 1.0)


def rise(last: float, steps_taken: int, between: tuple[int, int]) -> float:
    """Return what goes linearly from 0 to its last value between two steps, at the next step."""
    begin, end = between
    if steps_taken >= end:
        return last
    return anneal(0.0, last, max(steps_taken - begin, 0), end - begin)


def fault_in_rise(config: object, name: str, of: str) -> str | None:
    """Say what is wrong with the two steps between which a config's value ``of`` rises.

    Its field ``name`` holds them. Both 0 stand for a value that does not rise.
    """
    given, full = f"{type(config).__name__}.{name}", getattr(config, of)
    between: tuple[object, ...] = getattr(config, name)
    if len(between) != 2 or not all(COUNT_OR_ZERO.accepts(number) for number in between):
        return f"{given} must be two whole numbers >= 0, got {between}"
    if between[0] > between[1]:  # type: ignore[operator]
        return f"{given} must not end before it begins, got {between}"
    if full == 0 and between != (0, 0):
        return f"{given} has no effect with {of}={full}: say what it rises to"
    return None


@dataclass(frozen=True, kw_only=True)
class OuterStepConfig(OuterOptimizerConfig):
    """Outer steps that may grow shorter."""

    outer_optimizer: OptimizerName = "sgd"
    """What takes the step towards the adapted weights."""
    outer_lr: float = 0.1
    """epsilon, or Adam's step size."""
    anneal_over: int = 0
    """Outer steps over which their size goes linearly to its last value, at which it then stays; 0
    leaves it as it is. The paper's schedule takes all of them. A meta-iteration takes one, unless
    its gradient is not finite."""
    outer_lr_final: float = 0.0
    """Last value of the outer step size; only with ``anneal_over``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            {"anneal_over": COUNT_OR_ZERO, "outer_lr_final": NON_NEGATIVE},
            f"{type(self).__name__}.outer_lr_final has no effect with anneal_over=0: say over how"
            " many meta-iterations"
            if self.outer_lr_final and self.anneal_over == 0
            else None,
        )

    def step_size(self, steps_taken: int) -> float:
        """Return the size of the next step."""
        return anneal(self.outer_lr, self.outer_lr_final, steps_taken, self.anneal_over)


class AnnealedOptimizer(MetaOptimizer):
    """Owns weights, what the optimiser remembers, and how many steps were taken."""

    def __init__(self, params: Params, config: OuterStepConfig) -> None:
        self._config = config
        # A tensor, as all of the state: a resumed run goes on at the same place of the schedule.
        self._num_steps = torch.zeros((), dtype=torch.int64)
        super().__init__(params, config.outer_optimizer, config.outer_lr)

    @property
    def step_size(self) -> float:
        """The size of the next step."""
        return self._config.step_size(int(self._num_steps))

    def step(self, gradient: Params) -> None:
        """Take one step down the gradient, of the size that is due."""
        self.set_step_size(self.step_size)
        super().step(gradient)
        self._num_steps += 1

    def step_if_finite(self, gradient: Params) -> Metrics:
        """Take one step as ``step`` does, unless the gradient is not finite; return what it did."""
        size, flat = self.step_size, trees.flatten(gradient)
        finite = bool(torch.isfinite(flat).all())
        if finite:
            self.step(gradient)
        return {
            "train/gradient_norm": float(flat.norm()),
            "train/outer_lr": size,
            "train/skipped_steps": float(not finite),
        }

    def _memory(self) -> dict[str, Tensor]:
        count = {NUM_STEPS: self._num_steps} if self._config.anneal_over else {}
        return super()._memory() | count
