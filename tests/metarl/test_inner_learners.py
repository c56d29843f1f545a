"""Inner learners against torch's optimisers and a loss written out, task by task."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.adaptation import NUM_ADAPTATIONS, InnerLoop, Lesson, adapt_stacked, weights_of
from metarl.checks import InputError
from metarl.distributions import Distribution
from metarl.inner_learners import LearnerConfig, LearnerName, begin_learning, learn
from metarl.meta_gradient import Blocks
from metarl.optimizers import OptimizerName
from metarl.policies import Policy, PolicyConfig, build_policy
from metarl.seeding import Streams
from metarl.types import Adapted, EnvSpec, Params
from tests.conftest import far_from_symmetric, random_lesson

K, E, T = 3, 5, 4
CLIP = 0.2


class Plain:
    """A policy that is no perceptron to the closed forms."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def init(self, streams: Streams) -> Params:
        return self.policy.init(streams)

    def distribution(self, params: Params, obs: Tensor) -> Distribution:
        return self.policy.distribution(params, obs)


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 2, discrete, T, False)


def config(
    learner: LearnerName, optimizer: OptimizerName, beta1: float = 0.0, lr: float = 0.2
) -> LearnerConfig:
    more: dict[str, Any] = {}
    if learner == "ppo":
        more |= {"inner_epochs": 3, "inner_minibatches": 2}
    if optimizer == "adam":
        more |= {"inner_beta1": beta1, "inner_beta2": 0.9}
    return LearnerConfig(
        inner_learner=learner,
        inner_optimizer=optimizer,
        inner_lr=lr,
        later_lr_scale=0.5,
        **more,
    )


def lessons_of(discrete: bool, number: int) -> list[Lesson]:
    return [random_lesson((K, E, T), spec(discrete), seed) for seed in range(number)]


def by_hand(
    policy: Policy, config: LearnerConfig, theta: Params, lessons: list[Lesson], task: int
) -> Params:
    """One task by torch's optimiser, with the losses written out sample by sample."""
    weights = {name: leaf.clone().requires_grad_() for name, leaf in theta.items()}
    if config.inner_optimizer == "adam":
        betas = (config.inner_beta1, config.inner_beta2)
        optimizer: torch.optim.Optimizer = torch.optim.Adam(weights.values(), 0.2, betas)
    else:
        optimizer = torch.optim.SGD(weights.values(), 0.2)
    for number, lesson in enumerate(lessons):
        for group in optimizer.param_groups:
            group["lr"] = 0.2 if number == 0 else 0.1
        for step in range(6 if config.inner_learner == "ppo" else 1):
            terms = []
            every = 2 if config.inner_learner == "ppo" else 1
            for episode in range(step % every, E, every):
                for time in range(T):
                    if not lesson.mask[task, episode, time]:
                        continue
                    at = (task, episode, time)
                    new = policy.distribution(weights, lesson.obs[at]).log_prob(lesson.action[at])
                    gain = lesson.advantage[at]
                    if config.inner_learner == "ppo":
                        ratio = torch.exp(new - lesson.log_prob[at])
                        terms.append(min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain))
                    else:
                        terms.append(new * gain)
            optimizer.zero_grad()
            (-torch.stack(terms).mean()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {name: leaf.detach() for name, leaf in weights.items()}


def begin(loop: InnerLoop, config: LearnerConfig, theta: Params) -> Adapted:
    return begin_learning(loop, config, loop.begin(theta, K), E)


LEARNERS: list[tuple[LearnerName, OptimizerName, float]] = [
    ("policy_gradient", "adam", 0.0),
    ("policy_gradient", "adam", 0.7),
    ("policy_gradient", "sgd", 0.0),
    ("ppo", "adam", 0.0),
    ("ppo", "adam", 0.7),
    ("ppo", "sgd", 0.0),
]


@pytest.mark.parametrize(
    ("learner", "discrete", "closed"),
    list(itertools.product(LEARNERS, [False, True], [False, True])),
)
def test_all_tasks_at_once_are_torchs_optimiser_task_by_task(
    learner: tuple[LearnerName, OptimizerName, float], discrete: bool, closed: bool
) -> None:
    built = build_policy(spec(discrete), PolicyConfig(hidden_sizes=(4,), init_std=0.7))
    policy = built if closed else Plain(built)
    theta, lessons = far_from_symmetric(built.init(Streams(0))), lessons_of(discrete, 2)
    settings = config(*learner)
    loop = InnerLoop(policy, settings)
    adapted = begin(loop, settings, theta)
    for lesson in lessons:
        adapted = learn(loop, settings, adapted, lesson, Blocks(cpu_floats=1))
    assert (adapted[NUM_ADAPTATIONS] == 2).all()
    assert weights_of(adapted).keys() == theta.keys()
    for task in range(K):
        expected = by_hand(policy, settings, theta, lessons, task)
        for name, leaf in expected.items():
            torch.testing.assert_close(adapted[name][task], leaf, rtol=1e-7, atol=1e-9)


def test_one_plain_step_is_the_step_of_all_gradient_agents() -> None:
    policy = build_policy(spec(False), PolicyConfig(hidden_sizes=(4,)))
    theta, (lesson,) = far_from_symmetric(policy.init(Streams(0))), lessons_of(False, 1)
    settings = config("policy_gradient", "sgd")
    loop = InnerLoop(policy, settings)
    learned = learn(loop, settings, begin(loop, settings, theta), lesson)
    torch.testing.assert_close(learned, adapt_stacked(loop, loop.begin(theta, K), lesson))


def test_what_is_frozen_stays_and_is_not_remembered() -> None:
    policy = build_policy(spec(False), PolicyConfig(hidden_sizes=(4,)))
    theta, (lesson,) = far_from_symmetric(policy.init(Streams(0))), lessons_of(False, 1)
    settings = config("ppo", "adam", 0.5)
    loop = InnerLoop(policy, settings, frozen=frozenset({"log_std"}))
    adapted = begin(loop, settings, theta)
    learned = learn(loop, settings, adapted, lesson)
    assert learned.keys() == adapted.keys()
    assert not any("log_std" in name for name in learned if name != "log_std")
    changed = {name for name in theta if not torch.equal(learned[name], adapted[name])}
    assert changed == theta.keys() - {"log_std"}


def test_in_single_precision_adams_first_step_has_its_size() -> None:
    policy = build_policy(spec(False), PolicyConfig(hidden_sizes=(4,)))
    theta = {n: leaf.float() for n, leaf in far_from_symmetric(policy.init(Streams(0))).items()}
    (lesson,) = lessons_of(False, 1)
    single = Lesson(*(x.float() if x.is_floating_point() else x for x in lesson))
    settings = LearnerConfig(inner_optimizer="adam", inner_lr=0.01)
    loop = InnerLoop(policy, settings)
    learned = learn(loop, settings, begin(loop, settings, theta), single)
    for name, leaf in theta.items():
        assert learned[name].dtype == torch.float32
        size = (learned[name] - leaf).abs()
        torch.testing.assert_close(size, torch.full_like(size, 0.01), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"inner_beta1": 0.9}, "inner_beta1=0.9 has no effect with inner_optimizer='sgd'"),
        ({"inner_epochs": 3}, "inner_epochs=3 has no effect with inner_learner='policy_gradient'"),
        (
            {"inner_learner": "ppo", "inner_objective": "ratio"},
            "inner_objective='ratio' has no effect with inner_learner='ppo'",
        ),
        ({"inner_learner": "pppo"}, "inner_learner: no 'pppo'; did you mean 'ppo'"),
        ({"inner_optimizer": "rmsprop"}, "inner_optimizer: no 'rmsprop'"),
        ({"inner_optimizer": "adam", "inner_beta1": 1.0}, "inner_beta1 must be a number from 0"),
        ({"inner_learner": "ppo", "inner_clip": 0.0}, "inner_clip must be a number above 0"),
        ({"inner_learner": "ppo", "inner_epochs": 0}, "inner_epochs must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"LearnerConfig.{said}"):
        LearnerConfig(**fields)


def test_more_minibatches_than_episodes_are_refused() -> None:
    policy = build_policy(spec(False), PolicyConfig(hidden_sizes=(4,)))
    settings = LearnerConfig(inner_learner="ppo", inner_minibatches=6)
    loop = InnerLoop(policy, settings)
    with pytest.raises(InputError, match=r"inner_minibatches=6 needs as many episodes.*got 5"):
        begin(loop, settings, policy.init(Streams(0)))
