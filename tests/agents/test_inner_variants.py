"""Meta-SGD, ANIL and CAVIA against plain autograd, task by task, and finite differences."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from metarl import trees
from metarl.adaptation import NUM_ADAPTATIONS, STEP_SIZE, Lesson, weights_of
from metarl.agents.anil import Anil, AnilConfig
from metarl.agents.cavia import Cavia, CaviaConfig
from metarl.agents.meta_sgd import MetaSgd, MetaSgdConfig, StepSizes
from metarl.checks import InputError
from metarl.context import CONTEXT, CONTEXT_WEIGHT
from metarl.distributions import Categorical, DiagGaussian, Distribution
from metarl.gradient_agent import TrustRegionAgent
from metarl.linearisation import Term, rise
from metarl.outer_objectives import ratio_surrogate
from metarl.policies import PolicyConfig
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig, trust_region_step
from metarl.types import EnvSpec, Params, Trajectories
from tests.conftest import ByAutograd, far_from_symmetric, mean_weights, random_round

SHAPE = (3, 2, 4)
NET = PolicyConfig(hidden_sizes=(4,), init_std=0.7)
REGION = TrustRegionConfig(cg_damping=0.1, cg_iterations=6)
ALPHA, LATER = 0.1, 0.5
BODY = {"layer0.weight", "layer0.bias"}
HEAD = {"layer1.weight", "layer1.bias"}


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 3 if discrete else 2, discrete, SHAPE[2], False)


class Variant(NamedTuple):
    """One agent, and its inner loop in plain words."""

    build: Callable[[bool, bool], TrustRegionAgent]
    """(discrete, first order) to the agent."""
    moves: Callable[[Params], set[str]]
    """Names of the weights that adapt, among all."""


def meta_sgd(step_sizes: StepSizes) -> Variant:
    def build(discrete: bool, first_order: bool) -> TrustRegionAgent:
        config = MetaSgdConfig(
            inner_lr=ALPHA,
            inner_lr_spread=0.5,
            later_lr_scale=LATER,
            first_order=first_order,
            step_sizes=step_sizes,
            policy=NET,
            trust_region=REGION,
        )
        return MetaSgd(spec(discrete), config, Streams(0))

    return Variant(build, lambda names: {n for n in names if not n.startswith(STEP_SIZE)})


def anil(adapt_std: bool) -> Variant:
    def build(discrete: bool, first_order: bool) -> TrustRegionAgent:
        config = AnilConfig(
            inner_lr=ALPHA,
            later_lr_scale=LATER,
            first_order=first_order,
            adapt_std=adapt_std,
            policy=NET,
            trust_region=REGION,
        )
        return Anil(spec(discrete), config, Streams(0))

    moving = HEAD | ({"log_std"} if adapt_std else set())
    return Variant(build, lambda names: moving & set(names))


def build_cavia(discrete: bool, first_order: bool) -> TrustRegionAgent:
    config = CaviaConfig(
        inner_lr=ALPHA,
        later_lr_scale=LATER,
        first_order=first_order,
        num_context=2,
        policy=NET,
        trust_region=REGION,
    )
    return Cavia(spec(discrete), config, Streams(0))


VARIANTS = {
    "meta-sgd": meta_sgd("per_weight"),
    "meta-sgd-layers": meta_sgd("per_layer"),
    "anil": anil(adapt_std=True),
    "anil-std-stays": anil(adapt_std=False),
    "cavia": Variant(build_cavia, lambda _names: {CONTEXT}),
}


def new_agent(variant: str, discrete: bool, first_order: bool = False) -> TrustRegionAgent:
    """In float64, and away from its symmetric start; step sizes stay near theirs."""
    agent = VARIANTS[variant].build(discrete, first_order)
    params = agent.outer.params
    agent.outer.params = {
        name: params[name].double() if name.startswith(STEP_SIZE) else leaf
        for name, leaf in far_from_symmetric(params).items()
    }
    return agent


def rounds_of(discrete: bool, adaptations: int) -> list[Trajectories]:
    return [random_round(SHAPE, spec(discrete), seed) for seed in range(adaptations + 1)]


class ByHand:
    """The adapted policies as a function of theta, one task at a time."""

    def __init__(self, variant: str, agent: TrustRegionAgent, rounds: list[Trajectories]) -> None:
        self.variant, self.like = VARIANTS[variant], dict(agent.outer.params)
        self.first_order = agent.loop.config.first_order
        *self.lessons, self.last = [agent.lesson(batch) for batch in rounds]
        self.weights = mean_weights(self.last.mask)

    def after(self, theta: Tensor) -> Distribution:
        parts = [self.task(trees.unflatten(theta, self.like), task) for task in range(SHAPE[0])]
        return type(parts[0])(*(torch.stack(leaves) for leaves in zip(*parts, strict=True)))

    def task(self, theta: Params, task: int) -> Distribution:
        return network(self.adapted(theta, task), self.last.obs[task])

    def adapted(self, theta: Params, task: int) -> Params:
        params = dict(theta)
        if CONTEXT_WEIGHT in theta:
            params[CONTEXT] = torch.zeros(2, dtype=torch.float64)
        for index, lesson in enumerate(self.lessons):
            params = self.step(params, Lesson(*(x[task] for x in lesson)), LATER if index else 1.0)
        return params

    def step(self, params: Params, lesson: Lesson, factor: float) -> Params:
        names = sorted(self.variant.moves(params))
        with torch.enable_grad():
            origin = trees.detach(params) if self.first_order else params
            point = {
                n: x if x.requires_grad else x.clone().requires_grad_() for n, x in origin.items()
            }
            log_prob = network(point, lesson.obs).log_prob(lesson.action)
            loss = -(log_prob * lesson.advantage)[lesson.mask].mean()
            slopes = torch.autograd.grad(
                loss, [point[n] for n in names], create_graph=not self.first_order
            )
        alpha = {n: params.get(STEP_SIZE + n, ALPHA) for n in names}
        moved = {
            n: params[n] - factor * alpha[n] * slope for n, slope in zip(names, slopes, strict=True)
        }
        return params | moved

    def surrogate(self, theta: Tensor) -> Tensor:
        log_prob = self.after(theta).log_prob(self.last.action)
        gains = torch.exp(log_prob - self.last.log_prob) * self.last.advantage
        return torch.stack([gains[k][self.last.mask[k]].mean() for k in range(SHAPE[0])]).mean()


def network(params: Params, obs: Tensor) -> Distribution:
    """tanh(x W_0 + phi W_c + b_0) W_1 + b_1."""
    hidden = obs @ params["layer0.weight"] + params["layer0.bias"]
    if CONTEXT in params:
        hidden = hidden + params[CONTEXT] @ params[CONTEXT_WEIGHT]
    output = torch.tanh(hidden) @ params["layer1.weight"] + params["layer1.bias"]
    if "log_std" in params:
        return DiagGaussian(output, params["log_std"].expand_as(output))
    return Categorical(log_softmax(output, -1))


every_variant = pytest.mark.parametrize("variant", VARIANTS)
both = pytest.mark.parametrize("discrete", [False, True])
steps = pytest.mark.parametrize("adaptations", [1, 2])


@every_variant
@both
def test_an_adaptation_is_the_step_done_by_hand(variant: str, discrete: bool) -> None:
    agent, rounds = new_agent(variant, discrete), rounds_of(discrete, 2)
    by_hand, known = ByHand(variant, agent, rounds), agent.begin(SHAPE[0], SHAPE[1])
    start = weights_of(known)
    for batch in rounds[:-1]:
        known = agent.adapt(known, batch)
    moving = VARIANTS[variant].moves(start)
    for task in range(SHAPE[0]):
        expected = by_hand.adapted(agent.outer.weights(), task)
        assert {*expected, NUM_ADAPTATIONS} == set(known)
        for name, leaf in expected.items():
            torch.testing.assert_close(known[name][task], leaf.detach(), rtol=1e-9, atol=1e-11)
    for name, leaf in start.items():
        assert torch.equal(known[name], leaf) == (name not in moving), name


@every_variant
@both
@steps
def test_the_meta_gradient_is_the_finite_difference(
    variant: str, discrete: bool, adaptations: int
) -> None:
    agent, rounds = new_agent(variant, discrete), rounds_of(discrete, adaptations)
    experience, by_hand = agent.experience(rounds), ByHand(variant, agent, rounds)
    surrogate = ratio_surrogate(experience.last, experience.weights)
    theta = trees.flatten(agent.outer.params)
    value, gradient, _ = rise(Term(agent.policies(experience), surrogate), theta)
    width = 1e-5
    directions = width * torch.eye(len(theta), dtype=torch.float64)
    ends = [(by_hand.surrogate(theta + d), by_hand.surrogate(theta - d)) for d in directions]
    expected = torch.stack([(high - low).detach() / (2 * width) for high, low in ends])
    torch.testing.assert_close(value, by_hand.surrogate(theta).detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
    for name, slopes in trees.unflatten(expected, agent.outer.params).items():
        assert slopes.norm() > 1e-4, f"{name} would not learn"


@pytest.mark.parametrize("first_order", [False, True])
@every_variant
@both
@steps
def test_a_meta_update_is_the_step_of_the_policies_done_by_hand(
    variant: str, discrete: bool, adaptations: int, first_order: bool
) -> None:
    agent = new_agent(variant, discrete, first_order)
    rounds = rounds_of(discrete, adaptations)
    by_hand, experience = ByHand(variant, agent, rounds), agent.experience(rounds)
    term = Term(
        ByAutograd(by_hand.after, by_hand.weights),
        ratio_surrogate(experience.last, by_hand.weights),
    )
    expected, said = trust_region_step(trees.flatten(agent.outer.params), [term], REGION)
    metrics = agent.meta_update(rounds)
    # Without its second-order part a gradient need not point uphill.
    assert first_order or metrics["train/accepted"] == 1.0
    assert metrics == pytest.approx(said, rel=1e-6, abs=1e-9)
    moved = trees.flatten(agent.outer.params)
    torch.testing.assert_close(moved, expected, rtol=1e-7, atol=1e-9)


@both
def test_the_first_step_of_a_context_is_its_gradient_at_zero(discrete: bool) -> None:
    agent, (batch,) = new_agent("cavia", discrete), rounds_of(discrete, 0)
    known = agent.begin(SHAPE[0], SHAPE[1])
    assert known[CONTEXT].dtype == torch.float64
    assert (known[CONTEXT] == 0).all()
    phi = agent.adapt(known, batch)[CONTEXT]
    assert (phi.abs() > 1e-4).all()
    assert CONTEXT not in agent.state_dict()


def test_alpha_starts_where_told() -> None:
    one = EnvSpec("test", 50, 2, False, 4, False)
    policy = PolicyConfig(hidden_sizes=(100,))

    def alpha(config: MetaSgdConfig) -> Params:
        state = MetaSgd(one, config, Streams(0)).state_dict()
        return {name: leaf for name, leaf in state.items() if name.startswith(STEP_SIZE)}

    same = alpha(MetaSgdConfig(inner_lr=0.2, policy=policy))
    assert same[STEP_SIZE + "layer0.weight"].shape == (50, 100)
    assert all((leaf == 0.2).all() for leaf in same.values())
    layers = alpha(MetaSgdConfig(inner_lr=0.2, step_sizes="per_layer", policy=policy))
    assert same.keys() == layers.keys()
    assert all(leaf.shape == () and float(leaf) == pytest.approx(0.2) for leaf in layers.values())
    # The paper's range, 0.005 to 0.1.
    drawn = alpha(MetaSgdConfig(inner_lr=0.0525, inner_lr_spread=0.0475 / 0.0525, policy=policy))
    leaf = drawn[STEP_SIZE + "layer0.weight"]
    assert 0.005 <= leaf.min() < 0.0052
    assert 0.0998 < leaf.max() <= 0.1
    assert leaf.mean().item() == pytest.approx(0.0525, rel=0.01)
    assert leaf.std().item() == pytest.approx(0.095 / math.sqrt(12), rel=0.02)


def test_bad_values_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"MetaSgdConfig.step_sizes: no 'per_layers'; did you"):
        MetaSgdConfig(step_sizes="per_layers")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"MetaSgdConfig.inner_lr_spread must be"):
        MetaSgdConfig(inner_lr_spread=1.5)
    with pytest.raises(InputError, match=r"AnilConfig.policy.hidden_sizes must not be empty"):
        AnilConfig(policy=PolicyConfig(hidden_sizes=()))
    with pytest.raises(InputError, match=r"CaviaConfig.num_context must be"):
        CaviaConfig(num_context=0)
    with pytest.raises(InputError, match=r"CaviaConfig.inner_lr must be a finite number > 0"):
        CaviaConfig(inner_lr=0.0)
