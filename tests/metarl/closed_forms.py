"""A block of tasks in closed form and on the plain path, for tests that hold one to the other."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metarl import linearisation, mlp_adaptation, trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    STEP_SIZE,
    InnerConfig,
    InnerLoop,
    Lesson,
    Rounds,
    adapt_stacked,
    weights_of,
)
from metarl.context import CONTEXT
from metarl.distributions import Distribution
from metarl.linearisation import Linearisation
from metarl.policies import MlpPolicy, PolicyConfig, build_policy, stacked_distribution
from metarl.seeding import Streams
from metarl.types import Adapted, EnvSpec, Params
from tests.conftest import far_from_symmetric, mean_weights, random_lesson

DOUBLE, SINGLE = 1e-9, 1e-5
SMALL = PolicyConfig(hidden_sizes=(5, 4), init_std=0.7)
INNER = InnerConfig(inner_lr=0.25, later_lr_scale=0.5)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A policy and what it adapts to; the closed form and the plain path for both."""

    discrete: bool = False
    adaptations: int = 1
    shape: tuple[int, int, int] = (3, 2, 4)
    policy_config: PolicyConfig = SMALL
    config: InnerConfig = INNER
    dtype: torch.dtype = torch.float64
    learned: Literal["none", "layers", "weights"] = "none"
    frozen: frozenset[str] = frozenset()
    num_context: int = 0

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec("test", 3, 4 if self.discrete else 2, self.discrete, self.shape[2], False)

    @property
    def policy(self) -> MlpPolicy:
        return build_policy(self.spec, self.policy_config, self.num_context)

    @property
    def loop(self) -> InnerLoop:
        fresh = {CONTEXT: torch.zeros(self.num_context)} if self.num_context else {}
        return InnerLoop(self.policy, self.config, self.frozen, fresh)

    @property
    def params(self) -> Params:
        params = far_from_symmetric(self.policy.init(Streams(0)))
        if self.learned != "none":
            like = {
                STEP_SIZE + name: leaf if self.learned == "weights" else leaf.sum()
                for name, leaf in params.items()
                if name not in self.frozen
            }
            own = far_from_symmetric({name: torch.zeros_like(leaf) for name, leaf in like.items()})
            params |= {name: 0.2 + leaf for name, leaf in own.items()}
        return {name: leaf.to(self.dtype) for name, leaf in params.items()}

    @property
    def adapted(self) -> Adapted:
        """Weights of each task's own."""
        start = self.loop.begin(self.params, self.shape[0])
        count = {NUM_ADAPTATIONS: start.pop(NUM_ADAPTATIONS)}
        moved = far_from_symmetric(start, seed=1)
        return {name: leaf.to(self.dtype) for name, leaf in moved.items()} | count

    @property
    def lessons(self) -> list[Lesson]:
        """One for each adaptation, and the last round."""
        drawn = [random_lesson(self.shape, self.spec, seed) for seed in range(self.adaptations + 1)]
        return [
            Lesson(*(x.to(self.dtype) if x.is_floating_point() else x for x in lesson))
            for lesson in drawn
        ]

    @property
    def weights(self) -> Tensor:
        return mean_weights(self.lessons[-1].mask).to(self.dtype)

    def closed_form(self) -> Linearisation:
        *lessons, last = self.lessons
        rounds = Rounds(lessons, last, self.weights)
        return mlp_adaptation.linearise(self.loop, self.policy, self.params, rounds)

    def plain(self) -> Linearisation:
        *lessons, last = self.lessons

        def after(theta: Tensor) -> Distribution:
            adapted = self.loop.begin(trees.unflatten(theta, self.params), len(last.obs))
            for lesson in lessons:
                adapted = adapt_stacked(self.loop, adapted, lesson)
            return stacked_distribution(self.policy, weights_of(adapted), last.obs)

        return linearisation.linearise(after, trees.flatten(self.params), self.weights)


def assert_near(result: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare by norms: single entries may be sums that nearly cancel."""
    assert result.shape == expected.shape
    assert not result.requires_grad
    assert (result - expected).norm() <= tolerance * expected.norm()


def probes(size: int, dtype: torch.dtype) -> Tensor:
    """Basis vectors, all of them where they are few, and three random ones."""
    generator = torch.Generator().manual_seed(5)
    some = torch.randn(3, size, generator=generator, dtype=torch.float64)
    every = torch.eye(size, dtype=torch.float64)[:: max(1, size // 8)]
    return torch.cat((some, every)).to(dtype)


def check_linearisation(case: Case, tolerance: float = DOUBLE) -> None:
    closed, plain = case.closed_form(), case.plain()
    assert type(closed.distribution) is type(plain.distribution)
    for leaf, expected in zip(closed.distribution, plain.distribution, strict=True):
        assert_near(leaf, expected, tolerance)
    generator = torch.Generator().manual_seed(6)
    for _ in range(2):
        cotangent = type(plain.distribution)(
            *(torch.randn(leaf.shape, generator=generator).to(leaf) for leaf in plain.distribution)
        )
        assert_near(closed.pull(cotangent), plain.pull(cotangent), tolerance)
    vectors = probes(len(trees.flatten(case.params)), case.dtype)
    images = torch.stack([plain.fisher(v) for v in vectors])
    assert images.norm() > 0.1
    assert_near(torch.stack([closed.fisher(v) for v in vectors]), images, tolerance)
