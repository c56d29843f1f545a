"""Conjugate gradient against full matrices."""

import pytest
import torch
from torch import Tensor

from metarl.trust_region import conjugate_gradient


def positive_definite(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
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
