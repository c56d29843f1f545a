"""The inner loop: by hand, task by task, over two rounds, and without padding."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.func import jacrev

from metarl import trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    AdvantageConfig,
    InnerConfig,
    InnerLoop,
    Lesson,
    adapt_stacked,
    begin_stacked,
    gradient_step,
    prepare,
)
from metarl.baselines import linear_values
from metarl.distributions import Categorical
from metarl.objectives import InnerObjective
from metarl.policies import (
    CategoricalPolicy,
    GaussianPolicy,
    Policy,
    PolicyConfig,
    stacked_distribution,
)
from metarl.returns import generalised_advantages
from metarl.seeding import Streams
from metarl.types import Adapted, Params, Trajectories

TASKS, EPISODES, HORIZON = 3, 2, 4
LENGTHS = torch.tensor([[4, 2], [3, 3], [1, 4]])
ADVANTAGES = AdvantageConfig(discount=0.9, gae_lambda=0.8, baseline_ridge=1e-3)
OBJECTIVES: list[InnerObjective] = ["log_likelihood", "ratio", "dice"]

combinations = pytest.mark.parametrize(
    ("discrete", "objective"), list(itertools.product([False, True], OBJECTIVES))
)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny_policy(discrete: bool) -> Policy:
    if discrete:
        return CategoricalPolicy((2, 3, 3), PolicyConfig())
    return GaussianPolicy((2, 3, 2), PolicyConfig(init_std=0.7))


def fresh(policy: Policy) -> Adapted:
    """Not adapted yet, but with weights that differ from task to task."""
    start = begin_stacked(policy.init(Streams(0)), TASKS)
    weights = {
        name: leaf.double() + 0.3 * random(*leaf.shape, seed=i)
        for i, (name, leaf) in enumerate(start.items())
        if name != NUM_ADAPTATIONS
    }
    return weights | {NUM_ADAPTATIONS: start[NUM_ADAPTATIONS]}


def round_of(discrete: bool, seed: int = 50) -> Trajectories:
    """Random experience; one episode dies, one is cut short, the others end by time."""
    shape = (TASKS, EPISODES, HORIZON)
    mask = torch.arange(HORIZON) < LENGTHS[..., None]
    generator = torch.Generator().manual_seed(seed)
    terminated = torch.zeros_like(mask)
    terminated[0, 1, 1] = True
    return Trajectories(
        task_id=torch.full((TASKS,), -1),
        obs=random(TASKS, EPISODES, HORIZON + 1, 2, seed=seed + 1),
        action=(
            torch.randint(3, shape, generator=generator)
            if discrete
            else random(*shape, 2, seed=seed + 2)
        ),
        log_prob=-1.5 + 0.3 * random(*shape, seed=seed + 3),
        reward=random(*shape, seed=seed + 4) * mask,
        terminated=terminated,
        mask=mask,
        faulty=torch.zeros(TASKS, EPISODES, dtype=torch.bool),
        success=torch.full((TASKS, EPISODES), -1, dtype=torch.int8),
    )


def one_step(loop: InnerLoop, params: Params, lesson: Lesson, size: float) -> Params:
    """Take one step in one task, with the same size for every weight."""
    weights = {name: leaf for name, leaf in params.items() if name != NUM_ADAPTATIONS}
    return gradient_step(loop, weights, lesson, dict.fromkeys(weights, torch.tensor(size)))


def task_of(adapted: Adapted, task: int) -> Params:
    return {name: leaf[task] for name, leaf in adapted.items() if name != NUM_ADAPTATIONS}


@combinations
def test_batched_equals_task_by_task(discrete: bool, objective: InnerObjective) -> None:
    policy, config = tiny_policy(discrete), InnerConfig(inner_lr=0.25, inner_objective=objective)
    params, lesson = fresh(policy), prepare(round_of(discrete), ADVANTAGES)
    together = adapt_stacked(InnerLoop(policy, config), params, lesson)
    for task in range(TASKS):
        one = Lesson(*(field[task] for field in lesson))
        alone = one_step(InnerLoop(policy, config), task_of(params, task), one, 0.25)
        assert {*alone, NUM_ADAPTATIONS} == set(together)
        for name, leaf in alone.items():
            torch.testing.assert_close(together[name][task], leaf, rtol=1e-12, atol=1e-14)
            assert not torch.equal(leaf, params[name][task])


def objective_by_loop(
    policy: Policy, params: Params, lesson: Lesson, task: int, objective: InnerObjective
) -> Tensor:
    """One task's surrogate, summed step by step with torch.distributions."""
    terms = []
    for episode in range(EPISODES):
        box = torch.ones((), dtype=torch.float64)
        for t in range(int(LENGTHS[task, episode])):
            at = (task, episode, t)
            described = policy.distribution(params, lesson.obs[at])
            theirs: torch.distributions.Distribution
            if isinstance(described, Categorical):
                theirs = torch.distributions.Categorical(logits=described.logits)
            else:
                theirs = torch.distributions.Normal(described.mean, described.log_std.exp())
            log_prob = theirs.log_prob(lesson.action[at]).sum()  # type: ignore[no-untyped-call]
            rho = torch.exp(log_prob - lesson.log_prob[at])
            weights = {"log_likelihood": log_prob, "ratio": rho, "dice": box * rho - box}
            weight, box = weights[objective], box * rho
            terms.append(weight * lesson.advantage[at])
    return torch.stack(terms).mean()


@combinations
def test_a_step_climbs_the_surrogate(discrete: bool, objective: InnerObjective) -> None:
    policy, config = tiny_policy(discrete), InnerConfig(inner_lr=0.25, inner_objective=objective)
    params, lesson = fresh(policy), prepare(round_of(discrete), ADVANTAGES)
    result = adapt_stacked(InnerLoop(policy, config), params, lesson)
    for task in range(TASKS):
        leaves = {n: x.clone().requires_grad_() for n, x in task_of(params, task).items()}
        value = objective_by_loop(policy, leaves, lesson, task, objective)
        gradient = torch.autograd.grad(value, list(leaves.values()))
        for (name, leaf), slope in zip(leaves.items(), gradient, strict=True):
            torch.testing.assert_close(result[name][task], leaf.detach() + 0.25 * slope)


def softmax_step(logits: Tensor, lesson: Lesson, task: int, ratio: bool) -> Tensor:
    """logits + 0.5 mean(rho A (onehot - p)) of a policy that sees nothing."""
    probs, total, count = logits.softmax(-1), torch.zeros(3, dtype=torch.float64), 0
    for episode in range(EPISODES):
        for t in range(int(LENGTHS[task, episode])):
            action = int(lesson.action[task, episode, t])
            rho = probs[action] / lesson.log_prob[task, episode, t].exp() if ratio else 1.0
            onehot = torch.eye(3, dtype=torch.float64)[action]
            total += rho * lesson.advantage[task, episode, t] * (onehot - probs)
            count += 1
    return logits + 0.5 * total / count


@pytest.mark.parametrize("objective", ["log_likelihood", "ratio"])
def test_two_steps_of_a_softmax_by_hand(objective: InnerObjective) -> None:
    policy = CategoricalPolicy((2, 3), PolicyConfig(hidden_sizes=()))
    config = InnerConfig(inner_lr=0.5, inner_objective=objective)
    adapted = fresh(policy)
    logits = adapted["layer0.bias"].clone()
    for seed in (50, 60):
        lesson = prepare(round_of(True, seed), ADVANTAGES)
        lesson = lesson._replace(obs=torch.zeros_like(lesson.obs))
        adapted = adapt_stacked(InnerLoop(policy, config), adapted, lesson)
        rows = [softmax_step(logits[k], lesson, k, objective == "ratio") for k in range(TASKS)]
        logits = torch.stack(rows)
        torch.testing.assert_close(adapted["layer0.bias"], logits)


@pytest.mark.parametrize("discrete", [False, True])
def test_the_ratio_divides_by_the_policy_that_acted_in_that_round(discrete: bool) -> None:
    # There all surrogates have one gradient; with any other denominator they part.
    policy = tiny_policy(discrete)
    params = {objective: fresh(policy) for objective in OBJECTIVES}
    for seed in (50, 60):
        batch = round_of(discrete, seed)
        actors = stacked_distribution(policy, params["ratio"], batch.obs[:, :, :-1])
        lesson = prepare(batch._replace(log_prob=actors.log_prob(batch.action)), ADVANTAGES)
        stale = lesson._replace(log_prob=lesson.log_prob - 0.5)
        config = InnerConfig(inner_lr=0.25, inner_objective="ratio")
        wrong = adapt_stacked(InnerLoop(policy, config), params["ratio"], stale)
        for objective in OBJECTIVES:
            config = InnerConfig(inner_lr=0.25, inner_objective=objective)
            params[objective] = adapt_stacked(InnerLoop(policy, config), params[objective], lesson)
        for name, leaf in params["log_likelihood"].items():
            torch.testing.assert_close(params["ratio"][name], leaf, rtol=1e-11, atol=1e-13)
            assert name == NUM_ADAPTATIONS or not torch.allclose(wrong[name], leaf)


@combinations
def test_first_order_makes_the_jacobian_the_identity(
    discrete: bool, objective: InnerObjective
) -> None:
    policy = tiny_policy(discrete)
    like = task_of(fresh(policy), 0)
    lessons = [prepare(round_of(discrete, seed), ADVANTAGES) for seed in (50, 60)]

    def adapted(theta: Tensor, first_order: bool) -> Tensor:
        config = InnerConfig(inner_lr=0.25, inner_objective=objective, first_order=first_order)
        params = begin_stacked(trees.unflatten(theta, like), TASKS)
        for lesson in lessons:
            params = adapt_stacked(InnerLoop(policy, config), params, lesson)
        return torch.stack([trees.flatten(task_of(params, k)) for k in range(TASKS)])

    theta = trees.flatten(like)
    assert torch.equal(adapted(theta, True), adapted(theta, False))
    identity = torch.eye(len(theta), dtype=torch.float64)
    first, full = (jacrev(adapted)(theta, first_order) for first_order in (True, False))
    by_autograd = jacobian(lambda x: adapted(x, True), theta)  # type: ignore[no-untyped-call]
    for task in range(TASKS):
        assert torch.equal(first[task], identity)
        assert torch.equal(by_autograd[task], identity)
        assert (full[task] - identity).abs().max() > 1e-3


def test_steps_after_the_first_have_a_size_of_their_own() -> None:
    policy, lesson = tiny_policy(False), prepare(round_of(False), ADVANTAGES)
    scaled = InnerConfig(inner_lr=0.25, later_lr_scale=0.5)
    sizes, adapted = [0.25, 0.125, 0.125], fresh(policy)
    for count, size in enumerate(sizes):
        assert adapted[NUM_ADAPTATIONS].tolist() == [count] * TASKS
        same = adapted | {NUM_ADAPTATIONS: torch.zeros(TASKS)}
        expected = adapt_stacked(InnerLoop(policy, InnerConfig(inner_lr=size)), same, lesson)
        adapted = adapt_stacked(InnerLoop(policy, scaled), adapted, lesson)
        for name in adapted.keys() - {NUM_ADAPTATIONS}:
            torch.testing.assert_close(adapted[name], expected[name], rtol=1e-12, atol=1e-14)
    # Tasks that have adapted unequally often each have their own size.
    mixed = fresh(policy) | {NUM_ADAPTATIONS: torch.tensor([0.0, 1.0, 2.0])}
    result = adapt_stacked(InnerLoop(policy, scaled), mixed, lesson)
    for task, size in enumerate(sizes):
        one = Lesson(*(field[task] for field in lesson))
        alone = one_step(InnerLoop(policy, scaled), task_of(mixed, task), one, size)
        for name, leaf in alone.items():
            torch.testing.assert_close(result[name][task], leaf, rtol=1e-12, atol=1e-14)
    assert result[NUM_ADAPTATIONS].tolist() == [1.0, 2.0, 3.0]


@combinations
def test_a_step_of_size_zero_changes_nothing(discrete: bool, objective: InnerObjective) -> None:
    policy, config = tiny_policy(discrete), InnerConfig(inner_lr=0.0, inner_objective=objective)
    params, lesson = fresh(policy), prepare(round_of(discrete), ADVANTAGES)
    result = adapt_stacked(InnerLoop(policy, config), params, lesson)
    for name in result.keys() - {NUM_ADAPTATIONS}:
        assert torch.equal(result[name], params[name])


def test_a_lesson_is_made_of_the_round_alone() -> None:
    batch = round_of(discrete=False)
    lesson = prepare(batch, ADVANTAGES)
    value = linear_values(batch, 0.9, 1e-3)
    raw = generalised_advantages(batch.reward, value, batch.terminated, batch.mask, 0.9, 0.8)
    for task in range(TASKS):
        kept = raw[task][batch.mask[task]]
        expected = (kept - kept.mean()) / kept.std(correction=0)
        torch.testing.assert_close(
            lesson.advantage[task][batch.mask[task]], expected, rtol=1e-6, atol=1e-9
        )
    assert torch.equal(lesson.obs, batch.obs[:, :, :-1])
    for field in ("action", "log_prob", "mask"):
        assert torch.equal(getattr(lesson, field), getattr(batch, field))
    # Neither what the policy was (action, log_prob) nor the other tasks enter an advantage.
    other = batch._replace(action=batch.action + 1.0, log_prob=batch.log_prob - 1.0)
    other.reward[1:] *= -3.0
    moved = prepare(other, ADVANTAGES)
    torch.testing.assert_close(moved.advantage[0], lesson.advantage[0], rtol=1e-12, atol=1e-14)
    assert not any(field.requires_grad for field in moved)


@combinations
def test_padded_steps_do_not_matter(discrete: bool, objective: InnerObjective) -> None:
    policy, config = tiny_policy(discrete), InnerConfig(inner_lr=0.25, inner_objective=objective)
    params, batch = fresh(policy), round_of(discrete)
    first = torch.ones(TASKS, EPISODES, 1, dtype=torch.bool)
    real = torch.cat((first, batch.mask), -1)[..., None]  # also where the last step led
    padded = ~batch.mask if discrete else ~batch.mask[..., None]
    spoilt = batch._replace(
        obs=torch.where(real, batch.obs, 30.0),
        action=torch.where(padded, 2 if discrete else 500.0, batch.action),
        log_prob=torch.where(batch.mask, batch.log_prob, -1e6),
        reward=torch.where(batch.mask, batch.reward, 70.0),
    )
    plain = adapt_stacked(InnerLoop(policy, config), params, prepare(batch, ADVANTAGES))
    dirty = adapt_stacked(InnerLoop(policy, config), params, prepare(spoilt, ADVANTAGES))
    for name, leaf in plain.items():
        torch.testing.assert_close(dirty[name], leaf, rtol=1e-12, atol=1e-14)
