"""First and second derivatives of stacked multilayer perceptrons, in closed form.

For K tasks with weights of their own; every tensor leads with K and has N samples. With layers
z_l = a_{l-1} W_l + b_l and a_l = phi(z_l), a_0 = x, the last layer linear, and a scalar function of
the output whose gradient there is u:

* ``forward`` keeps a_0 ... a_{L-1} and returns the output.
* ``backward`` returns the gradient of the weights; with e_l and delta_l for the derivatives by a_l
  and z_l, e_l = delta_{l+1} W_{l+1}^T and delta_l = e_l phi'(z_l).
* ``tangents`` returns R{a_l} and R{output}: directional derivatives along a direction in weights.
* ``backward_tangent`` returns R{gradient}, which is a Hessian-vector product.

R{.} is the operator of Pearlmutter (1994, "Fast exact multiplication by the Hessian"). Automatic
differentiation computes the same; here nothing is computed twice, and each activation is read by as
few passes as possible. Weights are named as in ``metarl.networks``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.networks import Activation, mlp_layer
from metarl.types import Params


class Forward(NamedTuple):
    """What a forward pass leaves."""

    values: list[Tensor]
    """Inputs of every layer: x and the activations, [K, N, units] each."""
    output: Tensor
    """[K, N, out]."""


class Backward(NamedTuple):
    """What a backward pass leaves."""

    gradient: Params
    """Leaves [K, ...]."""
    deltas: list[Tensor]
    """Derivatives by every layer's z, [K, N, units]; the last is the cotangent of the output."""
    bends: list[Tensor]
    """For each hidden layer its error times what R{phi'(z)} is per R{a}: -2 e a for tanh, nothing
    for relu, [K, N, units]; empty unless asked for."""


def forward(params: Params, x: Tensor, num_layers: int, activation: Activation) -> Forward:
    """Apply K networks to x [K, N, in]."""
    values = [x]
    for layer in range(num_layers):
        weight, bias = mlp_layer(params, layer)
        z = torch.baddbmm(bias.unsqueeze(1), values[-1], weight)
        if layer == num_layers - 1:
            return Forward(values, z)
        values.append(z.tanh_() if activation == "tanh" else z.relu_())
    raise AssertionError("a network has at least one layer")


def backward(
    params: Params,
    values: list[Tensor],
    cotangent: Tensor,
    activation: Activation,
    *,
    twice: bool = False,
) -> Backward:
    """Pull a cotangent of the output [K, N, out] back to the weights.

    With ``twice``, also leave what ``backward_tangent`` needs.
    """
    gradient: Params = {}
    deltas = [cotangent]
    bends: list[Tensor] = []
    for layer in reversed(range(len(values))):
        _add_layer(gradient, layer, _outer(values[layer], deltas[0]), deltas[0])
        if layer:
            error = torch.bmm(deltas[0], mlp_layer(params, layer)[0].mT)
            if twice and activation == "tanh":
                bends.insert(0, torch.mul(error, values[layer]).mul_(-2.0))
            deltas.insert(0, _slope_(activation, error, values[layer]))
    return Backward(gradient, deltas, bends)


def tangents(
    params: Params, values: list[Tensor], direction: Params, activation: Activation
) -> list[Tensor]:
    """Push a direction in weights forward: R{a_1} ... R{a_{L-1}}, R{output}."""
    moved: list[Tensor] = []
    for layer in range(len(values)):
        weight, bias = mlp_layer(direction, layer)
        z = torch.baddbmm(bias.unsqueeze(1), values[layer], weight)
        if layer:
            z.baddbmm_(moved[-1], mlp_layer(params, layer)[0])
        last = layer == len(values) - 1
        moved.append(z if last else _slope_(activation, z, values[layer + 1]))
    return moved


def backward_tangent(
    params: Params,
    passes: tuple[list[Tensor], Backward, list[Tensor]],
    direction: Params,
    cotangent: Tensor,
    activation: Activation,
) -> Params:
    """Differentiate ``backward``'s gradient along a direction in weights.

    Args:
        params: leaves [K, ...].
        passes: values of ``forward``, result of ``backward`` (twice), result of ``tangents``.
        direction: leaves [K, ...].
        cotangent: R{u}, [K, N, out].
        activation: phi.
    """
    values, back, moved = passes
    gradient: Params = {}
    delta_moved = cotangent
    for layer in reversed(range(len(values))):
        weight_moved = _outer(values[layer], delta_moved)
        if layer:
            weight_moved = weight_moved + _outer(moved[layer - 1], back.deltas[layer])
        _add_layer(gradient, layer, weight_moved, delta_moved)
        if layer:
            error_moved = torch.bmm(delta_moved, mlp_layer(params, layer)[0].mT)
            error_moved.baddbmm_(back.deltas[layer], mlp_layer(direction, layer)[0].mT)
            delta_moved = _slope_(activation, error_moved, values[layer])
            if back.bends:  # without them phi'' is 0
                delta_moved.addcmul_(back.bends[layer - 1], moved[layer - 1])
    return gradient


def _add_layer(gradient: Params, layer: int, weight: Tensor, delta: Tensor) -> None:
    gradient[f"layer{layer}.weight"] = weight
    gradient[f"layer{layer}.bias"] = delta.sum(1)


def _outer(value: Tensor, delta: Tensor) -> Tensor:
    """Sum value delta^T over samples: [K, in, out]."""
    # With the narrow factor first, the product of a last layer takes a third of the time.
    if delta.shape[-1] < value.shape[-1]:
        return torch.bmm(delta.mT, value).mT
    return torch.bmm(value.mT, delta)


def _slope_(activation: Activation, x: Tensor, value: Tensor) -> Tensor:
    """Multiply x by phi'(z) in place, in one pass, where phi(z) is ``value``."""
    if activation == "tanh":
        torch.ops.aten.tanh_backward.grad_input(x, value, grad_input=x)
    else:
        torch.ops.aten.threshold_backward.grad_input(x, value, 0.0, grad_input=x)
    return x
