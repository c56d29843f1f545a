"""The regularised inner problem and its implicit derivative, against dense matrices."""

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metarl import implicit_gradient
from metarl.adaptation import NUM_ADAPTATIONS, weights_of
from metarl.checks import InputError
from metarl.distributions import Categorical, DiagGaussian, Distribution
from metarl.implicit_gradient import ProximalConfig
from metarl.meta_gradient import Blocks, adapt
from metarl.objectives import InnerObjective
from tests.metarl.dense_matrices import CONFIG, TASKS, Setting
from tests.metarl.policies import CountingPolicy

KINDS = ["continuous", "discrete", "other"]
FIRST_ORDER = {"first_order": True, "cg_iterations": ProximalConfig().cg_iterations}


def some_cotangent(distribution: Distribution) -> Distribution:
    leaves = [torch.cos(5.0 * leaf + i) for i, leaf in enumerate(distribution)]
    return DiagGaussian(*leaves) if len(leaves) == 2 else Categorical(*leaves)


def assert_near(result: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert not result.requires_grad
    assert expected.norm() > 1e-3
    assert (result - expected).norm() <= tolerance * expected.norm()


kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.parametrize("adaptations", [1, 2])
@pytest.mark.parametrize("steps", [1, 3])
def test_adapting_is_descent_on_the_regularised_loss(
    kind: str, steps: int, adaptations: int
) -> None:
    setting = Setting(kind, replace(CONFIG, inner_steps=steps), adaptations)
    adapted = setting.loop.begin(setting.params, TASKS)
    for lesson in setting.rounds.lessons:
        adapted = adapt(setting.loop, adapted, lesson, Blocks(cpu_floats=0))
    assert adapted[NUM_ADAPTATIONS].tolist() == [adaptations] * TASKS
    assert weights_of(adapted).keys() == setting.params.keys()
    for k in range(TASKS):
        reached = torch.cat([adapted[name][k].flatten() for name in setting.params])
        expected = setting.solution(k)
        assert_near(reached - setting.theta, expected - setting.theta)


@kinds
@pytest.mark.parametrize("adaptations", [1, 2])
def test_many_steps_reach_a_minimum_of_the_regularised_loss(kind: str, adaptations: int) -> None:
    setting = Setting(kind, replace(CONFIG, inner_steps=100), adaptations)
    for k in range(TASKS):
        phi, centre = setting.solution(k), setting.reached(k, adaptations - 1)
        slope = grad(setting.loss(k, setting.rounds.lessons[-1]))(phi)
        assert slope.norm() > 0.1
        assert (slope + 8.0 * (phi - centre)).norm() < 1e-4
        assert torch.linalg.eigvalsh(setting.matrix(k)).min() > 0.0


@kinds
@pytest.mark.parametrize(
    ("objective", "steps", "adaptations"),
    [("log_likelihood", 1, 1), ("log_likelihood", 3, 2), ("ratio", 3, 0), ("ratio", 3, 2)],
)
def test_products_are_those_of_the_inverse_matrix(
    kind: str, objective: InnerObjective, steps: int, adaptations: int
) -> None:
    config = replace(CONFIG, inner_objective=objective, inner_steps=steps, regularisation=15.0)
    check_products(Setting(kind, config, adaptations))


@kinds
@pytest.mark.parametrize("change", [{"cg_damping": 3.0}, FIRST_ORDER])
def test_products_know_damping_and_first_order(kind: str, change: dict[str, Any]) -> None:
    setting = Setting(kind, replace(CONFIG, **change))
    check_products(setting)
    cotangent = some_cotangent(setting.linearise().distribution)
    exact = Setting(kind, CONFIG).pulled(cotangent)
    assert (setting.pulled(cotangent) - exact).norm() > 1e-3 * exact.norm()


def check_products(setting: Setting) -> None:
    linearisation = setting.linearise()
    for k in range(TASKS):
        expected = setting.at(setting.solution(k), setting.rounds.last.obs[k])
        for leaf, other in zip(linearisation.distribution, expected, strict=True):
            torch.testing.assert_close(leaf[k], other)
    cotangent = some_cotangent(linearisation.distribution)
    assert_near(linearisation.pull(cotangent), setting.pulled(cotangent))
    v = torch.sin(torch.arange(len(setting.theta)).double())
    assert_near(linearisation.fisher(v), setting.fisher(linearisation.distribution, v))


@kinds
@pytest.mark.parametrize("adaptations", [1, 2])
def test_at_the_solution_the_derivative_is_the_finite_difference(
    kind: str, adaptations: int
) -> None:
    setting = Setting(kind, replace(CONFIG, inner_steps=50, later_lr_scale=1.0), adaptations)
    policies = setting.after(Blocks())
    linearisation = policies.linearise(setting.theta)
    cotangent = some_cotangent(linearisation.distribution)

    def outer(theta: Tensor) -> Tensor:
        new = policies.distribution(theta)
        pairs = zip(new, cotangent, strict=True)
        return torch.stack([(leaf * slope).sum() for leaf, slope in pairs]).sum()

    waves = torch.outer(torch.arange(1.0, 4.0), torch.arange(len(setting.theta)))
    directions = torch.cos(waves.double())
    rises = [outer(setting.theta + 1e-5 * d) - outer(setting.theta - 1e-5 * d) for d in directions]
    expected = torch.stack(rises) / 2e-5
    assert_near(directions @ linearisation.pull(cotangent), expected, 1e-6)


@kinds
def test_tasks_without_a_minimum_fall_back_to_first_order(kind: str) -> None:
    # One iteration solves along b alone; with so small a lambda some tasks curve downwards there.
    config = replace(CONFIG, regularisation=0.05, inner_steps=1, cg_iterations=1)
    setting = Setting(kind, config)
    linearisation = setting.linearise()
    cotangent = some_cotangent(linearisation.distribution)
    expected, curvatures = torch.zeros_like(setting.theta), []
    for k in range(TASKS):
        b = setting.outer(k).T @ torch.cat([leaf[k].flatten() for leaf in cotangent])
        curvatures.append(float(b @ setting.matrix(k) @ b))
        expected += b * ((b @ b) / curvatures[-1] if curvatures[-1] > 0 else 1.0)
    assert min(curvatures) < 0 < max(curvatures)
    assert_near(linearisation.pull(cotangent), expected)


@kinds
@pytest.mark.parametrize("kept_bytes", [0, 2**40])
def test_tasks_may_be_cut_into_blocks(kind: str, kept_bytes: int) -> None:
    setting = Setting(kind, CONFIG, adaptations=2)
    whole = setting.linearise()
    cut = setting.after(Blocks(cpu_floats=0, kept_bytes=kept_bytes)).linearise(setting.theta)
    cotangent = some_cotangent(whole.distribution)
    assert_near(cut.pull(cotangent), whole.pull(cotangent))
    assert_near(cut.fisher(setting.theta), whole.fisher(setting.theta))


def counted(steps: int) -> tuple[int, int]:
    """Forward passes of a linearisation, and of two products with it."""
    setting, passes = (
        Setting("continuous", replace(CONFIG, inner_steps=steps)),
        CountingPolicy.passes,
    )
    loop = setting.loop._replace(policy=CountingPolicy(*setting.policy))  # type: ignore[misc]
    start = len(passes)
    linearisation = implicit_gradient.linearise(loop, setting.params, setting.rounds)
    middle = len(passes)
    linearisation.fisher(setting.theta)
    linearisation.pull(linearisation.distribution)
    return middle - start, len(passes) - middle


def test_the_time_of_the_outer_part_does_not_depend_on_the_inner_steps() -> None:
    for steps in (1, 7, 20):
        assert counted(steps) == (steps + 2, 0)


def held(kind: str, steps: int) -> int:
    """Numbers in the tensors that a linearisation keeps alive."""
    setting = Setting(kind, replace(CONFIG, inner_steps=steps))

    def alive() -> int:
        gc.collect()
        return sum(leaf.numel() for leaf in gc.get_objects() if type(leaf) is Tensor)

    before = alive()
    linearisation = setting.linearise()
    after = alive()
    assert not any(leaf.requires_grad for leaf in linearisation.distribution)
    return after - before


@kinds
def test_the_memory_of_the_outer_part_does_not_depend_on_the_inner_steps(kind: str) -> None:
    one = held(kind, 1)
    assert one > 0
    assert held(kind, 30) == one


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"regularisation": 0.0}, r"regularisation must be a finite number > 0"),
        ({"inner_steps": 0}, r"inner_steps must be a whole number"),
        ({"cg_iterations": 1.5}, r"cg_iterations must be a whole number"),
        ({"cg_damping": -1.0}, r"cg_damping must be a finite number >= 0"),
        ({"inner_lr": 0.0}, r"inner_lr must be a finite number > 0"),
        ({"later_lr_scale": 0.0}, r"later_lr_scale must be a finite number > 0"),
        (
            {"first_order": True, "cg_damping": 10.0},
            r"cg_damping=10.0 has no effect with first_order=True.*else stays 0.0",
        ),
        ({"first_order": True, "cg_iterations": 9}, r"cg_iterations=9 has no effect with first_o"),
        ({"inner_lr": 0.1, "regularisation": 20.0}, r"must be below 2.*got 0.1 x 20.0"),
        ({"later_lr_scale": 5.0}, r"must be below 2.*got 0.25 x 10.0"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"ProximalConfig.*{message}"):
        ProximalConfig(**fields)
