"""Policies as one acts by them, step after step: by the observation alone, or with a memory.

A recurrent policy sees what RL^2's does (Duan et al. 2016, section 2.2; Wang et al. 2016),

    x_t = (s_t, a_{t-1}, r_{t-1}, d_{t-1}):

the observation, the last action (one-hot where it is a choice), the last reward, and 1 where the
last step has ended an episode. What it knows of a trial, besides the observation, are four tensors
by name: ``memory`` [..., H], ``action`` [..., A], ``reward`` [...] and ``ended`` [...], all 0 at
the start of a trial. Among the weights that act for one task stands, as ``start.memory`` and so on,
what is known when they begin to act: weights alone say how a trial goes on.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from metarl import trees
from metarl.distributions import Distribution
from metarl.policies import MlpPolicy, PolicyConfig, build_policy
from metarl.protocols import Algorithm
from metarl.recurrent import RecurrentActorCritic, num_gru_weights
from metarl.seeding import Streams
from metarl.types import Adapted, EnvSpec, Params

START = "start."
"""Before the names of what is known when a policy begins to act."""
_KNOWN = ("memory", "action", "reward", "ended")


class Moment(NamedTuple):
    """What a policy decides on, in n copies."""

    shown: Tensor
    """[n, S]: the observation; where there is a memory, the last reward behind it."""
    episode_start: Tensor
    """[n]: 1 or True where an episode begins that is not the first."""
    carried: tuple[Tensor, ...]
    """[n, ...] each: what the last decision has left."""


class ReactivePolicy(NamedTuple):
    """Decides on the present observation alone, and carries nothing on."""

    head: MlpPolicy

    @property
    def observation_size(self) -> int:
        """O, the length of an observation."""
        return self.head.layer_sizes[0]

    @property
    def shown_size(self) -> int:
        """S, the length of what is shown at a decision."""
        return self.observation_size

    @property
    def memory_size(self) -> int:
        """H, the units of its memory."""
        return 0

    @property
    def carried_sizes(self) -> Mapping[str, int]:
        """Lengths of what a decision leaves to the next, by name."""
        return {}

    @property
    def num_weights(self) -> int:
        """Weights in its layers, without biases."""
        return _num_in_layers(self.head.layer_sizes)

    def init(self, streams: Streams) -> Params:
        """Draw fresh weights."""
        return self.head.init(streams)

    def first(self, params: Params, shown: Tensor) -> Moment:
        """Return the first decision's moment: what is shown [n, S], as it is."""
        return Moment(shown, shown.new_zeros(shown.shape[:1]), ())

    def act(
        self, params: Params, moment: Moment, noise: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return actions [n, ...], the likeliest where there is no noise; nothing is carried on."""
        return _chosen(self.head.distribution(params, moment.shown), noise), ()


class RecurrentPolicy(NamedTuple):
    """Decides by a memory of the whole trial, which no end of an episode resets."""

    network: RecurrentActorCritic

    @property
    def head(self) -> MlpPolicy:
        """From the memory to the action."""
        return self.network.policy

    @property
    def observation_size(self) -> int:
        """O, the length of an observation."""
        return self.network.num_inputs - self._action_size - 2

    @property
    def shown_size(self) -> int:
        """S, the length of what is shown at a decision: the last reward is its last entry."""
        return self.observation_size + 1

    @property
    def memory_size(self) -> int:
        """H, the units of its memory."""
        return self.network.num_units

    @property
    def carried_sizes(self) -> Mapping[str, int]:
        """Lengths of what a decision leaves to the next, by name."""
        return {"memory": self.memory_size, "last_action": self._action_size}

    @property
    def num_weights(self) -> int:
        """Weights in its layers, without biases."""
        network = self.network
        in_units = num_gru_weights(network.num_inputs, network.num_units)
        return in_units + _num_in_layers(self.head.layer_sizes)

    def init(self, streams: Streams) -> Params:
        """Draw fresh weights; the trial is at its start."""
        weights = self.network.without_values(self.network.init(streams))
        return weights | _named_as_start(self.begin((), streams.device))

    def begin(self, size: tuple[int, ...], device: str) -> Adapted:
        """Return what is known at the start of trials, leaves [..., H], [..., A] and [...]."""
        lengths = {"memory": (self.memory_size,), "action": (self._action_size,)}
        return {
            name: torch.zeros((*size, *lengths.get(name, ())), device=device) for name in _KNOWN
        }

    def going_on(self, params: Params, known: Adapted) -> Params:
        """Return weights [K, ...] that go on where the first copy of each of K tasks [K, E] is."""
        num_tasks = len(known["memory"])
        start = {name: leaf[:, 0] for name, leaf in known.items()}
        weights = self.network.without_values(params)
        return trees.stack(weights, num_tasks) | _named_as_start(start)

    def first(self, params: Params, shown: Tensor) -> Moment:
        """Return the first decision's moment, in which the reward is the one that is known."""
        rows = len(shown)
        start = {
            name: params[START + name].expand(rows, *params[START + name].shape) for name in _KNOWN
        }
        seen = torch.cat((shown[:, :-1], start["reward"][:, None]), -1)
        return Moment(seen, start["ended"], (start["memory"], start["action"]))

    def act(
        self, params: Params, moment: Moment, noise: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return actions [n, ...], the likeliest where there is no noise, and what they leave."""
        memory, last_action = moment.carried
        known = {
            "memory": memory,
            "action": last_action,
            "reward": moment.shown[:, -1],
            "ended": moment.episode_start.to(moment.shown.dtype),
        }
        memory, distribution = self.decide(params, known, moment.shown[:, :-1])
        action = _chosen(distribution, noise)
        return action, (memory, encoded(action, self._action_size))

    def decide(
        self, params: Params, known: Mapping[str, Tensor], obs: Tensor
    ) -> tuple[Tensor, Distribution]:
        """Return the memory after x_t, and the distribution of actions, at obs [..., O]."""
        x = joined(obs, known["action"], known["reward"], known["ended"])
        return self.network.step(params, x, known["memory"])

    @property
    def _action_size(self) -> int:
        return self.head.layer_sizes[-1]


ActingPolicy: TypeAlias = ReactivePolicy | RecurrentPolicy


@runtime_checkable
class ActsByPolicy(Algorithm, Protocol):
    """An agent that names the policy by which it decides between two adaptations.

    What it has adapted to may then be kept without it (``metarl.adapted_policy``).
    """

    def acting_policy(self, adapted: Adapted) -> tuple[ActingPolicy, Params]:
        """Return that policy, and the weights that act for each of K tasks [K, ...].

        Where copies of a task are trials of their own (``HasMemory``), those of the first copy.
        """
        ...


def build_acting(spec: EnvSpec, config: PolicyConfig, memory_size: int) -> ActingPolicy:
    """Return the policy that fits an environment; without a memory where its size is 0."""
    if memory_size:
        return build_recurrent(spec, config, memory_size)
    return ReactivePolicy(build_policy(spec, config))


def build_recurrent(
    spec: EnvSpec, config: PolicyConfig, memory_size: int, longest_memory: int = 0
) -> RecurrentPolicy:
    """Return a recurrent policy that fits an environment; ``config`` is of its head."""
    head = build_policy(spec._replace(observation_size=memory_size), config)
    num_inputs = spec.observation_size + spec.action_size + 2
    network = RecurrentActorCritic(num_inputs, memory_size, head, longest_memory)
    return RecurrentPolicy(network)


def encoded(action: Tensor, action_size: int) -> Tensor:
    """Return actions [..., A], one-hot where they are choices [...] int64."""
    if action.is_floating_point():
        return action
    return torch.nn.functional.one_hot(action, action_size).to(torch.float32)


def joined(obs: Tensor, action: Tensor, reward: Tensor, ended: Tensor) -> Tensor:
    """Return x_t [..., O + A + 2] of obs [..., O], last action [..., A], reward and end [...]."""
    return torch.cat((obs, action, reward[..., None], ended[..., None]), -1)


def _chosen(distribution: Distribution, noise: Tensor | None) -> Tensor:
    return distribution.mode() if noise is None else distribution.sample(noise)


def _named_as_start(known: Adapted) -> Params:
    return {START + name: leaf for name, leaf in known.items()}


def _num_in_layers(sizes: Sequence[int]) -> int:
    return sum(map(math.prod, itertools.pairwise(sizes)))
