"""Objectives against the enumerated expectation of a bandit: two arms, one pull.

Every outcome stands in the batch as often as its probability says, so means are expectations.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev

from metarl import trees
from metarl.adaptation import InnerConfig, InnerLoop, Lesson, adapt_stacked, begin_stacked
from metarl.objectives import OBJECTIVES, InnerObjective
from metarl.policies import CategoricalPolicy, PolicyConfig
from metarl.types import Params

NAMES: list[InnerObjective] = ["log_likelihood", "ratio", "dice"]

PULL = (0.25, 0.75)
"""Probability of each arm under the policy that acts."""
PAYS = torch.tensor([0.5, 0.25], dtype=torch.float64)
"""Probability that an arm pays 1."""
OUTCOMES = [(0, 1)] * 2 + [(0, 0)] * 2 + [(1, 1)] * 3 + [(1, 0)] * 9
"""(arm, reward) in sixteenths."""
LIKE: Params = {
    "layer0.weight": torch.zeros(1, 2, dtype=torch.float64),
    "layer0.bias": torch.zeros(2, dtype=torch.float64),
}
THETA = torch.tensor([0.0, 0.3, math.log(0.25), math.log(0.75) - 0.3], dtype=torch.float64)
TABULAR = CategoricalPolicy((1, 2), PolicyConfig(hidden_sizes=()))


def enumerated(baseline: float) -> Lesson:
    """Sixteen pulls whose plain mean is the exact expectation, and one that is padding."""
    arm = torch.tensor([a for a, _ in OUTCOMES] + [0])
    reward = torch.tensor([r for _, r in OUTCOMES] + [5], dtype=torch.float64)
    return Lesson(
        obs=torch.ones(17, 1, 1, dtype=torch.float64),
        action=arm[:, None],
        log_prob=torch.tensor(PULL, dtype=torch.float64).log()[arm][:, None],
        advantage=reward[:, None] - baseline,
        mask=(torch.arange(17) < 16)[:, None],
    )


def log_probs(theta: Tensor) -> Tensor:
    return torch.log_softmax(theta[:2] + theta[2:], -1)


def expected_return(theta: Tensor) -> Tensor:
    return log_probs(theta).exp() @ PAYS


def surrogate(name: str, lesson: Lesson, theta: Tensor) -> Tensor:
    chosen = TABULAR.distribution(trees.unflatten(theta, LIKE), lesson.obs)
    log_prob = chosen.log_prob(lesson.action)
    return OBJECTIVES[name](log_prob, lesson.log_prob, lesson.advantage, lesson.mask)


def missing_term(baseline: float) -> Tensor:
    """E[A grad log pi grad log pi^T], enumerated."""
    scores = jacrev(log_probs)(THETA)
    probs = torch.tensor(PULL, dtype=torch.float64)
    return torch.einsum("a,a,ai,aj->ij", probs, PAYS - baseline, scores, scores)


def test_the_enumeration_is_exact() -> None:
    assert log_probs(THETA).exp().tolist() == pytest.approx(PULL)
    assert sum(r for _, r in OUTCOMES) / 16 == pytest.approx(float(expected_return(THETA)))


@pytest.mark.parametrize("baseline", [0.0, 0.3])
@pytest.mark.parametrize("name", NAMES)
def test_all_surrogates_have_the_gradient_of_the_expected_return(
    name: str, baseline: float
) -> None:
    lesson, expected = enumerated(baseline), grad(expected_return)(THETA)
    assert expected.norm() > 0.05
    torch.testing.assert_close(grad(lambda x: surrogate(name, lesson, x))(THETA), expected)


@pytest.mark.parametrize("baseline", [0.0, 0.3])
@pytest.mark.parametrize("name", ["ratio", "dice"])
def test_others_have_its_hessian_and_log_likelihood_lacks_one_term(
    name: str, baseline: float
) -> None:
    lesson, expected = enumerated(baseline), hessian(expected_return)(THETA)
    lacking = missing_term(baseline)
    assert lacking.norm() > 0.01
    by_other = hessian(lambda x: surrogate(name, lesson, x))(THETA)
    by_likelihood = hessian(lambda x: surrogate("log_likelihood", lesson, x))(THETA)
    torch.testing.assert_close(by_other, expected)
    torch.testing.assert_close(by_likelihood + lacking, expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_meta_gradient_sees_of_an_adaptation(name: InnerObjective) -> None:
    """For theta' = theta + alpha grad J(theta) the Jacobian is I + alpha (Hessian as kept)."""
    lesson = Lesson(*(field[None] for field in enumerated(0.0)))
    config = InnerConfig(inner_lr=0.5, inner_objective=name)

    def adapted(theta: Tensor) -> Tensor:
        start = begin_stacked(trees.unflatten(theta, LIKE), 1)
        result = adapt_stacked(InnerLoop(TABULAR, config), start, lesson)
        return trees.flatten({leaf: result[leaf][0] for leaf in LIKE})

    torch.testing.assert_close(adapted(THETA), THETA + 0.5 * grad(expected_return)(THETA))
    kept = hessian(expected_return)(THETA)
    if name == "log_likelihood":
        kept = kept - missing_term(0.0)
    expected = torch.eye(4, dtype=torch.float64) + 0.5 * kept
    torch.testing.assert_close(jacrev(adapted)(THETA), expected)
