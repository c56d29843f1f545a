"""Reference agents: what a meta-learner must be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.acting import ActingPolicy, ReactivePolicy
from metarl.checks import InputError
from metarl.distributions import Categorical, DiagGaussian, Distribution
from metarl.policies import PolicyConfig, build_policy
from metarl.processes import ALONE, Processes
from metarl.seeding import Streams
from metarl.types import Acted, Adapted, EnvSpec, Metrics, Params, Trajectories


@dataclass(frozen=True, kw_only=True)
class RandomConfig:
    """The random policy has nothing to set."""


class RandomAgent:
    """The floor: standard normal actions or uniform choices, whatever it sees."""

    def __init__(
        self, spec: EnvSpec, _config: RandomConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        self._spec, self._device, self.processes = spec, streams.device, processes

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return nothing, for each task."""
        return {"nothing": torch.zeros(num_tasks, 0, device=self._device)}

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Act at random."""
        flat = torch.zeros(*obs.shape[:-1], self._spec.action_size, device=obs.device)
        discrete = self._spec.discrete
        distribution: Distribution = Categorical(flat) if discrete else DiagGaussian(flat, flat)
        action = distribution.sample(noise)
        return Acted(action, distribution.log_prob(action), adapted)

    def acting_policy(self, adapted: Adapted) -> tuple[ActingPolicy, Params]:
        """Return the same distribution as a policy: its weights are 0, whatever it sees."""
        policy = ReactivePolicy(build_policy(self._spec, PolicyConfig(hidden_sizes=())))
        shapes = policy.init(Streams(0, device=self._device)).items()
        num_tasks = len(adapted["nothing"])
        return policy, {name: leaf.new_zeros(num_tasks, *leaf.shape) for name, leaf in shapes}

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Learn nothing."""
        return adapted

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Learn nothing."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing: there are no weights."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Accept nothing but nothing."""
        if state:
            raise InputError([f"RandomAgent has no weights, got {sorted(state)}"])
