"""Meta-gradients against finite differences, enumerated expectations and steps done by hand."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian

from metarl import trees
from metarl.adaptation import NUM_ADAPTATIONS, InnerLoop, adapt_stacked, begin_stacked
from metarl.agents.maml import MamlTrpo, MamlTrpoConfig
from metarl.agents.reptile import Reptile, ReptileConfig
from metarl.distributions import Distribution
from metarl.objectives import InnerObjective
from metarl.policies import PolicyConfig, stacked_distribution
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig
from metarl.types import EnvSpec, Params, Trajectories

TASKS, EPISODES, HORIZON = 3, 2, 4
LENGTHS = torch.tensor([[4, 2], [3, 3], [1, 4]])
NAMES: list[InnerObjective] = ["log_likelihood", "ratio", "dice"]
ALPHA, SMALL = 0.125, PolicyConfig(hidden_sizes=(3,))

settings = pytest.mark.parametrize(
    ("discrete", "objective", "steps"), list(itertools.product([False, True], NAMES, [1, 2]))
)


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 2, 3 if discrete else 2, discrete, HORIZON, False)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rounds_of(discrete: bool, adaptations: int, seed: int = 0) -> list[Trajectories]:
    return [round_of(discrete, seed + 10 * i) for i in range(adaptations + 1)]


def round_of(discrete: bool, seed: int) -> Trajectories:
    shape = (TASKS, EPISODES, HORIZON)
    mask = torch.arange(HORIZON) < LENGTHS.roll(seed, 0)[..., None]
    generator = torch.Generator().manual_seed(seed)
    choice = torch.randint(3, shape, generator=generator)
    return Trajectories(
        task_id=torch.full((TASKS,), -1),
        obs=random(TASKS, EPISODES, HORIZON + 1, 2, seed=seed + 1),
        action=choice if discrete else random(*shape, 2, seed=seed + 2),
        log_prob=-1.5 + 0.3 * random(*shape, seed=seed + 3),
        reward=random(*shape, seed=seed + 4) * mask,
        terminated=torch.zeros_like(mask),
        mask=mask,
        faulty=torch.zeros(TASKS, EPISODES, dtype=torch.bool),
        success=torch.full((TASKS, EPISODES), -1, dtype=torch.int8),
    )


def maml(discrete: bool, objective: InnerObjective) -> MamlTrpo:
    """An agent whose weights are in float64 and away from their symmetric start."""
    config = MamlTrpoConfig(
        inner_lr=ALPHA,
        inner_objective=objective,
        policy=SMALL,
        trust_region=TrustRegionConfig(cg_damping=0.1, cg_iterations=60),
    )
    agent = MamlTrpo(spec(discrete), config, Streams(0))
    agent.outer.params = {
        name: leaf.double() + 0.2 * random(*leaf.shape, seed=i)
        for i, (name, leaf) in enumerate(agent.outer.params.items())
    }
    return agent


class Outer:
    """The outer surrogate of MAML and its KL as functions of theta, from ``adapt_stacked`` on."""

    def __init__(self, agent: MamlTrpo, rounds: list[Trajectories]) -> None:
        assert isinstance(agent.loop, InnerLoop)
        self.loop, self.like = agent.loop, dict(agent.outer.params)
        *self.lessons, self.last = [agent.lesson(batch) for batch in rounds]

    def after(self, theta: Tensor) -> Distribution:
        adapted = begin_stacked(trees.unflatten(theta, self.like), TASKS)
        for lesson in self.lessons:
            adapted = adapt_stacked(self.loop, adapted, lesson)
        return stacked_distribution(self.loop.policy, adapted, self.last.obs)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over tasks of the mean over a task's steps under the mask."""
        return torch.stack([x[k][self.last.mask[k]].mean() for k in range(TASKS)]).mean()

    def surrogate(self, theta: Tensor) -> Tensor:
        log_prob = self.after(theta).log_prob(self.last.action)
        return self.mean(torch.exp(log_prob - self.last.log_prob) * self.last.advantage)

    def kl(self, old: Distribution, theta: Tensor) -> Tensor:
        return self.mean(old.kl(self.after(theta)))  # type: ignore[arg-type]

    def finite_differences(self, theta: Tensor) -> Tensor:
        width = 1e-5
        directions = width * torch.eye(len(theta), dtype=torch.float64)
        with torch.no_grad():
            rises = [self.surrogate(theta + d) - self.surrogate(theta - d) for d in directions]
        return torch.stack(rises) / (2 * width)


@settings
def test_meta_gradient_is_the_finite_difference(
    discrete: bool, objective: InnerObjective, steps: int
) -> None:
    agent = maml(discrete, objective)
    outer = Outer(agent, rounds_of(discrete, steps))
    theta = trees.flatten(agent.outer.params).requires_grad_()
    (gradient,) = torch.autograd.grad(outer.surrogate(theta), theta)
    expected = outer.finite_differences(theta.detach())
    assert expected.norm() > 1e-2
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(grad(outer.surrogate)(theta.detach()), gradient.detach())


@settings
def test_meta_update_is_the_trust_region_step_of_that_gradient(
    discrete: bool, objective: InnerObjective, steps: int
) -> None:
    agent = maml(discrete, objective)
    rounds = rounds_of(discrete, steps)
    outer, theta = Outer(agent, rounds), trees.flatten(agent.outer.params)
    gradient, before = outer.finite_differences(theta), float(outer.surrogate(theta))
    old = outer.after(theta)
    metrics = agent.meta_update(rounds)
    moved = trees.flatten(agent.outer.params)

    assert metrics["train/surrogate"] == pytest.approx(before, rel=1e-6, abs=1e-8)
    assert metrics["train/gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-6)
    assert metrics["train/accepted"] == 1.0
    gain, kl = float(outer.surrogate(moved)) - before, float(outer.kl(old, moved))
    assert gain > 0.0
    assert kl <= 0.01 * (1 + 1e-6)
    assert metrics["train/surrogate_gain"] == pytest.approx(gain, rel=1e-5, abs=1e-7)
    assert metrics["train/approx_kl"] == pytest.approx(kl, rel=1e-5)

    matrix = hessian(lambda x: outer.kl(old, x))(theta) + 0.1 * torch.eye(len(theta))
    direction = torch.linalg.solve(matrix, gradient)
    step = math.sqrt(2 * 0.01 / float(direction @ gradient)) * direction
    step *= 0.8 ** metrics["train/backtracks"]
    assert (moved - theta - step).norm() < 1e-4 * step.norm()


# --- Whole outer steps ---

PAYOFFS = torch.tensor([[0.0, 1.0], [0.2, 0.5], [-1.0, 0.7]])
"""[K, arms]: the second arm is the better one in every task."""


def pulls(agent: MamlTrpo, count: int, adaptations: int) -> list[Trajectories]:
    """Rounds of one pull of every copy, with evenly spread noise."""
    noise = ((torch.arange(count) + 0.5) / count).expand(3, count)
    obs = torch.ones(3, count, 2, 1)
    adapted, rounds = agent.begin(3, count), []
    for _ in range(adaptations + 1):
        acted = agent.act(adapted, obs[:, :, 0], noise)
        reward = PAYOFFS.gather(1, acted.action)[..., None]
        yes = torch.ones_like(reward, dtype=torch.bool)
        rounds.append(
            Trajectories(
                task_id=torch.full((3,), -1),
                obs=obs,
                action=acted.action[..., None],
                log_prob=acted.log_prob[..., None],
                reward=reward,
                terminated=yes,
                mask=yes,
                faulty=~yes[..., 0],
                success=torch.full_like(yes[..., 0], -1, dtype=torch.int8),
            )
        )
        adapted = agent.adapt(adapted, rounds[-1])
    return rounds


def adapted_return(agent: MamlTrpo, adaptations: int) -> float:
    """Exact expected payoff after adaptation, averaged over tasks."""
    adapted = agent.begin(3, 400)
    for batch in pulls(agent, 400, adaptations)[:-1]:
        adapted = agent.adapt(adapted, batch)
    logits = adapted["layer0.weight"][:, 0] + adapted["layer0.bias"]
    return float((logits.softmax(-1) * PAYOFFS).sum(-1).mean())


BANDIT = EnvSpec("bandit", 1, 2, True, 1, True)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("objective", NAMES)
def test_a_meta_update_raises_the_adapted_return(objective: InnerObjective, steps: int) -> None:
    config = MamlTrpoConfig(inner_objective=objective, policy=PolicyConfig(hidden_sizes=()))
    agent = MamlTrpo(BANDIT, config, Streams(3))
    before = adapted_return(agent, steps)
    metrics = agent.meta_update(pulls(agent, 400, steps))
    assert metrics["train/accepted"] == 1.0
    assert adapted_return(agent, steps) > before + 0.01


def single_precision(batch: Trajectories) -> Trajectories:
    return Trajectories(*(x.float() if x.is_floating_point() else x for x in batch))


def adapted_mean(agent: Reptile, rounds: list[Trajectories]) -> Params:
    """Mean over tasks of U(phi), one task at a time."""
    finals = []
    for task in range(TASKS):
        adapted = agent.begin(1, EPISODES)
        for batch in rounds:
            alone = Trajectories(*(field[task : task + 1] for field in batch))
            adapted = agent.adapt(adapted, alone)
        finals.append(adapted)
    return {
        name: torch.cat([final[name] for final in finals]).mean(0)
        for name in finals[0].keys() - {NUM_ADAPTATIONS}
    }


def weights_of(agent: Reptile) -> Params:
    stacked = agent.begin(1, 1)
    return {name: leaf[0].clone() for name, leaf in stacked.items() if name != NUM_ADAPTATIONS}


@pytest.mark.parametrize("adaptations", [0, 1, 2])
@pytest.mark.parametrize("discrete", [False, True])
def test_reptile_moves_towards_the_mean_of_the_adapted_weights(
    discrete: bool, adaptations: int
) -> None:
    config = ReptileConfig(inner_lr=ALPHA, outer_lr=0.3, policy=SMALL)
    agent = Reptile(spec(discrete), config, Streams(0))
    rounds = [single_precision(batch) for batch in rounds_of(discrete, adaptations)]
    phi = weights_of(agent)
    mean = adapted_mean(agent, rounds)
    metrics = agent.meta_update(rounds)
    for name, leaf in weights_of(agent).items():
        expected = phi[name] + 0.3 * (mean[name] - phi[name])
        torch.testing.assert_close(leaf, expected, rtol=1e-5, atol=1e-6)
        assert (mean[name] - phi[name]).abs().max() > 1e-3
    distance = math.sqrt(sum(float(((mean[n] - phi[n]) ** 2).sum()) for n in phi))
    assert metrics["train/gradient_norm"] == pytest.approx(distance, rel=1e-5)


def test_reptile_with_adam_is_adam_on_the_way_back_from_the_mean() -> None:
    config = ReptileConfig(inner_lr=ALPHA, outer_optimizer="adam", outer_lr=0.01, policy=SMALL)
    agent = Reptile(spec(False), config, Streams(0))
    theirs = {name: leaf.requires_grad_() for name, leaf in weights_of(agent).items()}
    adam = torch.optim.Adam(theirs.values(), lr=0.01)
    for seed in (0, 100, 200):
        rounds = [single_precision(batch) for batch in rounds_of(False, 1, seed)]
        phi = weights_of(agent)
        mean = adapted_mean(agent, rounds)
        for name, leaf in theirs.items():
            leaf.grad = phi[name] - mean[name]
        adam.step()
        agent.meta_update(rounds)
        for name, leaf in weights_of(agent).items():
            torch.testing.assert_close(leaf, theirs[name].detach(), rtol=1e-4, atol=1e-5)
