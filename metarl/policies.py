"""Policies as functions of (params, obs): they describe a network and hold no weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.func import vmap

from metarl import mlp_derivatives, networks
from metarl.checks import POSITIVE, check_fields, fault_in_choice
from metarl.context import CONTEXT_WEIGHT, absorbed
from metarl.cuda_graphs import Replayed
from metarl.distributions import Categorical, DiagGaussian, Distribution
from metarl.seeding import Streams
from metarl.types import Acted, Adapted, EnvSpec, Params


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The policy network."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer."""
    activation: networks.Activation = "tanh"
    """Nonlinearity after each hidden layer."""
    init_std: float = 1.0
    """Standard deviation of a continuous action before training, the same in every state."""
    min_std: float = 1e-6
    """Floor of that standard deviation."""

    def __post_init__(self) -> None:
        sizes_are_counts = all(isinstance(n, int) and n >= 1 for n in self.hidden_sizes)
        check_fields(
            self,
            {"init_std": POSITIVE, "min_std": POSITIVE},
            fault_in_choice(self, "activation", networks.ACTIVATIONS),
            None
            if not self.min_std > self.init_std
            else f"PolicyConfig.min_std must not be above init_std {self.init_std},"
            f" got {self.min_std}",
            None
            if sizes_are_counts
            else f"PolicyConfig.hidden_sizes must be whole numbers >= 1, got {self.hidden_sizes!r}",
        )


_OBS, _NOISE = "the observation", "the noise"  # beside weights, whose names have no spaces


class Policy(Protocol):
    """A family of action distributions, indexed by weights and observations."""

    def init(self, streams: Streams) -> Params:
        """Draw fresh weights."""
        ...

    def distribution(self, params: Params, obs: Tensor) -> Distribution:
        """Return the distribution of actions at obs [..., O] for one set of weights."""
        ...


class GaussianPolicy(NamedTuple):
    """A Gaussian: its mean is a network of the observation, its std a weight of its own."""

    layer_sizes: tuple[int, ...]
    config: PolicyConfig
    num_context: int = 0
    """C: length of the context that the network reads beside the observation."""

    def init(self, streams: Streams) -> Params:
        """Draw fresh weights: the network's, and ``log_std`` [A]."""
        params = _init_network(self, streams)
        log_std = torch.full((self.layer_sizes[-1],), math.log(self.config.init_std))
        return params | {"log_std": log_std.to(streams.device)}

    def distribution(self, params: Params, obs: Tensor) -> DiagGaussian:
        """Return the Gaussian at obs [..., O], with mean and log_std [..., A]."""
        return self.head(params, _network(self, params, obs))

    def head(self, params: Params, output: Tensor) -> DiagGaussian:
        """Return the Gaussian where the network's output is [..., A]; log_std broadcasts to it."""
        log_std = params["log_std"].clamp(min=math.log(self.config.min_std))
        return DiagGaussian(output, log_std.expand_as(output))

    def push_head(self, stacked: Params, tangent: Params, output: Tensor) -> DiagGaussian:
        """Push tangents of K tasks' weights [K, ...] and output [K, E, T, A] through the head."""
        log_std = tangent["log_std"] * self._free(stacked)
        return DiagGaussian(output, log_std[:, None, None].expand_as(output))

    def pull_head(self, stacked: Params, cotangent: DiagGaussian) -> tuple[Tensor, Params]:
        """Pull a cotangent [K, E, T, A] back to the output and to the weights beside the layers."""
        log_std = cotangent.log_std.sum((1, 2)) * self._free(stacked)
        return cotangent.mean, {"log_std": log_std}

    def _free(self, stacked: Params) -> Tensor:
        """Tell which log_std are not held by their floor."""
        return stacked["log_std"] >= math.log(self.config.min_std)


class CategoricalPolicy(NamedTuple):
    """A choice among A whose logits are a network of the observation."""

    layer_sizes: tuple[int, ...]
    config: PolicyConfig
    num_context: int = 0
    """C: length of the context that the network reads beside the observation."""

    def init(self, streams: Streams) -> Params:
        """Draw fresh weights."""
        return _init_network(self, streams)

    def distribution(self, params: Params, obs: Tensor) -> Categorical:
        """Return the categorical distribution at obs [..., O], with logits [..., A]."""
        return self.head(params, _network(self, params, obs))

    def head(self, params: Params, output: Tensor) -> Categorical:
        """Return the categorical distribution where the network's output is [..., A]."""
        return Categorical(output)

    def push_head(self, _stacked: Params, _tangent: Params, output: Tensor) -> Categorical:
        """Push a tangent of K tasks' output [K, E, T, A] through the head."""
        return Categorical(output)

    def pull_head(self, _stacked: Params, cotangent: Categorical) -> tuple[Tensor, Params]:
        """Pull a cotangent [K, E, T, A] back to the output; there are no weights but the layers."""
        return cotangent.logits, {}


MlpPolicy: TypeAlias = GaussianPolicy | CategoricalPolicy
"""Policies that see observations through a multilayer perceptron alone: a network and a ``head``.

The network may read a context too (``metarl.context``), whose weights ``init`` draws, but not the
context itself. Their derivatives have a closed form (``metarl.mlp_adaptation``); other policies are
differentiated automatically.
"""


def _init_network(policy: MlpPolicy, streams: Streams) -> Params:
    """Draw a network, as one layer wider in what it reads where there is a context."""
    first, *others = policy.layer_sizes
    params = networks.init_mlp((first + policy.num_context, *others), streams)
    if policy.num_context:
        weight = params["layer0.weight"]
        params |= {"layer0.weight": weight[:first], CONTEXT_WEIGHT: weight[first:]}
    return params


def _network(policy: MlpPolicy, params: Params, obs: Tensor) -> Tensor:
    num_layers = len(policy.layer_sizes) - 1
    return networks.mlp(absorbed(params), obs, num_layers, policy.config.activation)


def build_policy(spec: EnvSpec, config: PolicyConfig, num_context: int = 0) -> MlpPolicy:
    """Return the policy that fits an environment's observations and actions."""
    sizes = (spec.observation_size, *config.hidden_sizes, spec.action_size)
    kind = CategoricalPolicy if spec.discrete else GaussianPolicy
    return kind(sizes, config, num_context)


class StackedActor:
    """Acts in K tasks with weights of their own. Owns, on a GPU, the recorded step."""

    def __init__(self, policy: Policy) -> None:
        self._step = Replayed(partial(_sample, policy))

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Turn obs [K, E, O] and noise [K, E, ...] into actions [K, E, ...]."""
        result = self._step(adapted | {_OBS: obs, _NOISE: noise})
        return Acted(result["action"], result["log_prob"], adapted)


def _sample(policy: Policy, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {name: leaf for name, leaf in inputs.items() if name not in (_OBS, _NOISE)}
    distribution = distribution_at(policy, weights, inputs[_OBS])
    action = distribution.sample(inputs[_NOISE])
    return {"action": action, "log_prob": distribution.log_prob(action)}


def distribution_at(policy: Policy, stacked: Params, obs: Tensor) -> Distribution:
    """Return the distributions of K tasks at obs [K, ..., O], without a graph.

    The same as ``stacked_distribution``, which can be differentiated, with fewer operations.
    """
    with torch.no_grad():
        if not isinstance(policy, MlpPolicy):
            return stacked_distribution(policy, stacked, obs)
        flat, num_layers = obs.flatten(1, -2), len(policy.layer_sizes) - 1
        weights, activation = absorbed(stacked), policy.config.activation
        output = mlp_derivatives.forward(weights, flat, num_layers, activation).output
        return stacked_head(policy, stacked, output.view(*obs.shape[:-1], output.shape[-1]))


def stacked_head(policy: MlpPolicy, stacked: Params, output: Tensor) -> Distribution:
    """Return the distributions of K tasks whose networks' output is [K, ..., out]."""
    between = [1] * (output.dim() - 2)
    spread = {
        name: leaf.view(len(leaf), *between, *leaf.shape[1:])
        for name, leaf in stacked.items()
        if not networks.is_layer(name)
    }
    return policy.head(spread, output)


def stacked_distribution(policy: Policy, stacked: Params, obs: Tensor) -> Distribution:
    """Return the distributions of K tasks with weights of their own at obs [K, ..., O]."""
    distribution: Distribution = vmap(policy.distribution)(stacked, obs)
    return distribution
