"""An MDP so small that expectations are sums: two states, two actions, two steps.

Its 16 episodes are enumerated with their probabilities as differentiable functions of theta, the
weights of a softmax policy. A batch of E episodes is then one of 16^E rows of indices.
"""

import itertools

import torch
from torch import Tensor
from torch.func import vmap

from metarl import trees
from metarl.adaptation import InnerConfig, InnerLoop, Lesson, adapt_stacked, begin_stacked
from metarl.objectives import InnerObjective
from metarl.policies import CategoricalPolicy, PolicyConfig
from metarl.types import Params

HORIZON, ALPHA = 2, 0.75
START = torch.tensor([0.375, 0.625], dtype=torch.float64)
MOVE = torch.tensor([[[0.875, 0.125], [0.25, 0.75]], [[0.5, 0.5], [0.125, 0.875]]]).double()
"""[state, action, next state]."""
PAY = torch.tensor([[1.0, -0.5], [0.25, 3.0]], dtype=torch.float64)
"""[state, action]."""

_TUPLES = torch.tensor(list(itertools.product((0, 1), repeat=4)))
STATE, ACTION = _TUPLES[:, ::2], _TUPLES[:, 1::2]
"""[16 episodes, 2 steps]."""
REWARD = PAY[STATE, ACTION]
TO_GO = REWARD.flip(-1).cumsum(-1).flip(-1)
VALUE = torch.tensor([[1.5, 2.5], [0.5, 1.25]], dtype=torch.float64)[torch.arange(2), STATE]
"""A baseline that knows time and state, [16, 2]; not the value of this policy."""
MASK = torch.ones(16, HORIZON, dtype=torch.bool)

POLICY = CategoricalPolicy((2, 2), PolicyConfig(hidden_sizes=()))
LIKE: Params = {
    "layer0.weight": torch.zeros(2, 2, dtype=torch.float64),
    "layer0.bias": torch.zeros(2, dtype=torch.float64),
}
OBS = torch.eye(2, dtype=torch.float64)[STATE]
THETA = torch.tensor([0.3, -0.4, 0.5, 0.2, -0.1, 0.4], dtype=torch.float64)


def log_probs(theta: Tensor) -> Tensor:
    """Return log pi(a_t|s_t) of every episode, [16, 2]."""
    return POLICY.distribution(trees.unflatten(theta, LIKE), OBS).log_prob(ACTION)


def chance(theta: Tensor) -> Tensor:
    """Return the probability of every episode, [16]."""
    dynamics = START[STATE[:, 0]] * MOVE[STATE[:, 0], ACTION[:, 0], STATE[:, 1]]
    return dynamics * log_probs(theta).sum(-1).exp()


def expected_return(theta: Tensor) -> Tensor:
    """Return J(theta): undiscounted return per step."""
    return chance(theta) @ TO_GO[:, 0] / HORIZON


def batches(episodes: int) -> Tensor:
    """Return every batch of E episodes, as indices [16^E, E]."""
    return torch.cartesian_prod(*[torch.arange(16)] * episodes).view(-1, episodes)


def lessons(batch: Tensor, old: Tensor, advantage: Tensor) -> Lesson:
    """Make a task of every batch [B, E], whose policy that acted was ``old`` [6] or [B, 6]."""
    acted = vmap(log_probs)(old.expand(len(batch), 6)).gather(
        1, batch[..., None].expand(-1, -1, HORIZON)
    )
    return Lesson(OBS[batch], ACTION[batch], acted.detach(), advantage[batch], MASK[batch])


def adapt(theta: Tensor, lesson: Lesson, name: InnerObjective) -> Tensor:
    """Adapt theta [6] or [B, 6] to B tasks; return [B, 6]."""
    num_tasks = len(lesson.obs)
    weights: Params = vmap(lambda row: trees.unflatten(row, LIKE))(theta.expand(num_tasks, 6))
    loop = InnerLoop(POLICY, InnerConfig(inner_lr=ALPHA, inner_objective=name))
    result = adapt_stacked(loop, begin_stacked(LIKE, num_tasks) | weights, lesson)
    adapted: Tensor = vmap(trees.flatten)({leaf: result[leaf] for leaf in LIKE})
    return adapted
