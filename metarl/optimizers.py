"""What owns theta, and outer optimisers over it, whose state is a flat dict of tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl import trees
from metarl.checks import POSITIVE, check_fields, fault_in_choice
from metarl.muon import Muon
from metarl.types import Params

OptimizerName: TypeAlias = Literal["sgd", "adam"]
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}
MetaOptimizerName: TypeAlias = Literal["sgd", "adam", "muon"]


@dataclass(frozen=True, kw_only=True)
class OuterOptimizerConfig:
    """What takes outer steps, and how long they are."""

    outer_optimizer: OptimizerName = "adam"
    """What takes the step."""
    outer_lr: float = 1e-3
    """Its step size, beta in MAML's paper."""

    def __post_init__(self) -> None:
        fault = fault_in_choice(self, "outer_optimizer", OPTIMIZERS)
        check_fields(self, {"outer_lr": POSITIVE}, fault)


class Theta:
    """Owns the weights that an agent meta-learns."""

    def __init__(self, params: Params) -> None:
        self.params: Params = {leaf: value.clone() for leaf, value in params.items()}

    def weights(self) -> Params:
        """Return a copy of the weights, which later steps leave alone."""
        return {name: leaf.clone() for name, leaf in self.params.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return self.weights()

    def load_state_dict(self, state: dict[str, Tensor], owner: str) -> None:
        """Take over a state.

        Raises:
            InputError: as ``trees.check_alike``; nothing was taken over.
        """
        self.params = trees.take_over(self.params, state, owner)


class MetaOptimizer(Theta):
    """Owns weights, and what an optimiser remembers of earlier gradients.

    Args:
        params: the weights to begin with.
        name: SGD, Adam, or Muon, which leaves to Adam what is no matrix or has one row or column.
        step_size: of all of them.
        stacked: by name of a leaf, how many matrices it holds one below the other, where it is more
            than one; Muon moves each by itself.
    """

    def __init__(
        self,
        params: Params,
        name: MetaOptimizerName,
        step_size: float,
        stacked: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(params)
        self._optimizer_of = _optimizers(self.params, name, step_size, stacked)
        self._optimizers = tuple(dict.fromkeys(self._optimizer_of.values()))
        # A step along nothing makes the optimiser lay out its memory, which is then set to the
        # start: so the state has the same names before and after the first real step.
        self.step({leaf: torch.zeros_like(value) for leaf, value in params.items()})
        for value in self._memory().values():
            value.zero_()

    def set_step_size(self, step_size: float) -> None:
        """Change the size of the steps from the next one on."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = step_size

    def step(self, gradient: Params) -> None:
        """Take one step down the gradient."""
        for name, leaf in self.params.items():
            leaf.grad = gradient[name]
        for optimizer in self._optimizers:
            optimizer.step()

    def overwrite(self, params: Params) -> None:
        """Put other weights in place of those there are, and remember what was remembered."""
        for name, leaf in self.params.items():
            leaf.copy_(params[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name, and the optimiser's memory of each as ``name/what``."""
        return self.weights() | {name: value.clone() for name, value in self._memory().items()}

    def load_state_dict(self, state: dict[str, Tensor], owner: str) -> None:
        """Take over weights and memory; raise InputError as ``Theta`` does."""
        current = self.params | self._memory()
        for name, value in trees.take_over(current, state, owner).items():
            current[name].copy_(value)

    def _memory(self) -> dict[str, Tensor]:
        return {
            f"{name}/{what}": value
            for name, leaf in self.params.items()
            for what, value in self._optimizer_of[name].state[leaf].items()
            if isinstance(value, Tensor)
        }


def _optimizers(
    params: Params, name: MetaOptimizerName, step_size: float, stacked: Mapping[str, int]
) -> Mapping[str, torch.optim.Optimizer]:
    """Return which optimiser moves each of the weights."""
    matrices = [
        leaf
        for leaf, value in params.items()
        if name == "muon" and value.dim() == 2 and min(value.shape) > 1
    ]
    rest = [leaf for leaf in params if leaf not in matrices]
    made: dict[str, torch.optim.Optimizer] = {}
    if matrices:
        muon = Muon([(params[leaf], stacked.get(leaf, 1)) for leaf in matrices], step_size)
        made |= dict.fromkeys(matrices, muon)
    if rest:
        make = OPTIMIZERS["adam" if name == "muon" else name]
        other = make([params[leaf] for leaf in rest], lr=step_size)  # type: ignore[call-arg]
        made |= dict.fromkeys(rest, other)
    return made
