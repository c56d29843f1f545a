"""Closed-form derivatives of stacked perceptrons against torch.func, and by finite differences."""

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from metarl import mlp_derivatives
from metarl.mlp_derivatives import Backward
from metarl.networks import Activation, mlp
from metarl.parallel import one_torch_thread
from metarl.types import Params

TASKS, SAMPLES = 3, 5
SIZES = [(2, 3), (1, 1), (2, 7, 3), (4, 3, 6, 2), (3, 5, 2, 6, 1)]

networks = pytest.mark.parametrize(
    ("sizes", "activation"), list(itertools.product(SIZES, ["tanh", "relu"]))
)


class Case(NamedTuple):
    """Networks of K tasks, their inputs, and a function of the output that bends."""

    sizes: tuple[int, ...]
    activation: Activation
    params: Params
    direction: Params
    x: Tensor

    @property
    def num_layers(self) -> int:
        return len(self.sizes) - 1

    def output(self, params: Params) -> Tensor:
        """Outputs [K, N, out] by ``networks.mlp``."""
        outputs: Tensor = vmap(lambda p, x: mlp(p, x, self.num_layers, self.activation))(
            params, self.x
        )
        return outputs

    def scalar(self, output: Tensor) -> Tensor:
        """Weight every task, sample and entry in its own way."""
        scale = torch.arange(1, output.numel() + 1, dtype=output.dtype).view(output.shape)
        return (torch.sin(output) * scale + 0.3 * output**3).sum() / output.numel()

    def gradient(self, params: Params) -> Params:
        """Gradient of the scalar by the weights, automatically."""
        slopes: Params = grad(lambda p: self.scalar(self.output(p)))(params)
        return slopes


def case(sizes: tuple[int, ...], activation: Activation, tasks: int = TASKS) -> Case:
    generator = torch.Generator().manual_seed(11)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def weights() -> Params:
        leaves: Params = {}
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            leaves[f"layer{layer}.weight"] = randn(tasks, fan_in, fan_out)
            leaves[f"layer{layer}.bias"] = randn(tasks, fan_out)
        return leaves

    return Case(sizes, activation, weights(), weights(), randn(tasks, SAMPLES, sizes[0]))


def passes(one: Case, *, twice: bool = False) -> tuple[list[Tensor], Tensor, Backward]:
    values, output = mlp_derivatives.forward(one.params, one.x, one.num_layers, one.activation)
    cotangent = grad(one.scalar)(output)
    back = mlp_derivatives.backward(one.params, values, cotangent, one.activation, twice=twice)
    return values, output, back


def by_tangents(one: Case) -> Params:
    """Differentiate the gradient along the direction, in closed form."""
    values, output, back = passes(one, twice=True)
    moved = mlp_derivatives.tangents(one.params, values, one.direction, one.activation)
    bent = jvp(grad(one.scalar), (output,), (moved[-1],))[1]
    return mlp_derivatives.backward_tangent(
        one.params, (values, back, moved), one.direction, bent, one.activation
    )


def assert_same(result: Params, expected: Params, tolerance: float = 1e-11) -> None:
    assert result.keys() == expected.keys()
    for name, leaf in expected.items():
        assert result[name].shape == leaf.shape
        torch.testing.assert_close(result[name], leaf, rtol=tolerance, atol=tolerance)


@networks
def test_forward_is_the_network_and_keeps_every_layers_input(
    sizes: tuple[int, ...], activation: Activation
) -> None:
    one = case(sizes, activation)
    values, output, _ = passes(one)
    torch.testing.assert_close(output, one.output(one.params), rtol=1e-12, atol=1e-12)
    assert [value.shape[-1] for value in values[1:]] == [-(-size // 4) * 4 for size in sizes[1:-1]]
    assert values[0] is one.x
    values = [value[..., :size] for value, size in zip(values, sizes[:-1], strict=True)]
    for layer in range(one.num_layers - 1):
        z = values[layer] @ one.params[f"layer{layer}.weight"]
        z = z + one.params[f"layer{layer}.bias"][:, None]
        expected = z.tanh() if activation == "tanh" else z.clamp(min=0.0)
        torch.testing.assert_close(values[layer + 1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "sizes", [(17, 64, 6), (17, 8, 8, 6), (2, 7, 3), (5, 33, 50, 1), (20, 100, 10)]
)
def test_the_last_bit_does_not_depend_on_how_tasks_are_split(
    sizes: tuple[int, ...], dtype: torch.dtype
) -> None:
    """BLAS chooses its way by alignment and by the number of matrices, on some processors only."""
    whole = case(sizes, "tanh", tasks=6)

    def results(rows: slice) -> Params:
        # Clones, as a share of the tasks lies in memory of its own.
        params, direction = (
            {name: leaf[rows].to(dtype).clone() for name, leaf in tree.items()}
            for tree in (whole.params, whole.direction)
        )
        x = whole.x[rows].to(dtype).repeat(1, 10, 1)
        values, output = mlp_derivatives.forward(params, x, whole.num_layers, "tanh")
        back = mlp_derivatives.backward(params, values, output.sin(), "tanh", twice=True)
        moved = mlp_derivatives.tangents(params, values, direction, "tanh")
        curved = mlp_derivatives.backward_tangent(
            params, (values, back, moved), direction, moved[-1], "tanh"
        )
        # A gradient lies in memory in its own way, and is the next direction of a chain.
        again = mlp_derivatives.tangents(params, values, back.gradient, "tanh")[-1]
        return {"output": output, "again": again, **back.gradient} | {
            f"2 {n}": leaf for n, leaf in curved.items()
        }

    with one_torch_thread():
        together = results(slice(6))
        split = {
            size: [results(slice(first, first + size)) for first in range(0, 6, size)]
            for size in (1, 2, 3)
        }
    for size, parts in split.items():
        for name, leaf in together.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), leaf), (name, size)


@pytest.mark.parametrize("twice", [False, True])
@networks
def test_backward_is_the_gradient(
    sizes: tuple[int, ...], activation: Activation, twice: bool
) -> None:
    one = case(sizes, activation)
    assert_same(passes(one, twice=twice)[2].gradient, one.gradient(one.params))


@networks
def test_tangents_are_directional_derivatives(
    sizes: tuple[int, ...], activation: Activation
) -> None:
    one = case(sizes, activation)
    values = passes(one)[0]
    moved = mlp_derivatives.tangents(one.params, values, one.direction, one.activation)
    assert len(moved) == one.num_layers
    expected = jvp(one.output, (one.params,), (one.direction,))[1]
    torch.testing.assert_close(moved[-1], expected, rtol=1e-11, atol=1e-11)


@networks
def test_backward_tangent_is_the_directional_derivative_of_the_gradient(
    sizes: tuple[int, ...], activation: Activation
) -> None:
    one = case(sizes, activation)
    expected = jvp(one.gradient, (one.params,), (one.direction,))[1]
    assert_same(by_tangents(one), expected)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_both_derivatives_are_finite_differences(activation: Activation) -> None:
    one = case((4, 3, 6, 2), activation)
    width = 1e-6

    def moved_by(step: float) -> Case:
        params = {name: leaf + step * one.direction[name] for name, leaf in one.params.items()}
        return one._replace(params=params)

    ahead, behind = (passes(moved_by(step)) for step in (width, -width))
    second = {
        name: (leaf - behind[2].gradient[name]) / (2 * width)
        for name, leaf in ahead[2].gradient.items()
    }
    assert_same(by_tangents(one), second, 1e-6)
    rise = (one.scalar(ahead[1]) - one.scalar(behind[1])) / (2 * width)
    gradient = passes(one)[2].gradient
    slope = sum((leaf * one.direction[name]).sum() for name, leaf in gradient.items())
    torch.testing.assert_close(torch.as_tensor(slope), rise, rtol=1e-7, atol=1e-7)


@networks
def test_the_hessian_is_symmetric(sizes: tuple[int, ...], activation: Activation) -> None:
    one = case(sizes, activation)
    other = one._replace(
        direction={name: torch.cos(3.0 * leaf) for name, leaf in one.direction.items()}
    )
    there, back = by_tangents(one), by_tangents(other)
    for task in range(TASKS):
        first = sum((there[n][task] * other.direction[n][task]).sum() for n in there)
        second = sum((back[n][task] * one.direction[n][task]).sum() for n in back)
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


@networks
def test_every_task_has_derivatives_of_its_own(
    sizes: tuple[int, ...], activation: Activation
) -> None:
    one, task = case(sizes, activation), 1
    rows = slice(task, task + 1)

    def products(params: Params, x: Tensor, cotangent: Tensor, along: Params) -> list[Tensor]:
        values, _ = mlp_derivatives.forward(params, x, one.num_layers, activation)
        back = mlp_derivatives.backward(params, values, cotangent, activation, twice=True)
        moved = mlp_derivatives.tangents(params, values, along, activation)
        second = mlp_derivatives.backward_tangent(
            params, (values, back, moved), along, moved[-1], activation
        )
        return [*back.gradient.values(), *moved, *second.values()]

    cotangent = torch.cos(one.output(one.params))
    together = products(one.params, one.x, cotangent, one.direction)
    mine, along = (
        {name: leaf[rows] for name, leaf in leaves.items()}
        for leaves in (one.params, one.direction)
    )
    alone = products(mine, one.x[rows], cotangent[rows], along)
    for leaf, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(leaf[rows], expected, rtol=1e-12, atol=1e-12)


@networks
def test_nothing_that_goes_in_is_altered(sizes: tuple[int, ...], activation: Activation) -> None:
    one = case(sizes, activation)
    values, output, back = passes(one, twice=True)
    cotangent = torch.cos(output)
    moved = mlp_derivatives.tangents(one.params, values, one.direction, activation)
    inputs = [*one.params.values(), *one.direction.values(), one.x, *values, cotangent]
    inputs += [*back.deltas, *back.bends, *moved]
    before = [leaf.clone() for leaf in inputs]
    mlp_derivatives.forward(one.params, one.x, one.num_layers, activation)
    mlp_derivatives.backward(one.params, values, cotangent, activation, twice=True)
    mlp_derivatives.tangents(one.params, values, one.direction, activation)
    mlp_derivatives.backward_tangent(
        one.params, (values, back, moved), one.direction, cotangent, activation
    )
    for leaf, old in zip(inputs, before, strict=True):
        assert torch.equal(leaf, old)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_weights_that_all_tasks_share_may_be_views_of_one(activation: Activation) -> None:
    one = case((2, 7, 3), activation)
    shared, along = (
        {name: leaf[:1].expand(leaf.shape) for name, leaf in leaves.items()}
        for leaves in (one.params, one.direction)
    )
    views = one._replace(params=shared, direction=along)
    expected = jvp(views.gradient, (shared,), (along,))[1]
    assert_same(by_tangents(views), expected)


def test_units_at_rest_have_no_slope() -> None:
    # relu'(0) is 0, as torch has it.
    one = case((2, 4, 3), "relu")
    still = one._replace(params={name: 0.0 * leaf for name, leaf in one.params.items()})
    assert_same(passes(still)[2].gradient, still.gradient(still.params))
    assert_same(by_tangents(still), jvp(still.gradient, (still.params,), (one.direction,))[1])
