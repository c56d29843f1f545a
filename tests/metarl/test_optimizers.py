"""Weights as trees, and the outer optimiser's state, which is taken over whole or not at all."""

from typing import get_args

import pytest
import torch

from metarl import trees
from metarl.optimizers import MetaOptimizer, MetaOptimizerName
from metarl.types import Params

PARAMS: Params = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
GRADIENT: Params = {"w": torch.full((2, 3), 0.5), "b": torch.tensor([1.0, -1.0])}


def test_flat_and_back() -> None:
    flat = trees.flatten(PARAMS)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 1, 1]
    back = trees.unflatten(flat, PARAMS)
    assert all(torch.equal(back[name], PARAMS[name]) for name in PARAMS)


def test_stack_and_sum() -> None:
    stacked = trees.stack(PARAMS, 3)
    assert stacked["w"].shape == (3, 2, 3)
    spread = {
        name: leaf + torch.tensor([-1.0, 0.0, 1.0]).view(3, *[1] * (leaf.dim() - 1))
        for name, leaf in stacked.items()
    }
    total = trees.sum_over_tasks(spread)
    assert all(torch.equal(total[name], 3 * PARAMS[name]) for name in PARAMS)


def test_dot_beyond_one_piece() -> None:
    a = torch.ones(40_000, dtype=torch.float64)
    b = torch.arange(40_000, dtype=torch.float64)
    assert trees.dot(a, b) == 40_000 * 39_999 / 2


def test_sgd_steps_down_the_gradient() -> None:
    optimizer = MetaOptimizer(PARAMS, "sgd", 0.1)
    before = optimizer.weights()
    optimizer.step(GRADIENT)
    torch.testing.assert_close(optimizer.params["b"], torch.tensor([0.9, 1.1]))
    assert torch.equal(before["b"], PARAMS["b"]), "a copy follows later steps"


def test_first_adam_step_has_the_step_size() -> None:
    optimizer = MetaOptimizer(PARAMS, "adam", 0.01)
    optimizer.step(GRADIENT)
    torch.testing.assert_close(optimizer.params["b"], torch.tensor([0.99, 1.01]))


def test_muon_moves_a_matrix_as_far_in_rare_directions_as_in_common_ones() -> None:
    """A gradient with singular values 1 and 1/100: steps have both near 1."""
    left, _ = torch.linalg.qr(torch.tensor([[1.0, 2.0], [-3.0, 1.0]]))
    right, _ = torch.linalg.qr(torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0]]))
    optimizer = MetaOptimizer(PARAMS, "muon", 0.01)
    gradient = left @ torch.diag(torch.tensor([1.0, 0.01])) @ right.T
    optimizer.step(GRADIENT | {"w": gradient})
    moved = left.T @ (PARAMS["w"] - optimizer.params["w"]) @ right / (0.01 * 0.2 * 3**0.5)
    assert 0.65 < moved.diagonal().min() <= moved.diagonal().max() < 1.25
    assert moved.fill_diagonal_(0.0).abs().max() < 1e-3
    # What is no matrix goes by Adam.
    torch.testing.assert_close(optimizer.params["b"], torch.tensor([0.99, 1.01]))


def test_muon_leaves_single_rows_and_columns_to_adam_and_lets_nothing_decay() -> None:
    vectors = {"row": torch.ones(1, 4), "column": torch.ones(4, 1)}
    start = {"w": PARAMS["w"] + 1.0} | vectors
    optimizer = MetaOptimizer(start, "muon", 0.01)
    kept = {name.partition("/")[2] for name in optimizer.state_dict() if "row" in name}
    assert kept == {"", "exp_avg", "exp_avg_sq", "step"}
    optimizer.step({name: torch.zeros_like(leaf) for name, leaf in start.items()})
    assert all(torch.equal(optimizer.params[name], leaf) for name, leaf in start.items())
    only = MetaOptimizer({"w": PARAMS["w"]}, "muon", 0.01)
    assert set(only.state_dict()) == {"w", "w/momentum"}


def test_muon_takes_gates_for_matrices_of_their_own() -> None:
    gates = {"gates": torch.arange(12.0).reshape(6, 2)}
    whole = MetaOptimizer(gates, "muon", 0.01)
    apart = MetaOptimizer(gates, "muon", 0.01, {"gates": 3})
    for optimizer in (whole, apart):
        optimizer.step({"gates": torch.arange(12.0).reshape(6, 2).cos()})
    assert not torch.allclose(whole.params["gates"], apart.params["gates"], atol=1e-4)


@pytest.mark.parametrize("name", get_args(MetaOptimizerName))
def test_a_restored_optimiser_goes_on_bit_for_bit(name: MetaOptimizerName) -> None:
    one, other = (MetaOptimizer(PARAMS, name, 0.01) for _ in range(2))
    one.step(GRADIENT)
    before = one.weights()
    other.load_state_dict(one.state_dict(), "test")
    for optimizer in (one, other):
        optimizer.set_step_size(0.02)
        optimizer.step({leaf: value.flip(0) for leaf, value in GRADIENT.items()})
        optimizer.step({leaf: -0.3 * value for leaf, value in GRADIENT.items()})
    assert one.state_dict().keys() == other.state_dict().keys()
    for leaf, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[leaf]), leaf
    assert all(not torch.equal(one.params[leaf], before[leaf]) for leaf in PARAMS)


@pytest.mark.parametrize("name", get_args(MetaOptimizerName))
def test_the_size_of_all_steps_can_be_set(name: MetaOptimizerName) -> None:
    optimizer = MetaOptimizer(PARAMS, name, 0.01)
    optimizer.set_step_size(0.0)
    optimizer.step(GRADIENT)
    assert all(torch.equal(optimizer.params[leaf], value) for leaf, value in PARAMS.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"w/exp_avg": torch.zeros(7)}, "w/exp_avg"),
        ({"nope/exp_avg": torch.zeros(2)}, "nope/exp_avg"),
        ({"w/exp_avg": torch.zeros(2, 3).double()}, r"should be \[2, 3\] float32, got .* float64"),
        ({"b": torch.ones(2, dtype=torch.int64)}, r"'b' should be \[2\] float32, got \[2\] int64"),
        ({"b": None}, "'b'"),
        ({"b/step": None}, "'b/step'"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    change: dict[str, torch.Tensor | None], said: str
) -> None:
    optimizer = MetaOptimizer(PARAMS, "adam", 0.01)
    optimizer.step(GRADIENT)
    before = optimizer.state_dict()
    changed = before | change
    state = {name: 2 * leaf for name, leaf in changed.items() if leaf is not None}
    with pytest.raises(ValueError, match=said):
        optimizer.load_state_dict(state, "test")
    after = optimizer.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_states_of_another_optimiser_are_refused() -> None:
    sgd, adam = MetaOptimizer(PARAMS, "sgd", 0.1), MetaOptimizer(PARAMS, "adam", 0.1)
    with pytest.raises(ValueError, match="absent"):
        adam.load_state_dict(sgd.state_dict(), "test")
    with pytest.raises(ValueError, match="absent"):
        sgd.load_state_dict(adam.state_dict(), "test")
