"""A context beside the observation: a vector phi [C] that is the same for all samples of a task.

A first layer that reads x and phi side by side is one that reads x alone with another bias,

    z_1 = [x, phi] [W_1; W_c] + b_1 = x W_1 + (b_1 + phi W_c)

so that all derivatives are those of a perceptron by its first bias, carried on to phi and to W_c
[C, units] by the chain rule. With g for the gradient of a scalar by that bias and R{.} for
derivatives along a direction in weights (``metarl.mlp_derivatives``):

    by b_1: g       by phi: g W_c^T       by W_c: phi^T g

Weights without a context pass through every function unchanged.
"""

from torch import Tensor

from metarl.types import Params

CONTEXT = "context"
"""phi, [C] or [K, C]."""
CONTEXT_WEIGHT = "context_weight"
"""W_c, [C, units] or [K, C, units]."""
_BIAS = "layer0.bias"


def absorbed(params: Params) -> Params:
    """Return the weights of the same policy without a context: the first bias takes phi in."""
    if CONTEXT not in params:
        return params
    shift = _times(params[CONTEXT], params[CONTEXT_WEIGHT])
    rest = {name: leaf for name, leaf in params.items() if name not in (CONTEXT, CONTEXT_WEIGHT)}
    return rest | {_BIAS: params[_BIAS] + shift}


def absorbed_tangent(params: Params, direction: Params) -> Params:
    """Push a direction in weights to that perceptron: R{b_1} + R{phi} W_c + phi R{W_c}."""
    if CONTEXT not in params:
        return direction
    shift = _times(direction[CONTEXT], params[CONTEXT_WEIGHT])
    shift = shift + _times(params[CONTEXT], direction[CONTEXT_WEIGHT])
    return direction | {_BIAS: direction[_BIAS] + shift}


def gradient(params: Params, of_layers: Params) -> Params:
    """Return the gradient by all weights, given that perceptron's [K, ...]."""
    if CONTEXT not in params:
        return of_layers
    bias = of_layers[_BIAS]
    own = {
        CONTEXT: _transposed(bias, params[CONTEXT_WEIGHT]),
        CONTEXT_WEIGHT: _outer(params[CONTEXT], bias),
    }
    return of_layers | own


def gradient_tangent(
    params: Params, direction: Params, of_layers: Params, of_layers_moved: Params
) -> Params:
    """Return R{gradient}, given that perceptron's gradient and R{gradient}, all [K, ...]."""
    if CONTEXT not in params:
        return of_layers_moved
    moved, bias = gradient(params, of_layers_moved), of_layers[_BIAS]
    own = {
        CONTEXT: moved[CONTEXT] + _transposed(bias, direction[CONTEXT_WEIGHT]),
        CONTEXT_WEIGHT: moved[CONTEXT_WEIGHT] + _outer(direction[CONTEXT], bias),
    }
    return moved | own


# Sums over few numbers, whose last bits must not depend on how many tasks there are.


def _times(phi: Tensor, weight: Tensor) -> Tensor:
    return (phi.unsqueeze(-1) * weight).sum(-2)


def _transposed(bias: Tensor, weight: Tensor) -> Tensor:
    return (weight * bias.unsqueeze(-2)).sum(-1)


def _outer(phi: Tensor, bias: Tensor) -> Tensor:
    return phi.unsqueeze(-1) * bias.unsqueeze(-2)
