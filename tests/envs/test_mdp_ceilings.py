"""References of tabular MDPs against hand-computed cases and against the environment itself."""

import itertools
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs import mdp_ceilings as ceilings
from metarl.envs.mdp_ceilings import MDP, Knowledge
from metarl.envs.tabular import TabularMDPConfig, draw_mdps
from metarl.seeding import Streams

NAME = "metarl/TabularMDP-v0"
STREAMS = Streams(12, ("ceilings",))

Game: TypeAlias = Callable[[MDP, int, int, Streams], Tensor]
GAMES: tuple[Game, Game] = (ceilings.greedy, ceilings.psrl)

# Action 0 stays and pays 1 in state 0; action 1 pays nothing and leads to state 1 with chance 1/2;
# state 1 pays 4 for either action and holds on.
HAND = MDP(
    torch.tensor([[[1.0, 0.0], [4.0, 4.0]]]),
    torch.tensor([[[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.0, 1.0]]]]),
)


def drawn(num_tasks: int) -> MDP:
    parameter = draw_mdps(num_tasks, STREAMS.at("tasks"), 4, 3)
    return MDP(parameter["reward_mean"].double(), parameter["transition"].double())


def test_value_iteration_by_hand() -> None:
    # One step: max(1, 0). Two: max(1 + 1, 1/2 * 1 + 1/2 * 4). Three: max(1 + 2.5, 1/2 * 2.5 + 4).
    for horizon, value in ((1, 1.0), (2, 2.5), (3, 5.25)):
        best, policy = ceilings.value_iteration(HAND, horizon)
        assert best.item() == value
        assert policy[0, :, 0].tolist() == [1] * (horizon - 1) + [0]
        assert ceilings.policy_value(HAND, policy).item() == value


def test_values_of_other_policies_by_hand() -> None:
    stay = torch.zeros(1, 3, 2, dtype=torch.int64)
    assert ceilings.policy_value(HAND, stay).item() == 3.0
    # At random: V_1 = (0.5, 4); V_2(0) = 0.5 + (3/4) 0.5 + (1/4) 4.
    assert ceilings.random_value(HAND, 1).item() == 0.5
    assert ceilings.random_value(HAND, 2).item() == 1.875


def test_value_iteration_is_the_best_of_all_policies() -> None:
    parameter = draw_mdps(3, STREAMS, 2, 2)
    mdp = MDP(parameter["reward_mean"].double(), parameter["transition"].double())
    values = [
        ceilings.policy_value(mdp, torch.tensor(choices).view(1, 3, 2).expand(3, -1, -1))
        for choices in itertools.product((0, 1), repeat=6)
    ]
    torch.testing.assert_close(ceilings.value_iteration(mdp, 3)[0], torch.stack(values).amax(0))


def test_the_environment_pays_what_value_iteration_says() -> None:
    distribution, env = envs.build(NAME)
    tasks = distribution.held_out(3)
    best = envs.ENVS[NAME].ceilings["value iteration"](TabularMDPConfig(), tasks, 2, STREAMS)
    parameter = tasks.parameter
    _, policy = ceilings.value_iteration(MDP(parameter["reward_mean"], parameter["transition"]), 10)
    obs, running = env.reset(tasks, 4000, STREAMS), torch.ones(3, 4000, dtype=torch.bool)
    total = torch.zeros(3, 4000)
    for time in range(10):
        step = env.step(policy[:, time].gather(-1, obs.argmax(-1)), running)
        obs, total = step.obs, total + step.reward
    assert best.shape == (3, 2)
    assert torch.equal(best[:, 0], best[:, 1])
    assert ((total.mean(-1) - best[:, 0]).abs() < 4 * total.std(-1) / 4000**0.5).all()


def test_the_posterior_of_rewards_by_hand() -> None:
    visits = torch.tensor([[[[0.0, 0.0], [1.0, 2.0]]]])
    mean, deviation = ceilings.reward_posterior(Knowledge(visits, torch.tensor([[[0.0, 7.0]]])))
    assert mean.tolist() == [[[1.0, 2.0]]]
    assert deviation.tolist() == [[[1.0, 0.5]]]


def test_sampled_mdps_have_the_moments_of_the_posterior() -> None:
    visits = torch.tensor([[3.0, 0.0], [0.0, 0.0]]).expand(20_000, 1, 2, 2)
    total = torch.tensor([9.0, 0.0]).expand(20_000, 1, 2)
    mdp = ceilings.sample_mdp(Knowledge(visits, total), STREAMS)
    # Dirichlet(4, 1): mean 4/5, variance (4/5)(1/5)/6; Dirichlet(1, 1) is uniform.
    first = mdp.transition[:, 0, :, 0]
    torch.testing.assert_close(mdp.transition.sum(-1), torch.ones(20_000, 1, 2).double())
    expected = torch.tensor([[0.8, 0.5], [0.16 / 6, 1 / 12]]).double()
    torch.testing.assert_close(first.mean(0), expected[0], atol=0.008, rtol=0)
    torch.testing.assert_close(first.var(0), expected[1], atol=0.002, rtol=0)
    # N((1 + 9) / 4, 1/4) and the prior N(1, 1).
    reward = mdp.reward_mean[:, 0]
    torch.testing.assert_close(reward.mean(0), torch.tensor([2.5, 1.0]).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(reward.var(0), torch.tensor([0.25, 1.0]).double(), atol=0.04, rtol=0)


def test_psrl_begins_at_random_and_ends_near_the_best() -> None:
    mdp = drawn(300)
    best, _ = ceilings.value_iteration(mdp, 6)
    floor = ceilings.random_value(mdp, 6)
    regret = (best[:, None] - ceilings.psrl(mdp, 6, 120, STREAMS)).clone()
    assert (regret > -1e-9).all()
    mean = regret.mean(0)
    gap = float((best - floor).mean())
    assert float(mean[0]) == pytest.approx(gap, rel=0.15)
    thirds = [float(part.mean()) for part in mean.chunk(3)]
    assert thirds[0] > 2 * thirds[1] > 0
    assert thirds[1] > thirds[2]
    assert thirds[2] < 0.12 * gap


def test_greedy_tries_until_it_is_pleased_and_does_not_plan() -> None:
    """Means so far apart that noise does not matter: 0 and -50 disappoint, 90 does not."""
    means = torch.tensor([[[-50.0, 0.0, 90.0], [0.0, 90.0, 200.0]]])
    onward = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[:, None].expand(2, 3, 2)
    returns = ceilings.greedy(MDP(means, onward[None]), 6, 3, STREAMS)
    # Both states three times an episode. In the second, the best of all is never tried.
    assert returns.tolist() == [[(-50.0 + 0.0 + 90.0) + (0.0 + 90.0 + 90.0), 540.0, 540.0]]
    # By hand, the first action pays 1 at once: what the second leads to is not asked.
    sure = MDP(HAND.reward_mean * 100.0, HAND.transition)
    assert ceilings.greedy(sure, 4, 2, STREAMS).tolist() == [[400.0, 400.0]]


def test_greedy_is_far_better_than_posterior_sampling_in_ten_episodes() -> None:
    parameter = envs.build(NAME)[0].held_out(300).parameter
    mdp = MDP(parameter["reward_mean"], parameter["transition"])
    greedy, sampled = (f(mdp, 10, 10, STREAMS).sum(-1).mean() for f in GAMES)
    best = 10 * ceilings.value_iteration(mdp, 10)[0].mean()
    assert 0.70 * best < greedy < 0.75 * best
    assert sampled < 0.65 * best


@pytest.mark.parametrize("game", GAMES)
def test_a_block_of_tasks_plays_as_in_the_whole(game: Game) -> None:
    def play(rows: slice, streams: Streams) -> Tensor:
        return game(MDP(*(leaf[rows] for leaf in drawn(5))), 4, 6, streams)

    whole = play(slice(0, 5), STREAMS)
    assert torch.equal(whole, play(slice(0, 5), STREAMS))
    torch.testing.assert_close(whole[3:], play(slice(3, 5), STREAMS.from_task(3)))
    assert not torch.equal(whole, play(slice(0, 5), STREAMS.at("other")))


def test_the_table_gives_returns_of_episodes() -> None:
    tasks = envs.build(NAME)[0].held_out(4)
    for ceiling in envs.ENVS[NAME].ceilings.values():
        returns = ceiling(TabularMDPConfig(horizon=3), tasks, 5, STREAMS)
        assert returns.shape == (4, 5)
        assert returns.dtype == torch.float32
        longer = ceiling(TabularMDPConfig(horizon=3), tasks, 6, STREAMS)
        assert torch.equal(returns, longer[:, :5])
