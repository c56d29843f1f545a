"""The closed form of adaptation and its linearisation against automatic differentiation."""

import itertools
import math
from dataclasses import replace
from typing import Literal

import pytest
import torch

from metarl import mlp_adaptation, trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    STEP_SIZE,
    InnerConfig,
    Lesson,
    Rounds,
    adapt_stacked,
    begin_stacked,
)
from metarl.networks import Activation
from metarl.objectives import InnerObjective
from metarl.policies import (
    PolicyConfig,
    distribution_at,
)
from metarl.types import Params
from tests.metarl.closed_forms import (
    DOUBLE,
    INNER,
    SINGLE,
    SMALL,
    Case,
    assert_near,
    check_linearisation,
    probes,
)

OBJECTIVES: list[InnerObjective] = ["log_likelihood", "ratio"]


@pytest.mark.parametrize(
    ("discrete", "objective", "activation", "adaptations"),
    list(itertools.product([False, True], OBJECTIVES, ["tanh", "relu"], [0, 1, 2, 3])),
)
def test_the_linearisation_is_that_of_the_plain_path(
    discrete: bool, objective: InnerObjective, activation: Activation, adaptations: int
) -> None:
    config = replace(INNER, inner_objective=objective)
    policy_config = replace(SMALL, activation=activation)
    case = Case(
        discrete=discrete, adaptations=adaptations, config=config, policy_config=policy_config
    )
    check_linearisation(case)
    check_linearisation(replace(case, dtype=torch.float32), SINGLE)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("discrete", [False, True])
def test_the_linearisation_knows_the_step_sizes_and_first_order(
    discrete: bool, scale: float, first_order: bool
) -> None:
    config = InnerConfig(inner_lr=0.25, later_lr_scale=scale, first_order=first_order)
    case = Case(discrete=discrete, adaptations=3, config=config)
    check_linearisation(case)
    vector = probes(len(trees.flatten(case.params)), case.dtype)[0]
    other = replace(case, config=replace(config, first_order=not first_order))
    mine, theirs = case.closed_form().fisher(vector), other.closed_form().fisher(vector)
    assert (mine - theirs).norm() > 1e-3 * mine.norm()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("adaptations", [1, 2])
@pytest.mark.parametrize("learned", ["layers", "weights"])
@pytest.mark.parametrize("discrete", [False, True])
def test_the_linearisation_knows_step_sizes_that_are_learned(
    discrete: bool, learned: Literal["layers", "weights"], adaptations: int, first_order: bool
) -> None:
    config = InnerConfig(inner_lr=7.0, later_lr_scale=0.5, first_order=first_order)
    case = Case(discrete=discrete, adaptations=adaptations, config=config, learned=learned)
    check_linearisation(case)
    none = replace(case, learned="none", config=replace(config, inner_lr=0.2))
    assert len(trees.flatten(case.params)) > len(trees.flatten(none.params))


@pytest.mark.parametrize("learned", ["none", "layers", "weights"])
@pytest.mark.parametrize("discrete", [False, True])
def test_the_linearisation_knows_weights_that_stay(
    discrete: bool, learned: Literal["none", "layers", "weights"]
) -> None:
    body = frozenset(f"layer{i}.{part}" for i in (0, 1) for part in ("weight", "bias"))
    case = Case(discrete=discrete, adaptations=2, learned=learned, frozen=body)
    check_linearisation(case)
    start, result = case.adapted, case.adapted
    for lesson in case.lessons[:-1]:
        result = mlp_adaptation.adapt_block(case.loop, case.policy, result, lesson)
    for name, leaf in start.items():
        stays = name in body or name.startswith(STEP_SIZE)
        assert torch.equal(result[name], leaf) == stays, name


SHAPES = [(1, 1, 1), (3, 1, 1), (3, 4, 1), (3, 1, 4), (1, 2, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hidden_sizes", [(), (4,), (5, 2, 3)])
@pytest.mark.parametrize("discrete", [False, True])
def test_any_number_of_layers_and_samples(
    discrete: bool, hidden_sizes: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    policy_config = PolicyConfig(hidden_sizes=hidden_sizes, init_std=0.7)
    case = Case(discrete=discrete, adaptations=2, shape=shape, policy_config=policy_config)
    check_linearisation(case)
    check_adaptation(case)


def check_adaptation(case: Case, tolerance: float = DOUBLE) -> None:
    lesson, start = case.lessons[0], case.adapted
    before = {name: leaf.clone() for name, leaf in start.items()}
    result, expected = start, start
    for _ in range(2):
        result = mlp_adaptation.adapt_block(case.loop, case.policy, result, lesson)
        expected = adapt_stacked(case.loop, expected, lesson)
    assert result.keys() == expected.keys()
    for name, leaf in expected.items():
        step = leaf - before[name]
        assert step.norm() > 1e-3
        assert_near(result[name] - before[name], step, tolerance)
        assert torch.equal(start[name], before[name])


@pytest.mark.parametrize(
    ("discrete", "objective", "activation"),
    list(itertools.product([False, True], OBJECTIVES, ["tanh", "relu"])),
)
def test_an_adaptation_is_that_of_the_plain_path(
    discrete: bool, objective: InnerObjective, activation: Activation
) -> None:
    config = replace(INNER, inner_objective=objective)
    policy_config = replace(SMALL, activation=activation)
    case = Case(discrete=discrete, config=config, policy_config=policy_config)
    check_adaptation(case)
    check_adaptation(replace(case, dtype=torch.float32), SINGLE)


def test_tasks_that_have_adapted_unequally_often_take_steps_of_their_own_sizes() -> None:
    case = Case()
    count = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    mixed = case.adapted | {NUM_ADAPTATIONS: count}
    result = mlp_adaptation.adapt_block(case.loop, case.policy, mixed, case.lessons[0])
    expected = adapt_stacked(case.loop, mixed, case.lessons[0])
    for name, leaf in expected.items():
        assert_near(result[name], leaf, DOUBLE)
    assert result[NUM_ADAPTATIONS].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("adaptations", [0, 2])
def test_a_std_at_its_floor_does_not_move(objective: InnerObjective, adaptations: int) -> None:
    # Entry 0 of log_std lies far below the floor of 0.5, entry 1 above.
    policy_config = PolicyConfig(hidden_sizes=(4,), init_std=0.7, min_std=0.5)
    config = InnerConfig(inner_lr=0.25, inner_objective=objective)
    case = Floored(policy_config=policy_config, config=config, adaptations=adaptations)
    check_linearisation(case)
    closed = case.closed_form()
    log_std = closed.distribution[-1]
    assert (log_std[..., 0] == math.log(0.5)).all()
    assert (log_std[..., 1] > math.log(0.5)).all()
    cotangent = type(closed.distribution)(*(torch.ones_like(leaf) for leaf in closed.distribution))
    size = len(trees.flatten(case.params))
    for vector in (closed.pull(cotangent), closed.fisher(torch.ones(size).double())):
        slopes = trees.unflatten(vector, case.params)["log_std"]
        assert slopes[0] == 0.0
        assert slopes[1] != 0.0


class Floored(Case):
    """With the first entry of log_std below its floor."""

    @property
    def params(self) -> Params:
        return super().params | {"log_std": torch.tensor([-3.0, 0.2], dtype=self.dtype)}


@pytest.mark.parametrize("discrete", [False, True])
def test_steps_after_an_episodes_end_do_not_matter(discrete: bool) -> None:
    case = Case(discrete=discrete, adaptations=2, shape=(3, 3, 5))
    *lessons, last = [spoilt(lesson) for lesson in case.lessons]
    rounds = Rounds(lessons, last, case.weights)
    closed = mlp_adaptation.linearise(case.loop, case.policy, case.params, rounds)
    clean = case.plain()
    for leaf, expected in zip(closed.distribution, clean.distribution, strict=True):
        assert_near(leaf[last.mask], expected[last.mask], DOUBLE)
    cotangent = type(closed.distribution)(
        *(torch.cos(leaf) * last.mask[..., None] for leaf in clean.distribution)
    )
    assert_near(closed.pull(cotangent), clean.pull(cotangent), DOUBLE)
    vector = probes(len(trees.flatten(case.params)), case.dtype)[0]
    assert_near(closed.fisher(vector), clean.fisher(vector), DOUBLE)


def spoilt(lesson: Lesson) -> Lesson:
    """Write nonsense where the mask is off."""
    mask = lesson.mask
    off = ~mask if lesson.action.dim() == mask.dim() else ~mask[..., None]
    return lesson._replace(
        obs=torch.where(mask[..., None], lesson.obs, 30.0),
        action=torch.where(off, 0 if lesson.action.dim() == mask.dim() else 50.0, lesson.action),
        log_prob=torch.where(mask, lesson.log_prob, -1e6),
        advantage=torch.where(mask, lesson.advantage, 70.0),
    )


@pytest.mark.parametrize("discrete", [False, True])
def test_the_distribution_after_adaptation_is_that_of_the_linearisation_bit_by_bit(
    discrete: bool,
) -> None:
    case = Case(discrete=discrete, adaptations=2, shape=(3, 3, 7))
    *lessons, last = case.lessons
    adapted = begin_stacked(case.params, 3)
    for lesson in lessons:
        adapted = mlp_adaptation.adapt_block(case.loop, case.policy, adapted, lesson)
    result = distribution_at(case.policy, adapted, last.obs)
    for leaf, kept in zip(result, case.closed_form().distribution, strict=True):
        assert torch.equal(leaf, kept)
