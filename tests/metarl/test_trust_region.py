"""The trust region against full matrices: Fisher products, steps, and shares of the tasks."""

import copy
import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor
from torch.func import hessian, jacrev

from metarl import trees
from metarl.adaptation import InnerConfig, InnerLoop, Lesson, adapt_stacked, begin_stacked
from metarl.distributions import Categorical, DiagGaussian, Distribution, detached
from metarl.linearisation import Term, linearise
from metarl.objectives import InnerObjective
from metarl.policies import (
    CategoricalPolicy,
    GaussianPolicy,
    Policy,
    PolicyConfig,
    stacked_distribution,
)
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig, trust_region_step
from metarl.types import Metrics
from tests.conftest import ByAutograd

TASKS, EPISODES, HORIZON = 3, 2, 4
LENGTHS = torch.tensor([[4, 2], [3, 3], [1, 4]])


class Setting:
    """A tiny policy, random lessons with masks, and the map from theta to adapted policies."""

    def __init__(self, discrete: bool, objective: InnerObjective, steps: int) -> None:
        generator = torch.Generator().manual_seed(7)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        kind = CategoricalPolicy if discrete else GaussianPolicy
        self.policy: Policy = kind((2, 3, 3 if discrete else 2), PolicyConfig(init_std=0.7))
        self.like = {name: leaf.double() for name, leaf in self.policy.init(Streams(0)).items()}
        self.theta = trees.flatten(self.like) + 0.1 * randn(trees.flatten(self.like).numel())
        self.config = InnerConfig(inner_lr=0.25, inner_objective=objective)
        shape = (TASKS, EPISODES, HORIZON)
        choices = torch.randint(3, shape, generator=generator)
        self.lessons = [
            Lesson(
                obs=randn(*shape, 2),
                action=choices.roll(i, -1) if discrete else randn(*shape, 2),
                log_prob=-1.5 + 0.3 * randn(*shape),
                advantage=randn(*shape),
                mask=torch.arange(HORIZON) < LENGTHS.roll(i, 0)[..., None],
            )
            for i in range(steps + 1)
        ]
        mask = self.lessons[-1].mask
        self.weights = mask.double() / mask.sum((1, 2), keepdim=True).double() / TASKS

    def of(self, *rows: int) -> "Setting":
        """Return the same for some of the tasks, each with its weight among all."""
        share, chosen = copy.copy(self), list(rows)
        share.lessons = [Lesson(*(field[chosen] for field in each)) for each in self.lessons]
        share.weights = self.weights[chosen]
        return share

    @property
    def policies(self) -> ByAutograd:
        return ByAutograd(self.after, self.weights)

    def after(self, theta: Tensor) -> Distribution:
        adapted = begin_stacked(trees.unflatten(theta, self.like), len(self.weights))
        for lesson in self.lessons[:-1]:
            adapted = adapt_stacked(InnerLoop(self.policy, self.config), adapted, lesson)
        return stacked_distribution(self.policy, adapted, self.lessons[-1].obs)

    def surrogate(self, distribution: Distribution) -> Tensor:
        last = self.lessons[-1]
        ratio = torch.exp(distribution.log_prob(last.action) - last.log_prob)
        return (ratio * last.advantage * self.weights).sum()


def divergence(old: Distribution, new: Distribution) -> Tensor:
    """KL(old || new) at every sample, written out once more."""
    if isinstance(old, DiagGaussian) and isinstance(new, DiagGaussian):
        std, other = old.log_std.exp(), new.log_std.exp()
        squares = (std**2 + (old.mean - new.mean) ** 2) / (2 * other**2)
        return (torch.log(other / std) + squares - 0.5).sum(-1)
    assert isinstance(old, Categorical)
    assert isinstance(new, Categorical)
    probs, others = old.logits.softmax(-1), new.logits.softmax(-1)
    return (probs * torch.log(probs / others)).sum(-1)


def mean_divergence(old: Distribution, new: Distribution, mask: Tensor) -> Tensor:
    """Mean over tasks of the mean over a task's steps under the mask."""
    every = divergence(old, new)
    return torch.stack([every[k][mask[k]].mean() for k in range(len(mask))]).mean()


settings = pytest.mark.parametrize(
    ("discrete", "objective", "steps"),
    list(itertools.product([False, True], ["log_likelihood", "ratio"], [0, 1, 2])),
)


@settings
def test_the_linearisation_holds_the_jacobian_and_the_hessian_of_the_mean_kl(
    discrete: bool, objective: InnerObjective, steps: int
) -> None:
    setting = Setting(discrete, objective, steps)
    mask = setting.lessons[-1].mask
    old = detached(setting.after(setting.theta))
    matrix = hessian(lambda x: mean_divergence(old, setting.after(x), mask))(setting.theta)
    assert torch.linalg.eigvalsh(matrix)[-1] > 1e-2
    start = setting.theta.clone()
    distribution, pull, fisher = linearise(setting.after, setting.theta, setting.weights)
    columns = torch.stack([fisher(e) for e in torch.eye(len(start), dtype=torch.float64)])
    torch.testing.assert_close(columns, matrix, rtol=1e-8, atol=1e-10)

    for leaf, expected in zip(distribution, old, strict=True):
        torch.testing.assert_close(leaf, expected, rtol=1e-12, atol=1e-14)
    cotangent = type(old)(*(torch.sin(1.0 + 3.0 * leaf) for leaf in old))
    flat = jacrev(lambda x: torch.cat([leaf.flatten() for leaf in setting.after(x)]))(start)
    expected = flat.T @ torch.cat([leaf.flatten() for leaf in cotangent])
    torch.testing.assert_close(pull(cotangent), expected, rtol=1e-9, atol=1e-11)

    assert torch.equal(setting.theta, start)
    results = [*distribution, pull(cotangent), fisher(start), setting.theta]
    assert not any(leaf.requires_grad for leaf in results)


@settings
def test_an_accepted_step_is_the_scaled_natural_gradient_and_keeps_its_promises(
    discrete: bool, objective: InnerObjective, steps: int
) -> None:
    setting = Setting(discrete, objective, steps)
    mask, config = setting.lessons[-1].mask, TrustRegionConfig(cg_damping=0.1, cg_iterations=60)
    old = detached(setting.after(setting.theta))
    before = setting.surrogate(old)
    start = setting.theta.clone()
    new_theta, metrics = trust_region_step(
        setting.theta, [Term(setting.policies, setting.surrogate)], config
    )
    assert torch.equal(setting.theta, start)
    assert not new_theta.requires_grad
    assert metrics["train/accepted"] == 1.0

    matrix = hessian(lambda x: mean_divergence(old, setting.after(x), mask))(start)
    matrix += 0.1 * torch.eye(len(start))
    leaf = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(setting.surrogate(setting.after(leaf)), leaf)
    direction = torch.linalg.solve(matrix, gradient)
    step = math.sqrt(2.0 * 0.01 / float(direction @ matrix @ direction)) * direction
    shrunk = 0.8 ** metrics["train/backtracks"] * step
    assert (new_theta - start - shrunk).norm() < 1e-3 * shrunk.norm()

    new = setting.after(new_theta)
    gain, kl = float(setting.surrogate(new) - before), float(mean_divergence(old, new, mask))
    assert gain > 0.0
    assert kl <= 0.01
    assert metrics["train/surrogate"] == pytest.approx(float(before), rel=1e-12)
    assert metrics["train/surrogate_gain"] == pytest.approx(gain, rel=1e-9)
    assert metrics["train/approx_kl"] == pytest.approx(kl, rel=1e-9)
    assert metrics["train/gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-12)


class Sum:
    """Adds up what several threads bring, in the order of the threads, for all of them."""

    def __init__(self, count: int) -> None:
        self.barrier, self.parts = Barrier(count, timeout=30.0), [torch.zeros(0)] * count

    def of(self, place: int) -> Callable[[Tensor], Tensor]:
        def total(part: Tensor) -> Tensor:
            self.parts[place] = part
            self.barrier.wait()
            result = torch.stack(self.parts).sum(0)
            self.barrier.wait()
            return result

        return total


@settings
def test_shares_of_the_tasks_take_the_step_of_the_whole(
    discrete: bool, objective: InnerObjective, steps: int
) -> None:
    # A bound so wide that in several cases the line search shortens the step, by what both add up.
    config = TrustRegionConfig(cg_damping=0.1, cg_iterations=4, max_kl=0.5)
    whole, together = Setting(discrete, objective, steps), Sum(2)

    def take(place: int) -> tuple[Tensor, Metrics]:
        mine, total = whole.of(*((0, 2), (1,))[place]), together.of(place)
        return trust_region_step(mine.theta, [Term(mine.policies, mine.surrogate)], config, total)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(take, range(2))
    assert torch.equal(one[0], other[0])
    assert one[1] == other[1]
    expected, metrics = trust_region_step(
        whole.theta, [Term(whole.policies, whole.surrogate)], config
    )
    assert metrics["train/accepted"] == 1.0
    torch.testing.assert_close(one[0], expected, rtol=1e-9, atol=1e-11)
    assert one[1] == pytest.approx(metrics, rel=1e-8, abs=1e-10)
    alone = whole.of(0, 2)
    part, _ = trust_region_step(alone.theta, [Term(alone.policies, alone.surrogate)], config)
    assert (part - expected).abs().max() > 1e-3


@pytest.mark.parametrize("discrete", [False, True])
def test_a_curvature_fraction_leaves_the_gradient_to_all_tasks(discrete: bool) -> None:
    setting, rows = Setting(discrete, "ratio", 1), (0, 2)
    share = setting.of(*rows)
    share.weights = share.weights / share.weights.sum()
    policies = ByAutograd(setting.after, setting.weights, share.policies)
    config = TrustRegionConfig(cg_damping=0.1, cg_iterations=60, curvature_fraction=0.7)
    theta, metrics = trust_region_step(setting.theta, [Term(policies, setting.surrogate)], config)
    assert policies.fractions == [0.7]
    assert metrics["train/accepted"] == 1.0

    old, mask = detached(share.after(setting.theta)), share.lessons[-1].mask
    matrix = hessian(lambda x: mean_divergence(old, share.after(x), mask))(setting.theta)
    matrix += 0.1 * torch.eye(len(matrix))
    leaf = setting.theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(setting.surrogate(setting.after(leaf)), leaf)
    direction = torch.linalg.solve(matrix, gradient)
    step = math.sqrt(2.0 * 0.01 / float(direction @ gradient)) * direction
    step *= 0.8 ** metrics["train/backtracks"]
    assert (theta - setting.theta - step).norm() < 1e-3 * step.norm()


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.001, math.nan, math.inf, True])
def test_a_curvature_fraction_is_above_0_and_at_most_1(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"TrustRegionConfig\.curvature_fraction must be a number"):
        TrustRegionConfig(curvature_fraction=fraction)
