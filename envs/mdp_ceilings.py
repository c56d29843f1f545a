"""What can be reached in tabular MDPs: by who knows the MDP, and by who knows their family.

For S states, A actions, horizon T, transitions P(s' | s, a) and mean rewards r(s, a), with no
discount and a start in state 0:

**Value iteration** knows the MDP: V_T = 0 and, backwards in time,
Q_t(s, a) = r(s, a) + sum_s' P(s' | s, a) V_{t+1}(s'), V_t(s) = max_a Q_t(s, a); exact.

**PSRL** (Strens 2000; Osband, Russo and Van Roy 2013) knows the family. Before each episode it
draws an MDP from its posterior, solves it by value iteration, and follows that policy for the
episode. The priors are those that the tasks are drawn from: P(. | s, a) ~ Dirichlet(1), whose
posterior adds the counts of transitions; r(s, a) ~ N(1, 1) with rewards N(r, 1), whose posterior
after n rewards with sum x is N((1 + x) / (1 + n), 1 / (1 + n)).

**Greedy** knows the family too, and neither plans nor explores on purpose: at every step it takes
the action that is expected to pay best in the present state, of the highest posterior mean
(1 + x) / (1 + n). Where every action leads nearly anywhere it loses little by not planning.

An episode's return is the exact expectation, in the true MDP, of the policy that was followed;
greedy's, which changes from step to step, is the sum of the mean rewards of what it did. Ties go to
the first action.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from metarl.envs.tabular import TabularMDPConfig
from metarl.seeding import Streams
from metarl.types import Tasks


class MDP(NamedTuple):
    """K finite MDPs."""

    reward_mean: Tensor
    """[K, S, A]."""
    transition: Tensor
    """[K, S, A, S], P(s' | s, a)."""


class Knowledge(NamedTuple):
    """What has been seen of K MDPs; sums over all steps so far."""

    visits: Tensor
    """[K, S, A, S] float64, how often (s, a) led to s'."""
    total: Tensor
    """[K, S, A] float64, sum of the rewards of (s, a)."""


def value_iteration(mdp: MDP, horizon: int) -> tuple[Tensor, Tensor]:
    """Return the best expected return [K] from state 0, and the policy [K, T, S] int64."""
    value, policy = torch.zeros_like(mdp.reward_mean[..., 0]), []
    for _ in range(horizon):
        value, action = _backed_up(mdp, value).max(-1)
        policy.append(action)
    return value[:, 0], torch.stack(policy[::-1], 1)


def policy_value(mdp: MDP, policy: Tensor) -> Tensor:
    """Return the expected return [K] of a policy [K, T, S] from state 0."""
    value = torch.zeros_like(mdp.reward_mean[..., 0])
    for action in reversed(policy.unbind(1)):
        value = _backed_up(mdp, value).gather(-1, action[..., None])[..., 0]
    return value[:, 0]


def random_value(mdp: MDP, horizon: int) -> Tensor:
    """Return the expected return [K] of actions at random: the floor."""
    value = torch.zeros_like(mdp.reward_mean[..., 0])
    for _ in range(horizon):
        value = _backed_up(mdp, value).mean(-1)
    return value[:, 0]


def psrl(mdp: MDP, horizon: int, episodes: int, streams: Streams) -> Tensor:
    """Run PSRL for a number of episodes; return the expected return [K, episodes] of each."""
    mdp, knowledge, streams = _at_the_start(mdp, streams)
    returns = []
    for episode in range(episodes):
        here = streams.at("episode", episode)
        _, policy = value_iteration(sample_mdp(knowledge, here), horizon)
        returns.append(policy_value(mdp, policy))
        _play(mdp, partial(_by_policy, policy), knowledge, horizon, here)
    return torch.stack(returns, -1)


def greedy(mdp: MDP, horizon: int, episodes: int, streams: Streams) -> Tensor:
    """Take what is expected to pay best at once; return the mean rewards [K, episodes] of that."""
    mdp, knowledge, streams = _at_the_start(mdp, streams)
    task = torch.arange(len(mdp.reward_mean), device=mdp.reward_mean.device)

    def choose(_time: int, state: Tensor) -> Tensor:
        return reward_posterior(knowledge)[0][task, state].argmax(-1)

    returns = [
        _play(mdp, choose, knowledge, horizon, streams.at("episode", episode))
        for episode in range(episodes)
    ]
    return torch.stack(returns, -1)


def sample_mdp(knowledge: Knowledge, streams: Streams) -> MDP:
    """Draw K MDPs from the posterior."""
    gamma = streams.gamma("transition", knowledge.visits + 1.0)
    mean, deviation = reward_posterior(knowledge)
    noise = streams.normal("reward mean", len(mean), tuple(mean.shape[1:])).double()
    return MDP(mean + deviation * noise, gamma / gamma.sum(-1, keepdim=True))


def reward_posterior(knowledge: Knowledge) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation [K, S, A] of what the mean rewards may be."""
    precision = 1.0 + knowledge.visits.sum(-1)
    return (1.0 + knowledge.total) / precision, precision.rsqrt()


def _at_the_start(mdp: MDP, streams: Streams) -> tuple[MDP, Knowledge, Streams]:
    """Return the MDPs in float64, knowing nothing of them, and streams where they lie."""
    mdp = MDP(mdp.reward_mean.double(), mdp.transition.double())
    knowledge = Knowledge(torch.zeros_like(mdp.transition), torch.zeros_like(mdp.reward_mean))
    return mdp, knowledge, streams._replace(device=str(mdp.reward_mean.device))


def _play(
    mdp: MDP,
    choose: Callable[[int, Tensor], Tensor],
    knowledge: Knowledge,
    horizon: int,
    streams: Streams,
) -> Tensor:
    """Play an episode by actions [K] chosen at a time and in states [K].

    What is seen is added to the knowledge, in place.

    Returns:
        The sum [K] of the mean rewards of what was done.
    """
    num_tasks = len(mdp.reward_mean)
    reward_noise = streams.normal("reward", num_tasks, (horizon,))
    next_noise = streams.uniform("next state", num_tasks, (horizon,))
    cumulative = mdp.transition.cumsum(-1)
    task = torch.arange(num_tasks, device=mdp.reward_mean.device)
    state, earned = torch.zeros_like(task), torch.zeros_like(mdp.reward_mean[:, 0, 0])
    for time in range(horizon):
        at = (task, state, choose(time, state))
        earned = earned + mdp.reward_mean[at]
        knowledge.total[at] += mdp.reward_mean[at] + reward_noise[:, time]
        state = (next_noise[:, time, None] >= cumulative[at][:, :-1]).sum(-1)
        knowledge.visits[(*at, state)] += 1.0
    return earned


def _by_policy(policy: Tensor, time: int, state: Tensor) -> Tensor:
    return policy[:, time].gather(-1, state[:, None])[:, 0]


def _backed_up(mdp: MDP, value: Tensor) -> Tensor:
    """Return Q [K, S, A] from the values [K, S] of the states that follow."""
    return mdp.reward_mean + (mdp.transition @ value[:, None, :, None])[..., 0]


def _optimal(config: TabularMDPConfig, tasks: Tasks, episodes: int, _streams: Streams) -> Tensor:
    best, _ = value_iteration(_mdp(tasks), config.horizon)
    return best[:, None].expand(-1, episodes).float()


def _psrl(config: TabularMDPConfig, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
    return psrl(_mdp(tasks), config.horizon, episodes, streams).float()


def _greedy(config: TabularMDPConfig, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
    return greedy(_mdp(tasks), config.horizon, episodes, streams).float()


def _random(config: TabularMDPConfig, tasks: Tasks, episodes: int, _streams: Streams) -> Tensor:
    floor = random_value(_mdp(tasks), config.horizon)
    return floor[:, None].expand(-1, episodes).float()


def _mdp(tasks: Tasks) -> MDP:
    parameter = tasks.parameter
    return MDP(parameter["reward_mean"].double(), parameter["transition"].double())


_Ceiling: TypeAlias = Callable[[TabularMDPConfig, Tasks, int, Streams], Tensor]

MDP_CEILINGS: Mapping[str, _Ceiling] = {
    "value iteration": _optimal,
    "greedy": _greedy,
    "PSRL": _psrl,
    "random": _random,
}
