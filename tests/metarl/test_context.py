"""A context beside the observation: against one wider network, and the plain path."""

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch

from metarl import context, mlp_adaptation
from metarl.adaptation import InnerConfig, adapt_stacked
from metarl.context import CONTEXT, CONTEXT_WEIGHT
from metarl.networks import Activation
from metarl.objectives import InnerObjective
from metarl.policies import PolicyConfig, build_policy, distribution_at, stacked_distribution
from metarl.seeding import Streams
from metarl.types import EnvSpec, Params
from tests.conftest import far_from_symmetric
from tests.metarl.closed_forms import DOUBLE, SINGLE, Case, assert_near, check_linearisation

OBJECTIVES: list[InnerObjective] = ["log_likelihood", "ratio"]
INNER = InnerConfig(inner_lr=0.6, later_lr_scale=0.5)
CASE = Case(num_context=3, config=INNER)
NET = PolicyConfig(hidden_sizes=(5, 4), init_std=0.7)


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 4 if discrete else 2, discrete, 4, False)


def wider(params: Params) -> Params:
    """One network for [x, phi]."""
    weight = torch.cat((params["layer0.weight"], params[CONTEXT_WEIGHT]), -2)
    rest = {name: leaf for name, leaf in params.items() if not name.startswith(CONTEXT)}
    return rest | {"layer0.weight": weight}


@pytest.mark.parametrize("discrete", [False, True])
def test_the_context_is_read_beside_the_observation(discrete: bool) -> None:
    policy = build_policy(spec(discrete), NET, 3)
    theta = policy.init(Streams(0))
    assert CONTEXT not in theta
    assert theta[CONTEXT_WEIGHT].shape == (3, 5)
    stacked = {name: leaf.expand(2, *leaf.shape) for name, leaf in theta.items()}
    stacked = far_from_symmetric(stacked | {CONTEXT: torch.zeros(2, 3)})
    assert context.absorbed(stacked).keys() == theta.keys() - {CONTEXT_WEIGHT}
    obs = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    beside = torch.cat((obs, stacked[CONTEXT][:, None].expand(2, 6, 3)), -1)
    plain = build_policy(spec(discrete)._replace(observation_size=6), NET)
    expected = stacked_distribution(plain, wider(stacked), beside)
    alone = build_policy(spec(discrete), NET)
    for result in (
        stacked_distribution(policy, stacked, obs),
        distribution_at(policy, stacked, obs),
        stacked_distribution(alone, context.absorbed(stacked), obs),
    ):
        for leaf, wanted in zip(result, expected, strict=True):
            torch.testing.assert_close(leaf, wanted, rtol=1e-12, atol=1e-12)


def test_both_parts_of_the_first_layer_are_drawn_as_one() -> None:
    one = EnvSpec("test", 40, 2, False, 4, False)
    theta = build_policy(one, PolicyConfig(hidden_sizes=(100,)), 60).init(Streams(0))
    limit = math.sqrt(6 / (40 + 60 + 100))
    for name in ("layer0.weight", CONTEXT_WEIGHT):
        assert 0.99 * limit < theta[name].abs().max() <= limit
        assert theta[name].std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)
    assert not torch.equal(theta["layer0.weight"], theta[CONTEXT_WEIGHT][:40])


def test_weights_without_a_context_pass_through() -> None:
    params = build_policy(spec(False), NET).init(Streams(0))
    assert context.absorbed(params) is params
    assert context.absorbed_tangent(params, params) is params
    assert context.gradient(params, params) is params
    assert context.gradient_tangent(params, params, params, params) is params


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("discrete", [False, True])
def test_the_linearisation_is_that_of_the_plain_path(
    discrete: bool, activation: Activation, objective: InnerObjective, everything: bool
) -> None:
    case = replace(
        CASE,
        discrete=discrete,
        adaptations=2,
        policy_config=replace(NET, activation=activation),
        config=replace(INNER, inner_objective=objective),
    )
    case = replace(case, frozen=frozenset() if everything else frozenset(case.params))
    check_linearisation(case)
    check_linearisation(replace(case, dtype=torch.float32), SINGLE)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("learned", ["none", "layers", "weights"])
@pytest.mark.parametrize("adaptations", [0, 1, 3])
def test_the_linearisation_knows_other_inner_loops(
    adaptations: int, learned: Literal["none", "layers", "weights"], first_order: bool
) -> None:
    config = replace(INNER, first_order=first_order)
    check_linearisation(replace(CASE, adaptations=adaptations, learned=learned, config=config))


@pytest.mark.parametrize("hidden_sizes", [(), (4,), (5, 2, 3)])
@pytest.mark.parametrize("discrete", [False, True])
def test_any_number_of_layers(discrete: bool, hidden_sizes: tuple[int, ...]) -> None:
    case = replace(CASE, discrete=discrete, policy_config=PolicyConfig(hidden_sizes=hidden_sizes))
    check_linearisation(replace(case, adaptations=2))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("discrete", [False, True])
def test_an_adaptation_is_that_of_the_plain_path(discrete: bool, frozen: bool) -> None:
    case = replace(CASE, discrete=discrete)
    case = replace(case, frozen=frozenset(case.params) if frozen else frozenset())
    result = expected = case.adapted
    for _ in range(2):
        result = mlp_adaptation.adapt_block(case.loop, case.policy, result, case.lessons[0])
        expected = adapt_stacked(case.loop, expected, case.lessons[0])
    for name, leaf in expected.items():
        assert_near(result[name], leaf, DOUBLE)
        moves = not frozen or name in (CONTEXT, "num_adaptations")
        assert torch.equal(leaf, case.adapted[name]) != moves, name
