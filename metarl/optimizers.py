"""An outer optimiser over a dict of weights, whose state is a flat dict of tensors."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl import trees
from metarl.types import Params

OptimizerName: TypeAlias = Literal["sgd", "adam"]
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}


class MetaOptimizer:
    """Owns the weights of an agent and what its optimiser remembers of earlier gradients."""

    def __init__(self, params: Params, name: OptimizerName, step_size: float) -> None:
        self.params: Params = {leaf: value.clone() for leaf, value in params.items()}
        make = OPTIMIZERS[name]
        self._optimizer = make(self.params.values(), lr=step_size)  # type: ignore[call-arg]

    def step(self, gradient: Params) -> None:
        """Take one step down the gradient."""
        for name, leaf in self.params.items():
            leaf.grad = gradient[name]
        self._optimizer.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name, and the optimiser's memory of each as ``name/what``."""
        memory = {
            f"{name}/{what}": value
            for name, leaf in self.params.items()
            for what, value in self._optimizer.state[leaf].items()
            if isinstance(value, Tensor)
        }
        return dict(self.params) | memory

    def load_state_dict(self, state: dict[str, Tensor], owner: str) -> None:
        """Take over weights and memory.

        Raises:
            ValueError: weights are missing, unknown or of another shape.
        """
        weights = {name: value for name, value in state.items() if "/" not in name}
        for name, value in trees.take_over(self.params, weights, owner).items():
            self.params[name].copy_(value)
        self._optimizer.state.clear()
        for place, value in state.items():
            name, _, what = place.partition("/")
            if what:
                self._optimizer.state[self.params[name]][what] = value.clone()
