"""What goes from a first value to a last one, and what a resumed schedule remembers."""

from typing import Any

import pytest
import torch

from metarl.annealing import NUM_STEPS, AnnealedOptimizer, OuterStepConfig
from metarl.checks import InputError
from metarl.optimizers import OptimizerName
from metarl.ppo import PpoConfig


def steps(optimizer: AnnealedOptimizer, number: int) -> list[float]:
    """The size of each step along a gradient of 1."""
    sizes = []
    for _ in range(number):
        before = float(optimizer.params["w"])
        optimizer.step({"w": torch.ones((), dtype=torch.float64)})
        sizes.append(before - float(optimizer.params["w"]))
    return sizes


def new(config: OuterStepConfig) -> AnnealedOptimizer:
    return AnnealedOptimizer({"w": torch.zeros((), dtype=torch.float64)}, config)


def test_the_size_goes_linearly_to_its_last_value_and_stays() -> None:
    config = OuterStepConfig(outer_lr=1.0, anneal_over=4, outer_lr_final=0.2)
    assert steps(new(config), 6) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert steps(new(OuterStepConfig(outer_lr=1.0, anneal_over=2)), 3) == [1.0, 0.5, 0.0]
    assert steps(new(OuterStepConfig(outer_lr=0.5)), 3) == [0.5] * 3


def test_a_discount_rises_from_0_between_two_updates() -> None:
    config = PpoConfig(discount=0.8, raise_discount=(2, 6))
    discounts = [config.discount_at(update) for update in range(8)]
    assert discounts == pytest.approx([0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.8])
    sudden = PpoConfig(discount=0.8, raise_discount=(3, 3))
    assert [sudden.discount_at(update) for update in (2, 3)] == [0.0, 0.8]
    assert PpoConfig(discount=0.8).discount_at(0) == 0.8


@pytest.mark.parametrize(
    ("discount", "between", "said"),
    [
        (0.9, (-1, 3), "must be two whole numbers >= 0"),
        (0.9, (0.5, 3), "must be two whole numbers >= 0"),
        (0.9, (5,), "must be two whole numbers >= 0"),
        (0.9, (4, 3), "must not end before it begins"),
        (0.0, (3, 4), "has no effect with discount=0"),
    ],
)
def test_what_cannot_rise_is_refused(discount: float, between: tuple[int, int], said: str) -> None:
    with pytest.raises(InputError, match=f"PpoConfig.raise_discount {said}"):
        PpoConfig(discount=discount, raise_discount=between)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_restored_schedule_goes_on_where_it_was(name: OptimizerName) -> None:
    config = OuterStepConfig(outer_optimizer=name, anneal_over=5)
    whole, first, second = new(config), new(config), new(config)
    assert int(whole.state_dict()[NUM_STEPS]) == 0
    sizes = steps(whole, 4)
    steps(first, 2)
    second.load_state_dict(first.state_dict(), "test")
    assert second.step_size == pytest.approx(0.06)
    assert steps(second, 2) == sizes[2:]
    assert second.state_dict() == whole.state_dict()


def test_without_a_schedule_the_state_is_that_of_the_optimiser() -> None:
    assert new(OuterStepConfig()).state_dict().keys() == {"w"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"outer_lr": 0.0}, "outer_lr must be a finite number > 0"),
        ({"anneal_over": -1}, "anneal_over must be a whole number"),
        ({"outer_lr_final": 0.1}, "outer_lr_final has no effect with anneal_over=0"),
        ({"outer_optimizer": "adamw"}, "outer_optimizer: no 'adamw'; did you mean 'adam'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"OuterStepConfig.{said}"):
        OuterStepConfig(**fields)
