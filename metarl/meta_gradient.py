"""Adapting K tasks, and differentiating through it, block by block.

A block is as many tasks as keep one layer's activations within a core's cache; blocks go to
threads, and their results are summed in their own order, so no bit depends on the number of
threads. What a block remembers for products with its Jacobian is kept as long as all of it fits
into ``KEPT_BYTES``; blocks beyond that are linearised anew for every product.

Policies that are perceptrons take the closed form of ``metarl.mlp_adaptation``, all others that of
automatic differentiation.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from metarl import mlp_adaptation, trees, trust_region
from metarl.adaptation import InnerConfig, Lesson, adapt_stacked, begin_stacked
from metarl.distributions import Distribution
from metarl.parallel import map_threads
from metarl.policies import MlpPolicy, Policy, stacked_distribution
from metarl.processes import ALONE, Processes
from metarl.trust_region import Linearisation
from metarl.types import Adapted, Params

BLOCK_FLOATS = {"cpu": 2**18, "cuda": 2**28}
"""Numbers in one layer's activations of a block: 1 MB, about a core's cache; or 1 GB."""
KEPT_BYTES = 2 * 2**30
"""Memory for what blocks remember between two products."""

_ResultT = TypeVar("_ResultT")


def adapt(policy: Policy, adapted: Adapted, lesson: Lesson, config: InnerConfig) -> Adapted:
    """Take one policy-gradient step in each of K tasks, and record no graph.

    The same as ``adaptation.adapt_stacked``, which can be differentiated.
    """

    def adapt_block(rows: slice) -> Adapted:
        mine = {name: leaf[rows] for name, leaf in adapted.items()}
        return _adapt_block(policy, mine, _rows(lesson, rows), config)

    parts = _map_blocks(adapt_block, blocks(policy, lesson), lesson)
    return {name: torch.cat([part[name] for part in parts]) for name in adapted}


def blocks(policy: Policy, lesson: Lesson) -> list[slice]:
    """Cut K tasks into blocks, the same for any number of threads."""
    num_tasks, episodes, horizon, _ = lesson.obs.shape
    limit = BLOCK_FLOATS["cuda" if lesson.obs.is_cuda else "cpu"]
    size = max(1, limit // (episodes * horizon * max(_units(policy, lesson))))
    return [slice(first, min(first + size, num_tasks)) for first in range(0, num_tasks, size)]


class AfterAdaptation:
    """The policies of K tasks after their adaptations, as a function of theta.

    Args:
        policy: whose weights are adapted.
        like: the names and shapes of these weights.
        rounds: one lesson for each adaptation, and that whose observations the result meets.
        weights: [K, E, T] of each sample of that last one in the mean KL.
        config: of the adaptation.
        processes: those that share the tasks; the K here are this one's.
    """

    def __init__(
        self,
        policy: Policy,
        like: Params,
        rounds: tuple[Sequence[Lesson], Lesson],
        weights: Tensor,
        config: InnerConfig,
        processes: Processes = ALONE,
    ) -> None:
        self._policy, self._like, self._config = policy, like, config
        self._lessons, self._last = rounds
        self._weights, self._processes = weights, processes
        self._blocks = blocks(policy, self._last)

    def on_fraction(self, fraction: float) -> "AfterAdaptation":
        """Return the same of a share of the tasks, evenly spread, that stands for all of them."""
        first, num_tasks = self._processes.place(len(self._weights))
        chosen = [k for k in range(num_tasks) if int((k + 1) * fraction) > int(k * fraction)] or [0]
        mine = [k - first for k in chosen if 0 <= k - first < len(self._weights)]
        # A process without any of them goes along with a task that counts for nothing.
        rows = torch.tensor(mine or [0], device=self._weights.device)
        lessons, last = [_rows(lesson, rows) for lesson in self._lessons], _rows(self._last, rows)
        weights = self._weights[rows] * bool(mine)
        shares = [leaf.sum(dtype=torch.float64) for leaf in (self._weights, weights)]
        whole, part = self._processes.total(torch.stack(shares))
        return AfterAdaptation(
            self._policy,
            self._like,
            (lessons, last),
            weights * (whole / part).to(weights),
            self._config,
            self._processes,
        )

    def distribution(self, theta: Tensor) -> Distribution:
        """Return the action distributions [K, E, T, ...] at the last round, without a graph."""
        return _join(self._map(lambda rows: self._distribution_of(theta, rows)))

    def linearise(self, theta: Tensor) -> Linearisation:
        """Return them with J^T u and J^T F J v, summed over tasks."""
        capacity = KEPT_BYTES // self._bytes_of(self._blocks[0])
        kept: dict[int, Linearisation] = {}

        def build(rows: slice) -> Distribution:
            if len(kept) >= capacity:
                return self._distribution_of(theta, rows)
            kept[rows.start] = self._linearise_block(theta, rows)
            return kept[rows.start].distribution

        def total(use: Callable[[Linearisation, slice], Tensor]) -> Tensor:
            def product(rows: slice) -> Tensor:
                block = kept.get(rows.start) or self._linearise_block(theta, rows)
                return use(block, rows)

            return torch.stack(self._map(product)).sum(0)

        def pull(cotangent: Distribution) -> Tensor:
            return total(
                lambda block, rows: block.pull(type(cotangent)(*(leaf[rows] for leaf in cotangent)))
            )

        joined = _join(self._map(build))
        return Linearisation(joined, pull, lambda v: total(lambda block, _rows: block.fisher(v)))

    def _distribution_of(self, theta: Tensor, rows: slice) -> Distribution:
        last = _rows(self._last, rows)
        adapted = begin_stacked(trees.unflatten(theta, self._like), len(last.obs))
        for lesson in self._lessons:
            adapted = _adapt_block(self._policy, adapted, _rows(lesson, rows), self._config)
        with torch.no_grad():
            return stacked_distribution(self._policy, adapted, last.obs)

    def _linearise_block(self, theta: Tensor, rows: slice) -> Linearisation:
        lessons, last = [_rows(lesson, rows) for lesson in self._lessons], _rows(self._last, rows)
        policy, weights = self._policy, self._weights[rows]
        if isinstance(policy, MlpPolicy):
            params = trees.unflatten(theta, self._like)
            return mlp_adaptation.linearise(policy, params, (lessons, last), weights, self._config)

        def after(theta: Tensor) -> Distribution:
            adapted = begin_stacked(trees.unflatten(theta, self._like), len(last.obs))
            for lesson in lessons:
                adapted = adapt_stacked(policy, adapted, lesson, self._config)
            return stacked_distribution(policy, adapted, last.obs)

        return trust_region.linearise(after, theta, weights)

    def _bytes_of(self, rows: slice) -> int:
        """Estimate what the linearisation of a block remembers, from above."""
        samples = self._last.mask[rows].numel() * self._last.log_prob.element_size()
        # In closed form: three numbers for each unit and adaptation, one at the last round, and
        # about 32 for each output's own graph. Automatic differentiation keeps more.
        per_sample = sum(_units(self._policy, self._last)) * (3 * len(self._lessons) + 1)
        per_sample += 32 * self._last.action[0, 0, 0].numel() * (len(self._lessons) + 1)
        return samples * per_sample * (1 if isinstance(self._policy, MlpPolicy) else 8)

    def _map(self, work: Callable[[slice], _ResultT]) -> list[_ResultT]:
        return _map_blocks(work, self._blocks, self._last)


def _adapt_block(policy: Policy, adapted: Adapted, lesson: Lesson, config: InnerConfig) -> Adapted:
    with torch.no_grad():
        if isinstance(policy, MlpPolicy):
            return mlp_adaptation.adapt_block(policy, adapted, lesson, config)
        return adapt_stacked(policy, adapted, lesson, config)


def _units(policy: Policy, lesson: Lesson) -> tuple[int, ...]:
    """Return the sizes of a policy's layers; of other policies only the observation is known."""
    return policy.layer_sizes if isinstance(policy, MlpPolicy) else (lesson.obs.shape[-1],)


def _rows(lesson: Lesson, rows: slice | Tensor) -> Lesson:
    return Lesson(*(field[rows] for field in lesson))


def _join(parts: Sequence[Distribution]) -> Distribution:
    return type(parts[0])(*(torch.cat(leaves) for leaves in zip(*parts, strict=True)))


def _map_blocks(
    work: Callable[[slice], _ResultT], pieces: list[slice], lesson: Lesson
) -> list[_ResultT]:
    threads = 1 if lesson.obs.is_cuda else torch.get_num_threads()
    return map_threads(work, pieces, threads)
