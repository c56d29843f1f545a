"""Adapting K tasks, and differentiating through it, block by block.

A block is as many tasks as keep one layer's activations within the cores' caches. Blocks are worked
on one after the other, each by all of torch's threads, and their results are summed in their own
order. What a block remembers for products with its Jacobian is kept as long as all of it fits
into ``Blocks.kept_bytes``; blocks beyond that are linearised anew for every product.

Policies that are perceptrons take the closed form of ``metarl.mlp_adaptation``, all others that of
automatic differentiation; so do products with the Jacobian where the inner objective is not
separable. Adaptations that solve a regularised problem are differentiated as
``metarl.implicit_gradient`` says.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from metarl import implicit_gradient, linearisation, mlp_adaptation, trees
from metarl.adaptation import InnerLoop, Lesson, Rounds, adapt_stacked, weights_of
from metarl.checks import Allowed, check_fields
from metarl.cuda_graphs import replayed_product
from metarl.distributions import Distribution
from metarl.implicit_gradient import ProximalLoop
from metarl.linearisation import Linearisation
from metarl.mlp_adaptation import has_closed_form
from metarl.parallel import one_torch_thread
from metarl.policies import MlpPolicy, Policy, distribution_at, stacked_distribution
from metarl.processes import ALONE, Processes
from metarl.types import Adapted, Params

Loop: TypeAlias = InnerLoop | ProximalLoop
"""What adapts to a task, and how."""

_ResultT = TypeVar("_ResultT")
_WHOLE = Allowed(0, math.inf, "a whole number >= 0", whole=True)


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How K tasks are cut into blocks, and what is remembered of them."""

    cpu_floats: int = 2**19
    """Numbers in one layer's activations of a block: 2 MB, about the cores' own caches."""
    cuda_floats: int = 2**28
    """The same on a GPU: 1 GB."""
    kept_bytes: int = 2 * 2**30
    """Memory for what blocks remember between two products; one block is always held."""
    cuda_kept_bytes: int = 32 * 2**30
    """The same on a GPU."""

    def __post_init__(self) -> None:
        sizes = ("cpu_floats", "cuda_floats", "kept_bytes", "cuda_kept_bytes")
        check_fields(self, dict.fromkeys(sizes, _WHOLE))

    def cut(self, policy: Policy, lesson: Lesson) -> list[slice]:
        """Cut K tasks into blocks of at least one, the same for any number of threads."""
        num_tasks, episodes, horizon, _ = lesson.obs.shape
        floats = self.cuda_floats if lesson.obs.is_cuda else self.cpu_floats
        size = max(1, floats // (episodes * horizon * max(_units(policy, lesson))))
        return [slice(first, min(first + size, num_tasks)) for first in range(0, num_tasks, size)]

    def kept(self, lesson: Lesson) -> int:
        """Return the memory, in bytes, for what blocks remember on the lesson's device."""
        return self.cuda_kept_bytes if lesson.obs.is_cuda else self.kept_bytes


DEFAULT_BLOCKS = Blocks()
_WORTH_THREADS = 2**17
"""Numbers in one layer's activations of all tasks from which on threads gain something."""


def adapt(loop: Loop, adapted: Adapted, lesson: Lesson, blocks: Blocks = DEFAULT_BLOCKS) -> Adapted:
    """Adapt to one round in each of K tasks, and record no graph.

    A policy-gradient step is the same as ``adaptation.adapt_stacked``, which can be differentiated.
    """

    def work(mine: Adapted, part: Lesson) -> Adapted:
        return _adapt_block(loop, mine, part)

    return in_blocks(work, loop.policy, adapted, lesson, blocks)


def in_blocks(
    work: Callable[[Adapted, Lesson], Adapted],
    policy: Policy,
    adapted: Adapted,
    lesson: Lesson,
    blocks: Blocks = DEFAULT_BLOCKS,
) -> Adapted:
    """Change what is known of K tasks block by block, each by its own part of the lesson.

    Args:
        work: what is known of a block's tasks, and their lesson, to what is then known: leaves of
            the same names.
        policy: whose activations a block's memory is for.
        adapted: what is known.
        lesson: of the same tasks.
        blocks: how the tasks are cut.
    """

    def on_block(rows: slice) -> Adapted:
        return work({name: leaf[rows] for name, leaf in adapted.items()}, lesson.take(rows))

    parts = _map(on_block, blocks.cut(policy, lesson), policy, lesson)
    return {name: torch.cat([part[name] for part in parts]) for name in adapted}


class AfterAdaptation:
    """The policies of K tasks after their adaptations, as a function of theta.

    Args:
        loop: the adaptation.
        like: the names and shapes of what is in theta.
        rounds: what the tasks adapt to, and what the result meets.
        blocks: how the tasks are cut.
        processes: those that share the tasks; the K here are this one's.
    """

    def __init__(
        self,
        loop: Loop,
        like: Params,
        rounds: Rounds,
        blocks: Blocks = DEFAULT_BLOCKS,
        processes: Processes = ALONE,
    ) -> None:
        self._loop, self._like, self._rounds = loop, like, rounds
        self._blocks, self._processes = blocks, processes
        longest = max((*rounds.lessons, rounds.last), key=lambda lesson: lesson.mask.shape[-1])
        self._cuts = blocks.cut(loop.policy, longest)

    @property
    def weights(self) -> Tensor:
        """[K, E, T] of each sample of the last round in means over tasks and steps."""
        return self._rounds.weights

    def on_fraction(self, fraction: float) -> "AfterAdaptation":
        """Return the same of a share of the tasks, evenly spread, that stands for all of them."""
        weights = self._rounds.weights
        first, num_tasks = self._processes.place(len(weights))
        chosen = [k for k in range(num_tasks) if int((k + 1) * fraction) > int(k * fraction)] or [0]
        mine = [k - first for k in chosen if 0 <= k - first < len(weights)]
        # A process without any of them goes along with a task that counts for nothing.
        part = self._rounds.take(torch.tensor(mine or [0], device=weights.device))
        part_weights = part.weights * bool(mine)
        sums = [leaf.sum(dtype=torch.float64) for leaf in (weights, part_weights)]
        of_all, of_part = self._processes.total(torch.stack(sums))
        return AfterAdaptation(
            self._loop,
            self._like,
            part._replace(weights=part_weights * (of_all / of_part).to(weights)),
            self._blocks,
            self._processes,
        )

    def distribution(self, theta: Tensor) -> Distribution:
        """Return the action distributions [K, E, T, ...] at the last round, without a graph."""
        return _join(self._map(lambda rows: self._distribution_of(theta, rows), self._cuts))

    def linearise(self, theta: Tensor) -> Linearisation:
        """Return them with J^T u and J^T F J v, summed over tasks."""
        theta = theta.detach()
        # The first blocks are kept; the others are linearised anew for every product.
        num_kept = self._blocks.kept(self._rounds.last) // self._bytes_of(self._cuts[0])
        first, rest = self._cuts[:num_kept], self._cuts[num_kept:]
        parts = self._map(lambda rows: self._linearise_block(theta, rows), first)
        kept = {rows.start: part for rows, part in zip(first, parts, strict=True)}

        def total(use: Callable[[Linearisation, slice], Tensor]) -> Tensor:
            def product(rows: slice) -> Tensor:
                block = kept.get(rows.start) or self._linearise_block(theta, rows)
                return use(block, rows)

            return torch.stack(self._map(product, self._cuts)).sum(0)

        def pull(cotangent: Distribution) -> Tensor:
            return total(
                lambda block, rows: block.pull(type(cotangent)(*(leaf[rows] for leaf in cotangent)))
            )

        others = self._map(lambda rows: self._distribution_of(theta, rows), rest)
        joined = _join([*(part.distribution for part in parts), *others])

        def fisher(v: Tensor) -> Tensor:
            return total(lambda block, _rows: block.fisher(v))

        # What is linearised anew, or reads back to the host how far it is, cannot be recorded.
        fixed = not rest and _is_explicit(self._loop)
        return Linearisation(joined, pull, replayed_product(fisher) if fixed else fisher)

    def _distribution_of(self, theta: Tensor, rows: slice) -> Distribution:
        lessons, last, _ = self._rounds.take(rows)
        adapted = self._loop.begin(trees.unflatten(theta, self._like), len(last.obs))
        for lesson in lessons:
            adapted = _adapt_block(self._loop, adapted, lesson)
        return distribution_at(self._loop.policy, weights_of(adapted), last.obs)

    def _linearise_block(self, theta: Tensor, rows: slice) -> Linearisation:
        loop, rounds = self._loop, self._rounds.take(rows)
        params = trees.unflatten(theta, self._like)
        if isinstance(loop, ProximalLoop):
            return implicit_gradient.linearise(loop, params, rounds)
        if has_closed_form(loop.policy, loop.config):
            return mlp_adaptation.linearise(loop, loop.policy, params, rounds)

        def after(theta: Tensor) -> Distribution:
            adapted = loop.begin(trees.unflatten(theta, self._like), len(rounds.weights))
            for lesson in rounds.lessons:
                adapted = adapt_stacked(loop, adapted, lesson)
            return stacked_distribution(loop.policy, weights_of(adapted), rounds.last.obs)

        return linearisation.linearise(after, theta, rounds.weights)

    def _bytes_of(self, rows: slice) -> int:
        """Estimate what the linearisation of a block remembers, from above."""
        lessons, last, _ = self._rounds
        # In closed form: three numbers for each unit and adaptation, one at the last round, and a
        # few for each sample and output. Automatic differentiation keeps more.
        units = _units(self._loop.policy, last)
        floats = sum(
            lesson.mask[rows].numel() * (per_unit * sum(units) + 4 * (1 + units[-1]))
            for lesson, per_unit in (*((lesson, 3) for lesson in lessons), (last, 1))
        )
        closed = has_closed_form(self._loop.policy, self._loop.config)
        return floats * last.log_prob.element_size() * (1 if closed else 16)

    def _map(self, work: Callable[[slice], _ResultT], cuts: list[slice]) -> list[_ResultT]:
        return _map(work, cuts, self._loop.policy, self._rounds.last)


def _is_explicit(loop: Loop) -> bool:
    """Tell whether products with the Jacobian are closed expressions, the same for any vector."""
    return not isinstance(loop, ProximalLoop) and has_closed_form(loop.policy, loop.config)


def _adapt_block(loop: Loop, adapted: Adapted, lesson: Lesson) -> Adapted:
    with torch.no_grad():
        if isinstance(loop, ProximalLoop):
            return implicit_gradient.solve(loop, adapted, lesson)
        if isinstance(loop.policy, MlpPolicy):
            return mlp_adaptation.adapt_block(loop, loop.policy, adapted, lesson)
        return adapt_stacked(loop, adapted, lesson)


def _units(policy: Policy, lesson: Lesson) -> tuple[int, ...]:
    """Return the sizes of a policy's layers; of others only what they see and do is known."""
    if isinstance(policy, MlpPolicy):
        return policy.layer_sizes
    return lesson.obs.shape[-1], lesson.action[0, 0, 0].numel()


def _join(parts: Sequence[Distribution]) -> Distribution:
    return type(parts[0])(*(torch.cat(leaves) for leaves in zip(*parts, strict=True)))


def _map(
    work: Callable[[slice], _ResultT], cuts: list[slice], policy: Policy, lesson: Lesson
) -> list[_ResultT]:
    """Work on block after block; where all of them are small, on one thread."""
    floats = lesson.mask.numel() * max(_units(policy, lesson))
    with one_torch_thread(when=floats < _WORTH_THREADS):
        return [work(rows) for rows in cuts]
