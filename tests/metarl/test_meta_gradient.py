"""Blocks of tasks on threads: the plain path's results, however they are cut, kept and spread."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from metarl import linearisation, trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    InnerConfig,
    InnerLoop,
    Lesson,
    Rounds,
    adapt_stacked,
    begin_stacked,
)
from metarl.distributions import Distribution
from metarl.linearisation import Linearisation
from metarl.meta_gradient import AfterAdaptation, Blocks, adapt
from metarl.policies import (
    GaussianPolicy,
    MlpPolicy,
    Policy,
    PolicyConfig,
    build_policy,
    stacked_distribution,
)
from metarl.seeding import Streams
from metarl.types import Adapted, EnvSpec
from tests.conftest import far_from_symmetric, mean_weights, random_lesson
from tests.metarl.policies import CountingPolicy, WavePolicy

TASKS, EPISODES, HORIZON, UNITS = 7, 2, 5, 6
CONFIG = InnerConfig(inner_lr=0.25, later_lr_scale=0.5, inner_objective="ratio")
MANY = 2**40
SHARE = 0.6
"""Sum of the weights in the mean KL: other processes may hold further tasks."""


class Setting:
    """A policy, K tasks' lessons, and the adapted policies by both paths."""

    def __init__(self, kind: str, tasks: int = TASKS, adaptations: int = 2) -> None:
        self.spec = EnvSpec("test", 3, 3, kind == "discrete", HORIZON, False)
        network = PolicyConfig(hidden_sizes=(UNITS, 4), init_std=0.7)
        self.policy: Policy = build_policy(self.spec, network)
        if kind == "other":
            self.policy = WavePolicy(self.spec)
        self.loop = InnerLoop(self.policy, CONFIG)
        self.params = far_from_symmetric(self.policy.init(Streams(0)))
        self.theta = trees.flatten(self.params)
        shape = (tasks, EPISODES, HORIZON)
        self.lessons = [random_lesson(shape, self.spec, seed) for seed in range(adaptations + 1)]
        self.weights = SHARE * mean_weights(self.lessons[-1].mask)

    def after(self, blocks: Blocks, rows: list[int] | None = None) -> AfterAdaptation:
        rows = list(range(len(self.weights))) if rows is None else rows
        *lessons, last = [Lesson(*(field[rows] for field in each)) for each in self.lessons]
        weights = SHARE * mean_weights(last.mask)
        return AfterAdaptation(self.loop, self.params, Rounds(lessons, last, weights), blocks)

    def plain(self) -> Linearisation:
        def after(theta: Tensor) -> Distribution:
            adapted = begin_stacked(trees.unflatten(theta, self.params), len(self.weights))
            for lesson in self.lessons[:-1]:
                adapted = adapt_stacked(self.loop, adapted, lesson)
            return stacked_distribution(self.policy, adapted, self.lessons[-1].obs)

        return linearisation.linearise(after, self.theta, self.weights)


def blocks_of(tasks: int, kept_bytes: int = MANY) -> Blocks:
    return Blocks(cpu_floats=tasks * EPISODES * HORIZON * UNITS, kept_bytes=kept_bytes)


def products(linearisation: Linearisation) -> list[Tensor]:
    """Everything that a linearisation tells, along fixed cotangents and vectors."""
    distribution, pull, fisher = linearisation
    some = type(distribution)(*(torch.cos(9.0 * leaf) for leaf in distribution))
    gradient = pull(some)
    image = fisher(torch.sin(torch.arange(len(gradient)).double()))
    return [*distribution, gradient, image, fisher(gradient)]


def assert_close(results: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(results, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def assert_same_bits(results: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(results, expected, strict=True):
        assert torch.equal(one, other)


kinds = pytest.mark.parametrize("kind", ["continuous", "discrete", "other"])


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Set torch's number of threads for a while."""
    standing = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(standing)


def test_blocks_hold_every_task_once() -> None:
    setting = Setting("continuous")
    for size in range(1, 10):
        cut = blocks_of(size).cut(setting.policy, setting.lessons[0])
        rows = [list(range(TASKS))[block] for block in cut]
        assert sum(rows, []) == list(range(TASKS))  # noqa: RUF017
        assert all(len(block) == size for block in rows[:-1])
        assert len(rows) == math.ceil(TASKS / size)
    crumbs = Blocks(cpu_floats=0).cut(setting.policy, setting.lessons[0])
    assert crumbs == [slice(k, k + 1) for k in range(TASKS)]


@pytest.mark.parametrize("field", ["cpu_floats", "cuda_floats", "kept_bytes"])
def test_blocks_refuse_what_is_no_size(field: str) -> None:
    for value in (-1, 0.5):
        with pytest.raises(ValueError, match=rf"Blocks\.{field} must be a whole number >= 0"):
            Blocks(**{field: value})  # type: ignore[arg-type]


@kinds
@pytest.mark.parametrize("size", [1, 2, 3, TASKS, 2 * TASKS])
def test_any_cut_gives_the_plain_paths_derivatives(kind: str, size: int) -> None:
    setting = Setting(kind)
    assert isinstance(setting.policy, MlpPolicy) == (kind != "other")
    after, expected = setting.after(blocks_of(size)), setting.plain()
    assert_close(products(after.linearise(setting.theta)), products(expected))
    assert_close(list(after.distribution(setting.theta)), list(expected.distribution))


@kinds
@pytest.mark.parametrize("kept_bytes", [0, 5_000, 20_000, 60_000])
def test_blocks_linearised_anew_give_the_bits_of_those_kept(kind: str, kept_bytes: int) -> None:
    setting = Setting(kind)
    kept = setting.after(blocks_of(2)).linearise(setting.theta)
    anew = setting.after(blocks_of(2, kept_bytes)).linearise(setting.theta)
    assert_same_bits(products(anew), products(kept))
    assert_same_bits(products(anew), products(kept))  # nothing is used up


def passes_per_product(kept_bytes: int) -> tuple[int, int]:
    """Forward passes of one block in each of two products of a linearisation, over 4 blocks."""
    setting, passes = Setting("continuous"), CountingPolicy.passes
    assert isinstance(setting.policy, GaussianPolicy)
    setting.loop = setting.loop._replace(policy=CountingPolicy(*setting.policy))
    linearisation = setting.after(blocks_of(2, kept_bytes)).linearise(setting.theta)
    start = len(passes)
    linearisation.fisher(setting.theta)
    middle = len(passes)
    linearisation.pull(linearisation.distribution)
    return middle - start, len(passes) - middle


def test_blocks_are_kept_as_far_as_memory_goes() -> None:
    rounds = 3
    assert passes_per_product(MANY) == (0, 0)
    assert passes_per_product(0) == (4 * rounds, 4 * rounds)
    # Each byte more keeps as many blocks or more; all four numbers occur on the way.
    counts = [passes_per_product(kept)[0] for kept in range(0, 400_000, 10_000)]
    assert counts == sorted(counts, reverse=True)
    assert set(counts) == {rounds * anew for anew in range(5)}


@kinds
@pytest.mark.parametrize("kept_bytes", [0, 60_000, MANY])
def test_no_bit_depends_on_the_number_of_threads(
    kind: str, kept_bytes: int, set_threads: Callable[[int], None]
) -> None:
    setting, blocks, results = Setting(kind), blocks_of(1, kept_bytes), []
    for threads in (1, 2, 3):
        set_threads(threads)
        after = setting.after(blocks)
        start = begin_stacked(setting.params, TASKS)
        adapted = adapt(setting.loop, start, setting.lessons[0], blocks)
        results.append(
            [
                *products(after.linearise(setting.theta)),
                *after.distribution(setting.theta),
                *adapted.values(),
            ]
        )
        assert torch.get_num_threads() == threads
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


def own_weights(setting: Setting) -> Adapted:
    """Weights that differ from task to task, after unequal numbers of adaptations."""
    start = begin_stacked(setting.params, TASKS)
    count = torch.arange(len(start.pop(NUM_ADAPTATIONS))).double() % 3
    return far_from_symmetric(start, seed=2) | {NUM_ADAPTATIONS: count}


@kinds
@pytest.mark.parametrize("size", [1, 3, TASKS])
@pytest.mark.parametrize("recording", [False, True])
def test_adapt_is_the_plain_adaptation_without_a_graph(
    kind: str, size: int, recording: bool, set_threads: Callable[[int], None]
) -> None:
    set_threads(2)
    setting = Setting(kind)
    start = {name: leaf.requires_grad_() for name, leaf in own_weights(setting).items()}
    before = {name: leaf.detach().clone() for name, leaf in start.items()}
    lesson = setting.lessons[0]
    fields = [field.clone() for field in lesson]
    with torch.set_grad_enabled(recording):
        result = adapt(setting.loop, start, lesson, blocks_of(size))
        assert torch.is_grad_enabled() == recording
    expected = adapt_stacked(setting.loop, start, lesson)
    assert result.keys() == expected.keys()
    for name, leaf in expected.items():
        torch.testing.assert_close(result[name], leaf.detach(), rtol=1e-10, atol=1e-12)
        assert not result[name].requires_grad
        assert torch.equal(start[name], before[name])
    assert_same_bits(list(lesson), fields)


def test_a_linearisation_leaves_theta_alone_and_records_no_graph() -> None:
    setting = Setting("continuous")
    start = setting.theta.clone()
    after = setting.after(blocks_of(3))
    results = [*products(after.linearise(setting.theta)), *after.distribution(setting.theta)]
    assert not any(leaf.requires_grad for leaf in results)
    assert torch.equal(setting.theta, start)
    with torch.no_grad():
        silent = [*products(after.linearise(setting.theta)), *after.distribution(setting.theta)]
    assert_same_bits(silent, results)


@kinds
@pytest.mark.parametrize(
    ("tasks", "fraction", "chosen"),
    [
        (6, 1.0, [0, 1, 2, 3, 4, 5]),
        (6, 0.5, [1, 3, 5]),
        (6, 1 / 3, [2, 5]),
        (7, 0.5, [1, 3, 5]),
        (4, 0.75, [1, 2, 3]),
        (4, 0.25, [3]),
        (5, 1e-9, [0]),
        (1, 0.5, [0]),
    ],
)
def test_a_fraction_is_of_tasks_evenly_spread_that_stand_for_all(
    kind: str, tasks: int, fraction: float, chosen: list[int]
) -> None:
    setting = Setting(kind, tasks, adaptations=1)
    share = setting.after(blocks_of(2)).on_fraction(fraction).linearise(setting.theta)
    alone = setting.after(blocks_of(2), chosen).linearise(setting.theta)
    assert_close(products(share), products(alone))
