"""Policies and networks as functions of their weights."""

import math
from typing import Any

import pytest
import torch

from metarl import trees
from metarl.checks import InputError
from metarl.distributions import Categorical, DiagGaussian
from metarl.networks import Activation, init_mlp, mlp
from metarl.policies import (
    PolicyConfig,
    StackedActor,
    build_policy,
    stacked_distribution,
)
from metarl.seeding import Streams
from metarl.types import EnvSpec, Params

CONTINUOUS = EnvSpec("test", 3, 2, False, 10, False)
DISCRETE = EnvSpec("test", 3, 4, True, 10, True)


def perturbed(params: Params, num_tasks: int) -> Params:
    """Weights of their own for each task."""
    scale = 1.0 + 0.1 * torch.arange(num_tasks)
    return {
        name: leaf * scale.view(-1, *[1] * (leaf.dim() - 1))
        for name, leaf in trees.stack(params, num_tasks).items()
    }


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_mlp_equals_torch_modules(activation: Activation) -> None:
    params = init_mlp((3, 5, 2), Streams(1))
    first, last = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
    for layer, module in enumerate((first, last)):
        module.weight.data = params[f"layer{layer}.weight"].T
        module.bias.data = params[f"layer{layer}.bias"] + layer
        params[f"layer{layer}.bias"] = module.bias.data
    between = torch.nn.Tanh() if activation == "tanh" else torch.nn.ReLU()
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    expected = last(between(first(x)))
    torch.testing.assert_close(mlp(params, x, 2, activation), expected)


def test_weights_are_glorot_uniform_and_biases_zero() -> None:
    params = init_mlp((200, 100), Streams(1))
    limit = math.sqrt(6 / 300)
    weight = params["layer0.weight"]
    assert weight.shape == (200, 100)
    assert weight.abs().max() <= limit
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert (params["layer0.bias"] == 0).all()


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_stacked_equals_task_by_task(spec: EnvSpec) -> None:
    policy = build_policy(spec, PolicyConfig(hidden_sizes=(6,)))
    stacked = perturbed(policy.init(Streams(2)), 4)
    obs = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    together = stacked_distribution(policy, stacked, obs)
    for task in range(4):
        alone = policy.distribution({n: leaf[task] for n, leaf in stacked.items()}, obs[task])
        for left, right in zip(together, alone, strict=True):
            torch.testing.assert_close(left[task], right)


def test_actions_and_their_log_probabilities() -> None:
    for spec, kind in ((CONTINUOUS, DiagGaussian), (DISCRETE, Categorical)):
        policy = build_policy(spec, PolicyConfig())
        stacked = trees.stack(policy.init(Streams(2)), 3)
        obs, noise = torch.ones(3, 5, 3), torch.full((3, 5), 0.7)
        noise = noise if spec.discrete else noise[..., None].expand(3, 5, 2)
        acted = StackedActor(policy).act(stacked, obs, noise)
        distribution = stacked_distribution(policy, stacked, obs)
        assert isinstance(distribution, kind)
        assert acted.log_prob.shape == (3, 5)
        torch.testing.assert_close(acted.log_prob, distribution.log_prob(acted.action))
        assert acted.action.dtype == (torch.int64 if spec.discrete else torch.float32)


def test_std_starts_where_told_and_has_a_floor() -> None:
    policy = build_policy(CONTINUOUS, PolicyConfig(init_std=0.5, min_std=0.1))
    params = policy.init(Streams(1))
    obs = torch.zeros(1, 3)
    for log_std, expected in ((params["log_std"], 0.5), (torch.full((2,), -9.0), 0.1)):
        distribution = policy.distribution(params | {"log_std": log_std}, obs)
        assert isinstance(distribution, DiagGaussian)
        torch.testing.assert_close(distribution.log_std.exp(), torch.full((1, 2), expected))


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_sizes", (0,)), ("activation", "thanh"), ("init_std", 0.0), ("min_std", 2.0)],
)
def test_bad_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"PolicyConfig.{field}"):
        PolicyConfig(**{field: value})
