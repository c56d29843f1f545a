"""Conjugate gradient against full matrices."""

import math

import pytest
import torch
from torch import Tensor

from metarl.trust_region import conjugate_gradient


def positive_definite(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + torch.eye(size), torch.randn(size, generator=generator).double()


def test_conjugate_gradient_solves() -> None:
    matrix, b = positive_definite(8)
    solution = conjugate_gradient(lambda v: matrix @ v, b, 30, tolerance=1e-24)
    expected = torch.linalg.solve(matrix, b)
    torch.testing.assert_close(solution.x, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(solution.curvature, expected @ matrix @ expected)


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_conjugate_gradient_cut_short_is_best_in_its_krylov_space(iterations: int) -> None:
    matrix, b = positive_definite(8)
    solution = conjugate_gradient(lambda v: matrix @ v, b, iterations)
    basis = torch.stack([torch.linalg.matrix_power(matrix, i) @ b for i in range(iterations)], 1)
    basis = torch.linalg.qr(basis).Q
    expected = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)
    torch.testing.assert_close(solution.x, expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(solution.curvature, expected @ matrix @ expected)


def test_conjugate_gradient_stops_when_it_is_there() -> None:
    calls = []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return 2.0 * v

    zero = conjugate_gradient(product, torch.zeros(3), 10)
    assert torch.equal(zero.x, torch.zeros(3))
    assert not calls
    assert conjugate_gradient(product, torch.ones(3), 10).x.tolist() == [0.5, 0.5, 0.5]
    assert len(calls) == 1


def test_vectors_with_matrices_of_their_own_are_solved_as_if_alone() -> None:
    pairs = [positive_definite(6, seed) for seed in range(3)]
    matrices, b = (torch.stack(column) for column in zip(*pairs, strict=True))
    b[1] *= 1e-3
    matrices[2] = 3.0 * torch.eye(6)  # done after one step, long before the others
    for iterations in (1, 3, 20):
        batched = conjugate_gradient(lambda v: (matrices @ v[..., None])[..., 0], b, iterations)
        assert batched.curvature.shape == (3,)
        for k, (matrix, one) in enumerate(zip(matrices, b, strict=True)):
            alone = conjugate_gradient(matrix.mv, one, iterations)
            torch.testing.assert_close(batched.x[k], alone.x, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(batched.curvature[k], alone.curvature)


def test_conjugate_gradient_keeps_what_it_has_before_a_negative_curvature() -> None:
    # The first direction is b, whose curvature is the mean of the diagonal under b's squares; the
    # last two matrices curve downwards along the first direction and along the second.
    diagonal = torch.tensor([[2.0, 3.0, 4.0], [-2.0, 0.5, 1.0], [9.0, 1.0, -4.0]]).double()
    b = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [2.0, 1.0, 1.0]]).double()
    x, curvature = conjugate_gradient(lambda v: diagonal * v, b, 10, tolerance=1e-24)
    torch.testing.assert_close(x[0], b[0] / diagonal[0])
    assert x[1].tolist() == [0.0, 0.0, 0.0]
    first = (b[2] @ b[2]) / (b[2] @ (diagonal[2] * b[2]))
    torch.testing.assert_close(x[2], first * b[2])
    torch.testing.assert_close(curvature, (x * diagonal * x).sum(-1))


def test_what_is_not_finite_is_seen_in_its_own_solution_alone() -> None:
    b = torch.tensor([[1.0, 2.0], [math.nan, 1.0]])
    x = conjugate_gradient(lambda v: 2.0 * v, b, 5).x
    assert x[0].tolist() == [0.5, 1.0]
    assert x[1].isnan().any()
