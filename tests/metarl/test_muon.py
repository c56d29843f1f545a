"""Muon's steps: orthogonal matrices, momentum, and matrices that are stored as one."""

import pytest
import torch
from torch import Tensor

from metarl.muon import MOMENTUM, Muon, orthogonal


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(start: Tensor, gradients: list[Tensor], stacked: int = 1) -> Tensor:
    leaf = start.clone()
    muon = Muon([(leaf, stacked)], lr=0.01)
    for gradient in gradients:
        leaf.grad = gradient
        muon.step()
    return leaf


@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (7, 4)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrices = drawn(5, *shape)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    turned = left.mT @ orthogonal(matrices) @ right.mT
    values = turned.diagonal(dim1=-2, dim2=-1)
    assert 0.65 < values.min() <= values.max() < 1.25
    assert (turned - torch.diag_embed(values)).abs().max() < 1e-3


def test_a_direction_a_hundredth_as_strong_moves_as_far() -> None:
    left, right = (torch.linalg.qr(drawn(4, 4, seed=seed))[0] for seed in (1, 2))
    strengths = torch.tensor([1.0, 0.1, 0.01, 0.0])
    turned = left.T @ orthogonal(left @ torch.diag(strengths) @ right) @ right.T
    assert (turned.diagonal()[:3] > 0.65).all()
    assert turned.diagonal()[3].abs() < 1e-3
    assert not orthogonal(torch.zeros(2, 3)).any()


def test_steps_go_down_the_momentum_in_nesterovs_form() -> None:
    start, first, second = drawn(3, 5), drawn(3, 5, seed=1), drawn(3, 5, seed=2)
    length = 0.01 * 0.2 * 5**0.5
    # Of a single gradient both terms are multiples.
    once = start - length * orthogonal(first)
    torch.testing.assert_close(moved(start, [first]), once)
    rest = 1.0 - MOMENTUM
    momentum = MOMENTUM * rest * first + rest * second
    twice = once - length * orthogonal(rest * second + MOMENTUM * momentum)
    torch.testing.assert_close(moved(start, [first, second]), twice)


def test_matrices_in_one_leaf_move_each_by_itself() -> None:
    start, gradient = drawn(6, 2), drawn(6, 2, seed=1) * torch.tensor([[1.0]] * 3 + [[1e-4]] * 3)
    apart = torch.cat(
        [
            moved(*pair)
            for pair in zip(start.chunk(2), [[g] for g in gradient.chunk(2)], strict=True)
        ]
    )
    torch.testing.assert_close(moved(start, [gradient], stacked=2), apart)
    assert not torch.allclose(moved(start, [gradient]), apart, atol=1e-4)


def test_last_bits_of_gradients_stay_last_bits() -> None:
    """As they must for runs to be alike whatever the number of processes."""
    gradients = [1e-3 * drawn(24, 8, seed=seed) for seed in range(20)]
    nearly = [x * (1.0 + 1e-7 * drawn(24, 8, seed=99)) for x in gradients]
    start = 0.1 * drawn(24, 8, seed=50)
    apart = moved(start, gradients, stacked=3) - moved(start, nearly, stacked=3)
    assert 0.0 < apart.abs().max() < 1e-6
