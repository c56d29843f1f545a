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

Inside, layers are padded with units of weight 0 to a multiple of four: on some processors the last
bits of a product depend on the number of tasks unless its rows are a whole number of 16 bytes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.networks import Activation, mlp_layer
from metarl.types import Params

_UNITS = 4


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
    """Derivatives by every layer's z, [K, N, units]; the last is the output's cotangent, padded."""
    bends: list[Tensor]
    """For each hidden layer its error times what R{phi'(z)} is per R{a}: -2 e a for tanh, nothing
    for relu, [K, N, units]; empty unless asked for."""


def forward(params: Params, x: Tensor, num_layers: int, activation: Activation) -> Forward:
    """Apply K networks to x [K, N, in]."""
    values, padded = [x], _padded(params, num_layers)
    for layer in range(num_layers):
        weight, bias = mlp_layer(padded, layer)
        z = torch.baddbmm(bias.unsqueeze(1), values[-1], weight)
        if layer == num_layers - 1:
            return Forward(values, _cut(z, mlp_layer(params, layer)[1]))
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
    padded = _padded(params, len(values))
    deltas = [_wide(cotangent)]
    bends: list[Tensor] = []
    for layer in reversed(range(len(values))):
        _add_layer(gradient, layer, _outer(values[layer], deltas[0]), deltas[0])
        if layer:
            error = torch.bmm(deltas[0], mlp_layer(padded, layer)[0].mT)
            if twice and activation == "tanh":
                bends.insert(0, torch.mul(error, values[layer]).mul_(-2.0))
            deltas.insert(0, _slope_(activation, error, values[layer]))
    return Backward(_cut_all(gradient, params), deltas, bends)


def tangents(
    params: Params, values: list[Tensor], direction: Params, activation: Activation
) -> list[Tensor]:
    """Push a direction in weights forward: R{a_1} ... R{a_{L-1}}, R{output}."""
    moved: list[Tensor] = []
    num_layers = len(values)
    padded, padded_direction = _padded(params, num_layers), _padded(direction, num_layers)
    for layer in range(num_layers):
        weight, bias = mlp_layer(padded_direction, layer)
        z = torch.baddbmm(bias.unsqueeze(1), values[layer], weight)
        if layer:
            z.baddbmm_(moved[-1], mlp_layer(padded, layer)[0])
        if layer == num_layers - 1:
            moved.append(_cut(z, mlp_layer(params, layer)[1]))
        else:
            moved.append(_slope_(activation, z, values[layer + 1]))
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
    padded, padded_direction = _padded(params, len(values)), _padded(direction, len(values))
    delta_moved = _wide(cotangent)
    for layer in reversed(range(len(values))):
        weight_moved = _outer(values[layer], delta_moved)
        if layer:
            weight_moved = weight_moved + _outer(moved[layer - 1], back.deltas[layer])
        _add_layer(gradient, layer, weight_moved, delta_moved)
        if layer:
            error_moved = torch.bmm(delta_moved, mlp_layer(padded, layer)[0].mT)
            error_moved.baddbmm_(back.deltas[layer], mlp_layer(padded_direction, layer)[0].mT)
            delta_moved = _slope_(activation, error_moved, values[layer])
            if back.bends:  # without them phi'' is 0
                delta_moved.addcmul_(back.bends[layer - 1], moved[layer - 1])
    return _cut_all(gradient, params)


def _padded(params: Params, num_layers: int) -> Params:
    """Give every layer a multiple of four units; the weights of new ones are 0."""
    padded: Params = {}
    for layer in range(num_layers):
        weight, bias = mlp_layer(params, layer)
        rows = -weight.shape[-2] % _UNITS if layer else 0
        columns = -weight.shape[-1] % _UNITS
        if rows or columns:
            weight = torch.nn.functional.pad(weight, (0, columns, 0, rows))
            bias = _wide(bias)
        padded |= {f"layer{layer}.weight": weight, f"layer{layer}.bias": bias}
    return padded


def _wide(x: Tensor) -> Tensor:
    """Pad the last axis with zeros to a multiple of four."""
    columns = -x.shape[-1] % _UNITS
    return torch.nn.functional.pad(x, (0, columns)) if columns else x


def _cut(x: Tensor, like: Tensor) -> Tensor:
    """Leave out the padding of the last axis."""
    return x[..., : like.shape[-1]]


def _cut_all(gradient: Params, params: Params) -> Params:
    """Leave out what belongs to padding; leaves [K, in, out] and [K, out] in the given order."""
    return {
        name: leaf[(slice(None), *(slice(length) for length in params[name].shape[1:]))]
        for name, leaf in gradient.items()
    }


def _add_layer(gradient: Params, layer: int, weight: Tensor, delta: Tensor) -> None:
    gradient[f"layer{layer}.weight"] = weight
    gradient[f"layer{layer}.bias"] = delta.sum(1)


def _outer(value: Tensor, delta: Tensor) -> Tensor:
    """Sum value delta^T over samples: [K, in, out]."""
    # With the narrow factor first, the product of a last layer takes a third of the time. Rows of
    # the result are then as long as the input, and that of the first layer may be of any length.
    if delta.shape[-1] < value.shape[-1] and value.shape[-1] % _UNITS == 0:
        return torch.bmm(delta.mT, value).mT
    return torch.bmm(value.mT, delta)


def _slope_(activation: Activation, x: Tensor, value: Tensor) -> Tensor:
    """Multiply x by phi'(z) in place, in one pass, where phi(z) is ``value``."""
    if activation == "tanh":
        torch.ops.aten.tanh_backward.grad_input(x, value, grad_input=x)
    else:
        torch.ops.aten.threshold_backward.grad_input(x, value, 0.0, grad_input=x)
    return x
