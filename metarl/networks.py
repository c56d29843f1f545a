"""Networks as functions of their weights."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl.seeding import Streams
from metarl.types import Params

Activation: TypeAlias = Literal["tanh", "relu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


def init_mlp(sizes: Sequence[int], streams: Streams) -> Params:
    """Draw the weights of a multilayer perceptron with layers of the given sizes.

    Weights [in, out] are Glorot uniform (Glorot and Bengio 2010, equation 16), biases 0.
    """
    params: Params = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        limit = (6.0 / (fan_in + fan_out)) ** 0.5
        uniform = streams.uniform(f"layer{layer}", 1, (fan_in, fan_out))[0]
        weight, bias = layer_names(layer)
        params[weight] = (2.0 * uniform - 1.0) * limit
        params[bias] = torch.zeros(fan_out, device=uniform.device)
    return params


def layer_names(layer: int) -> tuple[str, str]:
    """Return the names of the weight and the bias of a layer, counted from 0."""
    return f"layer{layer}.weight", f"layer{layer}.bias"


def is_layer(name: str) -> bool:
    """Tell whether a weight is one of ``init_mlp``'s."""
    return name.startswith("layer")


def mlp_layer(params: Params, layer: int) -> tuple[Tensor, Tensor]:
    """Return weight [..., in, out] and bias [..., out] of a layer, counted from 0."""
    weight, bias = layer_names(layer)
    return params[weight], params[bias]


def mlp(params: Params, x: Tensor, num_layers: int, activation: Activation) -> Tensor:
    """Apply a multilayer perceptron to x [..., in]; the last layer is linear."""
    for layer in range(num_layers):
        if layer:
            x = ACTIVATIONS[activation](x)
        weight, bias = mlp_layer(params, layer)
        x = x @ weight + bias
    return x
