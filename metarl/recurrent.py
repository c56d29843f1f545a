"""Networks with memory, as functions of their weights, which all tasks share."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from metarl import networks
from metarl.distributions import Distribution
from metarl.policies import MlpPolicy
from metarl.seeding import Streams
from metarl.types import Params

_GATES = 3  # reset, update and candidate, in this order


def init_gru(num_inputs: int, num_units: int, streams: Streams, longest_memory: int = 0) -> Params:
    """Draw the weights of a layer of gated recurrent units (Cho et al. 2014).

    Each gate's weights are Glorot uniform on the inputs and orthogonal on the memory (Saxe et al.
    2014), as in Duan et al. 2016, where biases are 0: a unit then forgets half in each step. With a
    ``longest_memory`` of L steps, the update gate's are log(u), u ~ U[1, L - 1] (Tallec and
    Ollivier 2018): units forget within u + 1 steps, some soon and most of them late.
    """
    limit = (6.0 / (num_inputs + num_units)) ** 0.5
    uniform = streams.uniform("inputs", 1, (_GATES * num_units, num_inputs))[0]
    normal = streams.normal("memory", _GATES, (num_units, num_units)).double()
    # Without the signs of the diagonal, a factor Q would not be uniform over rotations.
    q, r = torch.linalg.qr(normal)
    rotations = q * torch.sgn(torch.diagonal(r, dim1=-2, dim2=-1))[:, None, :]
    zeros = torch.zeros(_GATES * num_units, device=uniform.device)
    bias = zeros.clone()
    if longest_memory > 2:
        share = streams.uniform("time constants", 1, (num_units,))[0]
        bias[num_units : 2 * num_units] = torch.log1p(share * (longest_memory - 2.0))
    return {
        "input_weight": (2.0 * uniform - 1.0) * limit,
        "memory_weight": rotations.reshape(-1, num_units).to(uniform),
        "input_bias": bias,
        "memory_bias": zeros,
    }


def num_gru_weights(num_inputs: int, num_units: int) -> int:
    """Return how many weights such a layer has, without biases."""
    return _GATES * num_units * (num_inputs + num_units)


def _weights(params: Params) -> list[Tensor]:
    names = ("input_weight", "memory_weight", "input_bias", "memory_bias")
    return [params[name] for name in names]


def gru_step(params: Params, x: Tensor, memory: Tensor) -> Tensor:
    """Return the memory [..., H] after the input x [..., I]."""
    flat = torch.gru_cell(x.flatten(0, -2), memory.flatten(0, -2), *_weights(params))
    return flat.view(memory.shape)


def gru(params: Params, x: Tensor) -> Tensor:
    """Return the memories [N, L, H] after each of the inputs x [N, L, I], starting from 0."""
    start = x.new_zeros(1, len(x), params["memory_weight"].shape[1])
    memories, _ = torch.gru(
        x,
        start,
        _weights(params),
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=True,
        bidirectional=False,
        batch_first=True,
    )
    return memories


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep cuDNN's layers with memory to all digits of float32, forwards and backwards.

    By default they may round to TF32 on a GPU, where matrix products do not.
    """
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


class RecurrentActorCritic(NamedTuple):
    """A layer of GRUs that a policy and a value function read, each by layers of its own."""

    num_inputs: int
    num_units: int
    policy: MlpPolicy
    """Sees the memory where others see an observation."""
    longest_memory: int = 0
    """Steps, as ``init_gru`` takes them."""

    @property
    def _value_sizes(self) -> tuple[int, ...]:
        """Units of the memory, of the policy's hidden layers, which values have too, and 1."""
        return (*self.policy.layer_sizes[:-1], 1)

    @property
    def stacked(self) -> Mapping[str, int]:
        """How many matrices some of the weights hold one below the other, by name."""
        return {"gru.input_weight": _GATES, "gru.memory_weight": _GATES}

    def init(self, streams: Streams) -> Params:
        """Draw fresh weights, named ``gru.``, ``policy.`` and ``value.``"""
        parts = {
            "gru": init_gru(
                self.num_inputs, self.num_units, streams.at("gru"), self.longest_memory
            ),
            "policy": self.policy.init(streams.at("policy")),
            "value": networks.init_mlp(self._value_sizes, streams.at("value")),
        }
        return {
            f"{part}.{name}": leaf
            for part, params in parts.items()
            for name, leaf in params.items()
        }

    def step(self, params: Params, x: Tensor, memory: Tensor) -> tuple[Tensor, Distribution]:
        """Return memory [..., H] and distribution of actions after one more input x [..., I]."""
        memory = gru_step(_part(params, "gru"), x, memory)
        return memory, self.policy.distribution(_part(params, "policy"), memory)

    def unroll(self, params: Params, x: Tensor) -> tuple[Distribution, Tensor]:
        """Return distributions and values [N, L] along inputs x [N, L, I], memory starting at 0."""
        memories = gru(_part(params, "gru"), x)
        distribution = self.policy.distribution(_part(params, "policy"), memories)
        num_layers = len(self._value_sizes) - 1
        values = networks.mlp(
            _part(params, "value"), memories, num_layers, self.policy.config.activation
        )
        return distribution, values.squeeze(-1)

    def without_values(self, params: Params) -> Params:
        """Return the weights that acting needs."""
        return {name: leaf for name, leaf in params.items() if not name.startswith("value.")}

    def with_values(self, params: Params, factor: Tensor, summand: Tensor) -> Params:
        """Return weights with which values are factor times what they are, plus the summand."""
        weight, bias = (
            f"value.{name}" for name in networks.layer_names(len(self._value_sizes) - 2)
        )
        changed = {
            weight: params[weight] * factor.to(params[weight]),
            bias: params[bias] * factor.to(params[bias]) + summand.to(params[bias]),
        }
        return params | changed


def _part(params: Params, name: str) -> Params:
    """Return the weights of one part, by the names that they have there."""
    return {
        leaf.removeprefix(f"{name}."): value
        for leaf, value in params.items()
        if leaf.startswith(f"{name}.")
    }
