"""Adaptation as a regularised problem, and its implicit derivative.

Rajeswaran, Finn, Kakade and Levine 2019 (iMAML). For one task, with L the inner loss of a round D,
theta the weights before any adaptation and lambda the regularisation:

    phi* = argmin_phi L(phi; D) + lambda / 2 |phi - theta|^2                          (equation 3)
    d phi* / d theta = (I + H / lambda)^-1,   H the Hessian of L at phi*               (lemma 1)

``solve`` approaches phi* by gradient steps. ``linearise`` multiplies by the Jacobian, which is
symmetric, through conjugate gradient; it sees the point that was reached and not the way there, so
neither its memory nor its time depends on the number of steps.

Several rounds are steps of the proximal point method (Rockafellar 1976): round i is solved around
where round i - 1 ended, so that what was learned before stays, and the derivative by theta is the
product of the matrices above, one for each round.

**Negative curvature.** Losses of reinforcement learning are not convex, and where an eigenvalue
of H is below -lambda, phi* is no minimum. Conjugate gradient stops before a direction along which
I + H / lambda does not curve upwards and keeps what it has. Where it has nothing yet, the Jacobian
of that task is taken as I, which is the first-order gradient.

Everything here is for a block of tasks, as in ``metarl.mlp_adaptation``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

from metarl import mlp_adaptation, trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    InnerConfig,
    Lesson,
    Rounds,
    begin_stacked,
    inner_loss,
    spread,
    step_factors,
    weights_of,
)
from metarl.checks import COUNT, NON_NEGATIVE, POSITIVE, check_fields, without_effect
from metarl.distributions import Distribution, scaled
from metarl.linearisation import Linearisation
from metarl.mlp_adaptation import PoliciesAt
from metarl.objectives import OBJECTIVES
from metarl.policies import MlpPolicy, Policy, stacked_distribution
from metarl.trust_region import conjugate_gradient
from metarl.types import Adapted, Params

_Product: TypeAlias = Callable[[Params], Params]


@dataclass(frozen=True, kw_only=True)
class ProximalConfig(InnerConfig):
    """An adaptation that solves a regularised problem."""

    inner_lr: float = 0.05
    """alpha, size of the solver's steps in the first adaptation."""
    first_order: bool = False
    """Take the Jacobian of an adaptation as the identity, its limit for large lambda."""
    regularisation: float = 10.0
    """lambda, weight of the squared distance from theta."""
    inner_steps: int = 5
    """Steps of the solver in each adaptation, all on the same round."""
    cg_iterations: int = 5
    """Iterations of conjugate gradient for a product with the Jacobian."""
    cg_damping: float = 0.0
    """Added to lambda in the Jacobian alone, which brings it closer to the identity."""

    def __post_init__(self) -> None:
        # Without a step there is no solution, whose Jacobian the outer loop takes.
        check_fields(self, {"inner_lr": POSITIVE, "later_lr_scale": POSITIVE})
        super().__post_init__()
        check_fields(
            self,
            {
                "regularisation": POSITIVE,
                "inner_steps": COUNT,
                "cg_iterations": COUNT,
                "cg_damping": NON_NEGATIVE,
            },
            *without_effect(self, "first_order", False, ("cg_iterations", "cg_damping")),
        )
        check_fields(self, {}, _fault_in_step_size(self))


def _fault_in_step_size(config: ProximalConfig) -> str | None:
    """Say what is wrong with steps that overshoot theta by more than they were away from it."""
    size = config.inner_lr * max(1.0, config.later_lr_scale)
    if size * config.regularisation < 2.0:
        return None
    return (
        f"{type(config).__name__}.inner_lr times regularisation must be below 2, or the solver"
        f" swings away from theta; got {size} x {config.regularisation}"
    )


class ProximalLoop(NamedTuple):
    """What adapts to a task by solving its regularised problem, and how."""

    policy: Policy
    config: ProximalConfig

    def begin(self, theta: Params, num_tasks: int) -> Adapted:
        """Return what is known of K tasks that were never met."""
        return begin_stacked(theta, num_tasks)


def solve(loop: ProximalLoop, adapted: Adapted, lesson: Lesson) -> Adapted:
    """Approach each task's phi* by gradient steps on one round, and record no graph.

    Args:
        loop: the problem, and how many steps of which size.
        adapted: what is known of K tasks, leaves [K, ...]; the problem is solved around it.
        lesson: what the round teaches, [K, E, T, ...].

    Returns:
        What is known then: phi in the place of the weights, and one more adaptation.
    """
    policy, config = loop
    start, factor = weights_of(adapted), step_factors(adapted, config)
    size = {name: spread(config.inner_lr * factor, leaf) for name, leaf in start.items()}
    phi, objective = start, OBJECTIVES[config.inner_objective]
    for _ in range(config.inner_steps):
        slope = mlp_adaptation.loss_gradient(policy, phi, lesson, objective)
        phi = {
            name: leaf - size[name] * (slope[name] + config.regularisation * (leaf - start[name]))
            for name, leaf in phi.items()
        }
    return adapted | phi | {NUM_ADAPTATIONS: adapted[NUM_ADAPTATIONS] + 1}


def linearise(loop: ProximalLoop, theta: Params, rounds: Rounds) -> Linearisation:
    """Linearise what theta does to the distributions of a block of tasks after adaptation.

    Args:
        loop: the adaptation.
        theta: for all tasks, without K; P numbers in all.
        rounds: what the tasks adapt to, and what the result meets.

    Returns:
        The distributions [K, E, T] at the last round; the product of the transposed Jacobian with
        a cotangent of them, and that of the Fisher matrix with a vector [P], both [P] and summed
        over the block's tasks. The Jacobian is that of lemma 1 at the point that was reached, up to
        what conjugate gradient leaves.
    """
    lessons, last, weights = rounds
    adapted, chain = loop.begin(theta, len(last.obs)), []
    for lesson in lessons:
        adapted = solve(loop, adapted, lesson)
        chain.append(_jacobian(loop, weights_of(adapted), lesson))
    after = _policies_at(loop.policy, weights_of(adapted), last.obs)

    def pull(cotangent: Distribution) -> Tensor:
        slope = after.pull(cotangent)
        for through in reversed(chain):
            slope = through(slope)
        return trees.flatten(trees.sum_over_tasks({name: slope[name] for name in theta}))

    def fisher(v: Tensor) -> Tensor:
        direction = trees.stack(trees.unflatten(v, theta), len(last.obs))
        for through in chain:
            direction = through(direction)
        image = after.distribution.fisher_product(after.push(direction))  # type: ignore[arg-type]
        return pull(scaled(image, weights))

    return Linearisation(after.distribution, pull, fisher)


def _jacobian(loop: ProximalLoop, phi: Params, lesson: Lesson) -> _Product:
    """Return the product with the Jacobian of each task's solution by what it is solved around."""
    config = loop.config
    if config.first_order:
        return lambda direction: direction
    hessian = _hessian(loop.policy, config, phi, lesson)
    strength = config.regularisation + config.cg_damping
    like = {name: leaf[0] for name, leaf in phi.items()}

    def matrix(v: Tensor) -> Tensor:
        product = hessian(vmap(lambda one: trees.unflatten(one, like))(v))
        return v + _flat(product, like) / strength

    def through(direction: Params) -> Params:
        b = _flat(direction, like)
        # To the last bit, where the iterations lead there.
        tolerance = torch.finfo(b.dtype).eps ** 2
        x, curvature = conjugate_gradient(matrix, b, config.cg_iterations, tolerance)
        found = torch.where((curvature == 0.0)[:, None], b, x)
        solution: Params = vmap(lambda one: trees.unflatten(one, like))(found)
        return solution

    return through


def _flat(stacked: Params, like: Params) -> Tensor:
    """Lay the leaves [K, ...] end to end in the order of ``like``: [K, P]."""
    flat: Tensor = vmap(trees.flatten)({name: stacked[name] for name in like})
    return flat


def _hessian(policy: Policy, config: InnerConfig, phi: Params, lesson: Lesson) -> _Product:
    """Return the product with the Hessian of each task's inner loss at phi [K, ...]."""
    objective = OBJECTIVES[config.inner_objective]
    if mlp_adaptation.has_closed_form(policy, config):
        start = mlp_adaptation.inner_gradient(policy, phi, lesson, objective, twice=True)
        return partial(mlp_adaptation.hessian_product, policy, start)

    def product(params: Params, one: Lesson, direction: Params) -> Params:
        slope = grad(lambda moving: inner_loss(policy, moving, one, objective))
        image: Params = jvp(slope, (params,), (direction,))[1]
        return image

    @torch.no_grad()
    def products(direction: Params) -> Params:
        image: Params = vmap(product)(phi, lesson, direction)
        return image

    return products


def _policies_at(policy: Policy, phi: Params, obs: Tensor) -> PoliciesAt:
    """Return the policies of K tasks at obs [K, E, T, O], and their derivatives."""
    if isinstance(policy, MlpPolicy):
        return mlp_adaptation.policies_at(policy, phi, obs)

    def push(params: Params, seen: Tensor, direction: Params) -> Distribution:
        at = partial(policy.distribution, obs=seen)
        tangent: Distribution = jvp(at, (params,), (direction,))[1]
        return tangent

    def pull(params: Params, seen: Tensor, cotangent: Distribution) -> Params:
        slope: Params = vjp(partial(policy.distribution, obs=seen), params)[1](cotangent)[0]
        return slope

    with torch.no_grad():
        phi = _own_memory(phi)
        distribution = stacked_distribution(policy, phi, obs)
    return PoliciesAt(
        distribution,
        torch.no_grad()(lambda direction: vmap(push)(phi, obs, _own_memory(direction))),
        torch.no_grad()(lambda cotangent: vmap(pull)(phi, obs, cotangent)),
    )


def _own_memory(stacked: Params) -> Params:
    """Copy what tasks share: forward-mode differentiation does not take expanded leaves."""
    return {name: leaf.contiguous() for name, leaf in stacked.items()}
