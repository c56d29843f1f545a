"""ProMP against a plain implementation: one task after the other, by torch's own autograd."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import agents, trees
from metarl.adaptation import Lesson
from metarl.agents.maml import MamlPpoConfig
from metarl.agents.promp import Promp, PrompConfig, next_coefficient
from metarl.checks import InputError
from metarl.distributions import Categorical, DiagGaussian, Distribution
from metarl.linearisation import Term, sum_of_rises
from metarl.optimizers import MetaOptimizer
from metarl.outer_objectives import clipped_surrogate, kl_penalty
from metarl.policies import PolicyConfig
from metarl.seeding import Streams
from metarl.types import EnvSpec, Params, Trajectories
from tests.conftest import far_from_symmetric, random_round

SHAPE = (3, 2, 4)
CONFIG = PrompConfig(
    inner_lr=0.25,
    later_lr_scale=0.5,
    outer_lr=0.02,
    outer_steps=3,
    clip=0.2,
    kl_coefficient=0.7,
    policy=PolicyConfig(hidden_sizes=(4,), init_std=0.7),
)
cases = pytest.mark.parametrize(
    ("discrete", "adaptations"), list(itertools.product([False, True], [1, 2]))
)


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 3, discrete, SHAPE[2], False)


def random_rounds(discrete: bool, adaptations: int) -> list[Trajectories]:
    return [random_round(SHAPE, spec(discrete), seed) for seed in range(adaptations + 1)]


def new_agent(discrete: bool, config: PrompConfig) -> Promp:
    """An agent whose weights are in float64 and away from their symmetric start."""
    agent = Promp(spec(discrete), config, Streams(0))
    start = far_from_symmetric(agent.outer.params)
    agent.outer = MetaOptimizer(start, "adam", config.outer_lr)
    return agent


def divergence(old: Distribution, new: Distribution) -> Tensor:
    """KL(old || new) written out."""
    if isinstance(old, DiagGaussian) and isinstance(new, DiagGaussian):
        std, other = old.log_std.exp(), new.log_std.exp()
        squares = (std**2 + (old.mean - new.mean) ** 2) / (2 * other**2)
        return (torch.log(other / std) + squares - 0.5).sum(-1)
    assert isinstance(old, Categorical)
    assert isinstance(new, Categorical)
    probs, others = old.logits.softmax(-1), new.logits.softmax(-1)
    return (probs * torch.log(probs / others)).sum(-1)


class ByHand:
    """J^ProMP as a function of theta [P], one task after the other."""

    def __init__(self, agent: Promp, rounds: list[Trajectories], config: PrompConfig) -> None:
        self.policy, self.config, self.like = agent.loop.policy, config, dict(agent.outer.params)
        lessons = [agent.lesson(batch) for batch in rounds]
        self.tasks = [
            [Lesson(*(field[k] for field in lesson)) for lesson in lessons] for k in range(SHAPE[0])
        ]
        theta_o = trees.flatten(self.like)
        self.acted = [self.path(theta_o, task)[1] for task in self.tasks]

    def path(self, theta: Tensor, task: list[Lesson]) -> tuple[Distribution, list[Distribution]]:
        """Return the adapted policy at the last round, and those before it at theirs."""
        with torch.enable_grad():
            start = theta if theta.requires_grad else theta.clone().requires_grad_()
            params: Params = trees.unflatten(start, self.like)
            before, alpha = [], self.config.inner_lr
            for lesson in task[:-1]:
                new = self.policy.distribution(params, lesson.obs)
                before.append(new)
                gap = (new.log_prob(lesson.action) - lesson.log_prob)[lesson.mask]
                objective = (gap.exp() * lesson.advantage[lesson.mask]).mean()
                slopes = torch.autograd.grad(objective, list(params.values()), create_graph=True)
                params = {
                    name: leaf + alpha * slope
                    for (name, leaf), slope in zip(params.items(), slopes, strict=True)
                }
                alpha = self.config.inner_lr * self.config.later_lr_scale
            return self.policy.distribution(params, task[-1].obs), before

    def parts(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return J^CLIP, and the mean divergence of the policies before adaptation."""
        clipped, divergences = [], []
        for task, acted in zip(self.tasks, self.acted, strict=True):
            (new, before), last, mask = self.path(theta, task), task[-1], task[-1].mask
            ratio = (new.log_prob(last.action) - last.log_prob)[mask].exp()
            advantage, clip = last.advantage[mask], self.config.clip
            bounded = ratio.clamp(1 - clip, 1 + clip)
            clipped.append(torch.minimum(ratio * advantage, bounded * advantage).mean())
            for lesson, old, policy in zip(task, acted, before, strict=False):
                fixed = type(old)(*(leaf.detach() for leaf in old))
                divergences.append(divergence(fixed, policy)[lesson.mask].mean())
        return torch.stack(clipped).mean(), torch.stack(divergences).mean()

    def value(self, theta: Tensor) -> Tensor:
        clipped, divergences = self.parts(theta)
        return clipped - self.config.kl_coefficient * divergences


@cases
def test_a_meta_update_is_adam_on_the_plain_objective(discrete: bool, adaptations: int) -> None:
    agent, rounds = new_agent(discrete, CONFIG), random_rounds(discrete, adaptations)
    plain = ByHand(agent, rounds, CONFIG)
    theirs = trees.flatten(agent.outer.params).clone().requires_grad_()
    adam, values, slopes = torch.optim.Adam([theirs], lr=CONFIG.outer_lr), [], []
    for _ in range(CONFIG.outer_steps):
        value = plain.value(theirs)
        (slope,) = torch.autograd.grad(-value, theirs)
        theirs.grad = slope
        adam.step()
        values.append(float(value.detach()))
        slopes.append(slope)
    metrics = agent.meta_update(rounds)
    moved = trees.flatten(agent.outer.params)
    torch.testing.assert_close(moved, theirs.detach(), rtol=1e-8, atol=1e-10)
    assert metrics["train/surrogate"] == pytest.approx(values[0], rel=1e-9)
    after = float(plain.value(theirs).detach())
    assert metrics["train/surrogate_gain"] == pytest.approx(after - values[0], rel=1e-7)
    inner_kl = float(plain.parts(theirs)[1].detach())
    assert metrics["train/inner_kl"] == pytest.approx(inner_kl, rel=1e-7)
    assert metrics["train/inner_kl"] > 1e-3
    assert metrics["train/kl_coefficient"] == CONFIG.kl_coefficient


@cases
def test_the_gradient_away_from_the_start_is_the_finite_difference(
    discrete: bool, adaptations: int
) -> None:
    """At the start the divergence has no slope; here it has."""
    agent, rounds = new_agent(discrete, CONFIG), random_rounds(discrete, adaptations)
    plain, theta_o = ByHand(agent, rounds, CONFIG), trees.flatten(agent.outer.params)
    experience = agent.experience(rounds)
    surrogate = clipped_surrogate(experience.last, experience.weights, CONFIG.clip)
    terms = [Term(agent.policies(experience), surrogate)]
    for i in range(adaptations):
        policies = agent.policies(agent.earlier(experience, i))
        share = CONFIG.kl_coefficient / adaptations
        old = policies.distribution(theta_o)
        terms.append(Term(policies, kl_penalty(old, policies.weights, share)))
    theta = theta_o + 0.1 * torch.sin(torch.arange(len(theta_o), dtype=torch.float64))
    _, gradient = sum_of_rises(terms, theta, lambda share: share)
    width = 1e-5
    steps = width * torch.eye(len(theta), dtype=torch.float64)
    rises = [plain.value(theta + d).detach() - plain.value(theta - d).detach() for d in steps]
    torch.testing.assert_close(gradient, torch.stack(rises) / (2 * width), rtol=1e-5, atol=1e-8)
    _, surrogate_alone = sum_of_rises(terms[:1], theta, lambda share: share)
    assert (gradient - surrogate_alone).norm() > 0.05 * gradient.norm()


@pytest.mark.parametrize("adaptations", [0, 1, 2])
def test_without_the_divergence_it_is_maml_with_ppo(adaptations: int) -> None:
    rounds = random_rounds(False, adaptations)
    shared = {name: CONFIG.__dict__[name] for name in MamlPpoConfig.__dataclass_fields__}
    configs = {
        "promp": replace(CONFIG, kl_coefficient=0.0),
        "maml-ppo": MamlPpoConfig(**shared),
    }
    states = []
    for name, config in configs.items():
        agent = agents.build(name, spec(False), config, seed=1)
        single = [
            Trajectories(*(x.float() if x.is_floating_point() else x for x in batch))
            for batch in rounds
        ]
        agent.meta_update(single)
        states.append(agent.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, leaf in states[0].items():
        assert torch.equal(leaf, states[1][name]), name


def test_the_divergence_holds_the_policy_before_adaptation_back() -> None:
    rounds, reached = random_rounds(False, 1), []
    for coefficient in (0.0, 1.0, 100.0):
        config = replace(CONFIG, kl_coefficient=coefficient, outer_steps=10)
        reached.append(new_agent(False, config).meta_update(rounds)["train/inner_kl"])
    assert reached[0] > 1.1 * reached[1] > 1.1**2 * reached[2]


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [(0.0066, 0.25), (0.0067, 0.5), (0.01, 0.5), (0.0149, 0.5), (0.0151, 1.0), (math.nan, 0.5)],
)
def test_an_adaptive_coefficient_is_halved_and_doubled(divergence: float, expected: float) -> None:
    assert next_coefficient(0.5, divergence, 0.01) == expected


def test_an_adaptive_coefficient_is_used_next_time_and_saved() -> None:
    rounds = random_rounds(False, 1)
    config = replace(CONFIG, adaptive_kl=True, target_kl=1e-6)
    agent, copy = new_agent(False, config), new_agent(False, config)
    for used in (0.7, 1.4):
        assert agent.meta_update(rounds)["train/kl_coefficient"] == used
    assert float(agent.state_dict()["kl_coefficient"]) == 2.8
    copy.load_state_dict(agent.state_dict())
    assert copy.meta_update(rounds) == agent.meta_update(rounds)
    lazy = new_agent(False, replace(config, target_kl=1e6))
    lazy.meta_update(rounds)
    assert float(lazy.state_dict()["kl_coefficient"]) == 0.35


def test_a_state_without_the_coefficient_is_refused_whole() -> None:
    agent = new_agent(False, replace(CONFIG, adaptive_kl=True))
    before = agent.state_dict()
    other = new_agent(False, CONFIG)
    other.meta_update(random_rounds(False, 1))
    with pytest.raises(InputError, match=r"'kl_coefficient' should be \[\] float64, got absent"):
        agent.load_state_dict(other.state_dict())
    with pytest.raises(InputError, match=r"'kl_coefficient' should be absent"):
        other.load_state_dict(before)
    for name, leaf in agent.state_dict().items():
        assert torch.equal(leaf, before[name]), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kl_coefficient": -1.0}, "kl_coefficient must be a finite number >= 0"),
        ({"target_kl": 0.0}, "target_kl must be a finite number > 0"),
        ({"adaptive_kl": True, "kl_coefficient": 0.0}, "0 stays 0"),
        ({"inner_objective": "log_likelihood"}, "use 'ratio'"),
        ({"target_kl": 0.02}, "target_kl=0.02 has no effect with adaptive_kl=False"),
        ({"clip": 1.0}, "PrompConfig.clip"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PrompConfig(**fields)
