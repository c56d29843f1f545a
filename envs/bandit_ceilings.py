"""What can be reached on bandits: by who knows the arms, and by good rules that know the prior.

=================== ============================================ =================================
rule                knows                                        pulls the arm with the greatest
=================== ============================================ =================================
best arm            the means                                    mean
Bayes-optimal       prior, number of pulls                       value of the rest (exact, small)
Gittins             prior, number of pulls                       index of the pulls that are left
Thompson sampling   prior                                        sample from its posterior
optimistic Thompson prior                                        the sample, or the mean if greater
greedy              prior                                        posterior mean
UCB1                only that rewards are of order 1             m + sqrt(c ln t / n), c = 2
UCB from the prior  prior, and c by search                       p + sqrt(c ln(1 + t) / (2 + n))
random              nothing                                      (any, with equal probability)
=================== ============================================ =================================

In UCB1, n is the number of pulls of the arm, m their mean reward, t the number of all pulls so far;
an arm that was never pulled comes first (Auer et al. 2002). The same formula serves Gaussian arms.
"UCB from the prior" needs no first round: Beta(1, 1) counts as two pulls, and p is the posterior
mean. With c chosen by search it is our guess at what the tables of RL^2 call UCB1.

The prior is the family's own: means from U[0, 1]. For Bernoulli rewards it is Beta(1, 1), and the
posterior Beta(1 + wins, 1 + losses). For rewards with unit normal noise the posterior after n > 0
pulls is N(m, 1/n) cut to [0, 1]. Posterior means and plans of Gaussian arms are not offered.

Ties go to the arm that comes first in an order drawn at random for each trial.

Every rule is run on the given tasks, all of them together, with noise from the streams. What is
returned is the mean of the arm that was pulled, not its noisy reward: the expectation is the same
and the error less.

Source. Thompson 1933; Gittins 1979; Auer, Cesa-Bianchi and Fischer 2002 (UCB1); May et al. 2012
(optimistic Thompson sampling). Duan et al. 2016 (RL^2) compare with them on the Bernoulli bandit.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from metarl.envs.bandit_tables import arm_code, bayes_optimal_plan, gittins_indices, state_key
from metarl.envs.tabular import BernoulliBanditConfig, Reward
from metarl.seeding import Streams
from metarl.types import Tasks

_BLOCK = 4096
"""Tasks played together: few enough for the caches, many enough to keep the processor busy."""


class Record(NamedTuple):
    """What was seen of each arm so far."""

    pulls: Tensor
    """[K, k] float64."""
    total: Tensor
    """[K, k] float64, sum of rewards; of Bernoulli arms the number of wins."""


Rule: TypeAlias = Callable[[Record, int, Streams], Tensor]
"""(record, number of pulls made, streams of this pull) to the arm [K] int64 to pull next."""

BanditCeiling: TypeAlias = Callable[[Tensor, int, Reward, Streams], Tensor]
"""(mean [K, k], number of pulls n, kind of rewards, streams) to [K, n]: mean of the arm pulled."""

_Ceiling: TypeAlias = Callable[[BernoulliBanditConfig, Tasks, int, Streams], Tensor]


def play(mean: Tensor, rule: Rule, num_pulls: int, reward: Reward, streams: Streams) -> Tensor:
    """Run a rule for n pulls on bandits with means [K, k]; return the means [K, n] it pulled."""
    blocks = [
        _play_block(mean[first : first + _BLOCK], rule, num_pulls, reward, streams.from_task(first))
        for first in range(0, len(mean), _BLOCK)
    ]
    return torch.cat(blocks)


def _play_block(
    mean: Tensor, rule: Rule, num_pulls: int, reward: Reward, streams: Streams
) -> Tensor:
    num_tasks, num_arms = mean.shape
    streams = streams._replace(device=str(mean.device))
    order = streams.uniform("order of arms", num_tasks, (num_arms,)).argsort(-1)
    mean = mean.gather(-1, order)
    draw = streams.uniform if reward == "bernoulli" else streams.normal
    noise = draw("reward", num_tasks, (num_pulls,))
    zeros = torch.zeros_like(mean, dtype=torch.float64)
    record = Record(zeros, zeros.clone())
    pulled = mean.new_empty(num_tasks, num_pulls)
    for time in range(num_pulls):
        arm = rule(record, time, streams.at("pull", time))[:, None]
        chosen = mean.gather(-1, arm)
        now = noise[:, time, None]
        paid = (now < chosen).double() if reward == "bernoulli" else (chosen + now).double()
        record.pulls.scatter_add_(-1, arm, torch.ones_like(paid))
        record.total.scatter_add_(-1, arm, paid)
        pulled[:, time] = chosen[:, 0]
    return pulled


def pull_sampled(record: Record, _time: int, streams: Streams) -> Tensor:
    """Thompson sampling for Bernoulli arms."""
    return _beta_sample(record, streams).argmax(-1)


def pull_sampled_optimistically(record: Record, _time: int, streams: Streams) -> Tensor:
    """Thompson sampling with samples below the posterior mean raised to it, for Bernoulli arms."""
    return torch.maximum(_beta_sample(record, streams), _beta_mean(record)).argmax(-1)


def pull_greatest_mean(record: Record, _time: int, _streams: Streams) -> Tensor:
    """Be greedy in the posterior mean of Bernoulli arms."""
    return _beta_mean(record).argmax(-1)


def pull_sampled_normal(record: Record, _time: int, streams: Streams) -> Tensor:
    """Thompson sampling for Gaussian arms with unit noise and means from U[0, 1]."""
    root = record.pulls.clamp_min(1.0).sqrt()
    mean = record.total / root**2
    # Mirrored where the mean is low, for the lower tail of a normal keeps its digits; and by erfc,
    # since torch.special.ndtr rounds that tail to 0 from 9 deviations on.
    low = mean < 0.5
    mean = torch.where(low, 1.0 - mean, mean)
    below, above = (torch.erfc((mean - end) * root / 2.0**0.5) / 2.0 for end in (0.0, 1.0))
    uniform = streams.uniform("sample", len(mean), tuple(mean.shape[1:])).double()
    inside = mean + torch.special.ndtri(below + uniform * (above - below)) / root
    sample = torch.where(low, 1.0 - inside, inside).clamp(0.0, 1.0)
    return torch.where(record.pulls > 0, sample, uniform).argmax(-1)


def pull_upper_bound(
    record: Record, time: int, _streams: Streams, exploration: float = 2.0
) -> Tensor:
    """UCB1 with c = ``exploration``; every arm is pulled once first."""
    log = torch.tensor(max(time, 1), dtype=torch.float64).log()
    bound = record.total / record.pulls + (exploration * log / record.pulls).sqrt()
    return torch.where(record.pulls > 0, bound, torch.inf).argmax(-1)


def pull_upper_bound_from_prior(
    record: Record, time: int, _streams: Streams, exploration: float
) -> Tensor:
    """UCB that begins with the posterior Beta(1, 1), for Bernoulli arms."""
    log = torch.tensor(time + 1.0, dtype=torch.float64).log()
    return (_beta_mean(record) + (exploration * log / (record.pulls + 2.0)).sqrt()).argmax(-1)


def best_arm(mean: Tensor, num_pulls: int, _reward: Reward, _streams: Streams) -> Tensor:
    """Know the means."""
    return mean.amax(-1, keepdim=True).expand(-1, num_pulls)


def random_arm(mean: Tensor, num_pulls: int, _reward: Reward, _streams: Streams) -> Tensor:
    """Know nothing and learn nothing: the expectation over the arms."""
    return mean.mean(-1, keepdim=True).expand(-1, num_pulls)


def thompson_sampling(mean: Tensor, num_pulls: int, reward: Reward, streams: Streams) -> Tensor:
    """Pull the arm that is the best in a sample from the posterior."""
    rule = pull_sampled if reward == "bernoulli" else pull_sampled_normal
    return play(mean, rule, num_pulls, reward, streams)


def ucb1(
    mean: Tensor, num_pulls: int, reward: Reward, streams: Streams, exploration: float = 2.0
) -> Tensor:
    """Pull the arm with the greatest upper bound."""
    rule = partial(pull_upper_bound, exploration=exploration)
    return play(mean, rule, num_pulls, reward, streams)


def gittins(mean: Tensor, num_pulls: int, _reward: Reward, streams: Streams) -> Tensor:
    """Pull the Bernoulli arm whose index, of horizon the pulls that are left, is the greatest.

    Building the tables takes 0.5 s for n = 100, and for n = 500 45 s of a core and 0.6 GB, of which
    170 MB are kept.
    """
    tables = gittins_indices(num_pulls)

    def rule(record: Record, time: int, _streams: Streams) -> Tensor:
        table = tables[num_pulls - time - 1].to(record.pulls.device)
        return table[record.pulls.long(), record.total.long()].argmax(-1)

    return play(mean, rule, num_pulls, "bernoulli", streams)


def bayes_optimal(mean: Tensor, num_pulls: int, _reward: Reward, streams: Streams) -> Tensor:
    """Follow the plan for Bernoulli arms that is the best of all in the mean over the prior.

    Raises:
        InputError: there are too many states; see ``bandit_tables``.
    """
    plan = bayes_optimal_plan(mean.shape[-1], num_pulls)

    def rule(record: Record, time: int, _streams: Streams) -> Tensor:
        codes = arm_code(record.pulls.long(), record.total.long())[:, : plan.num_arms]
        codes, order = codes.sort(dim=-1, stable=True)
        keys, arms = (leaf[time].to(codes.device) for leaf in (plan.keys, plan.arm))
        place = torch.searchsorted(keys, state_key(codes, plan.num_codes))
        return order.gather(-1, arms[place][:, None])[:, 0]

    return play(mean, rule, num_pulls, "bernoulli", streams)


def _of_trials(ceiling: BanditCeiling, reward: Reward) -> _Ceiling:
    """Return a ceiling as the table of environments has them: returns [K, episodes]."""

    def returns(
        config: BernoulliBanditConfig, tasks: Tasks, episodes: int, streams: Streams
    ) -> Tensor:
        mean = tasks.parameter["reward_mean"][:, 0]
        pulled = ceiling(mean, config.horizon * episodes, reward, streams)
        return pulled.reshape(len(mean), episodes, config.horizon).sum(-1)

    return returns


BERNOULLI_CEILINGS: Mapping[str, _Ceiling] = {
    "best arm": _of_trials(best_arm, "bernoulli"),
    "Bayes-optimal": _of_trials(bayes_optimal, "bernoulli"),
    "Gittins": _of_trials(gittins, "bernoulli"),
    "Thompson sampling": _of_trials(thompson_sampling, "bernoulli"),
    "UCB1": _of_trials(ucb1, "bernoulli"),
    "random": _of_trials(random_arm, "bernoulli"),
}
GAUSSIAN_CEILINGS: Mapping[str, _Ceiling] = {
    "best arm": _of_trials(best_arm, "gaussian"),
    "Thompson sampling": _of_trials(thompson_sampling, "gaussian"),
    "UCB": _of_trials(ucb1, "gaussian"),
    "random": _of_trials(random_arm, "gaussian"),
}


def _beta_mean(record: Record) -> Tensor:
    return (record.total + 1.0) / (record.pulls + 2.0)


def _beta_sample(record: Record, streams: Streams) -> Tensor:
    wins, losses = record.total, record.pulls - record.total
    gamma = streams.gamma("sample", torch.stack((wins, losses), -1) + 1.0)
    return gamma[..., 0] / gamma.sum(-1)
