"""Bandits and small MDPs: what is drawn and what is paid, against the task's own numbers."""

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs.tabular import BernoulliBanditConfig, GaussianBanditConfig, TabularMDPConfig
from metarl.protocols import VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Step, Tasks

BERNOULLI, GAUSSIAN = "metarl/BernoulliBandit-v0", "metarl/GaussianBandit-v0"
MDP = "metarl/TabularMDP-v0"
STREAMS = Streams(5, ("tabular",))


def task(**parameter: Tensor) -> Tasks:
    """One task."""
    return Tasks(torch.tensor([-1]), {name: leaf[None] for name, leaf in parameter.items()})


def step_all(env: VectorTaskEnv, action: Tensor) -> Step:
    return env.step(action, torch.ones(action.shape, dtype=torch.bool))


def pulls(env: VectorTaskEnv, tasks: Tasks, episodes: int) -> Tensor:
    """Rewards [arm, E, T] of pulling one and the same arm all the time."""
    rewards = []
    for arm in range(env.spec.action_size):
        env.reset(tasks, episodes, STREAMS.at("arm", arm))
        choice = torch.full((1, episodes), arm)
        steps = [step_all(env, choice) for _ in range(env.spec.horizon)]
        rewards.append(torch.stack([step.reward[0] for step in steps], -1))
    return torch.stack(rewards)


def assert_mean(sample: Tensor, mean: Tensor, std: Tensor | float) -> None:
    """The rows of a sample [..., n] have this mean, within five standard errors."""
    error = torch.as_tensor(std) / sample.shape[-1] ** 0.5
    assert ((sample.double().mean(-1) - mean).abs() <= 5 * error + 1e-6).all()


def test_bernoulli_arms_pay_one_as_often_as_they_should() -> None:
    _, env = envs.build(BERNOULLI, BernoulliBanditConfig(num_arms=5, horizon=10))
    mean = torch.tensor([0.0, 0.03, 0.5, 0.9, 1.0])
    reward = pulls(env, task(reward_mean=mean[None]), 1000).flatten(1)
    assert set(torch.unique(reward).tolist()) == {0.0, 1.0}
    assert (reward[0] == 0).all()
    assert (reward[4] == 1).all()
    assert_mean(reward, mean, (mean * (1 - mean)).sqrt())


def test_gaussian_arms_pay_their_mean_and_unit_noise() -> None:
    _, env = envs.build(GAUSSIAN, GaussianBanditConfig(num_arms=3, horizon=10))
    mean = torch.tensor([0.0, 0.4, 1.0])
    reward = pulls(env, task(reward_mean=mean[None]), 1000).flatten(1)
    assert_mean(reward, mean, 1.0)
    assert_mean((reward - mean[:, None]) ** 2, torch.ones(3), 2.0**0.5)


def test_pulls_are_independent_of_one_another() -> None:
    _, env = envs.build(GAUSSIAN, GaussianBanditConfig(num_arms=1, horizon=2))
    reward = pulls(env, task(reward_mean=torch.zeros(1, 1)), 4000)[0]
    assert abs(torch.corrcoef(reward.T)[0, 1]) < 5 / 4000**0.5
    half = reward[:, 0].reshape(2, -1)
    assert abs(torch.corrcoef(half)[0, 1]) < 5 / 2000**0.5


@pytest.mark.parametrize("name", [BERNOULLI, GAUSSIAN])
def test_a_bandit_shows_nothing_but_a_constant(name: str) -> None:
    distribution, env = envs.build(name)
    obs = env.reset(distribution.sample(4, STREAMS), 3, STREAMS)
    assert torch.equal(obs, torch.ones(4, 3, 1))
    assert torch.equal(step_all(env, torch.zeros(4, 3, dtype=torch.int64)).obs, obs)
    assert (env.spec.observation_size, env.spec.discrete, env.spec.score_is_total) == (
        1,
        True,
        True,
    )


@pytest.mark.parametrize("name", [BERNOULLI, GAUSSIAN])
def test_arms_are_uniform(name: str) -> None:
    distribution, _ = envs.build(name)
    mean = distribution.sample(4000, STREAMS).parameter["reward_mean"][:, 0]
    assert mean.shape == (4000, 5)
    assert mean.min() >= 0
    assert mean.max() < 1
    assert_mean(mean.T, torch.full((5,), 0.5), (1 / 12) ** 0.5)
    assert_mean((mean.T - 0.5) ** 2, torch.full((5,), 1 / 12), (1 / 180) ** 0.5)
    assert (torch.corrcoef(mean.T) - torch.eye(5)).abs().max() < 5 / 4000**0.5


def test_bandits_of_the_two_families_differ() -> None:
    one, other = (envs.build(name)[0].held_out(5) for name in (BERNOULLI, GAUSSIAN))
    assert not torch.equal(one.parameter["reward_mean"], other.parameter["reward_mean"])


# P(.|s, a) by state and action; from state 0 the second action stays, the first never does.
TRANSITION = torch.tensor(
    [
        [[0.0, 0.7, 0.3], [1.0, 0.0, 0.0]],
        [[0.2, 0.2, 0.6], [0.0, 0.0, 1.0]],
        [[0.5, 0.0, 0.5], [0.1, 0.6, 0.3]],
    ]
)


def walk(episodes: int, horizon: int, reward_mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States [E, T+1], actions [E, T] and rewards [E, T] of random choices."""
    config = TabularMDPConfig(num_states=3, num_actions=2, horizon=horizon)
    _, env = envs.build(MDP, config)
    obs = [env.reset(task(reward_mean=reward_mean, transition=TRANSITION), episodes, STREAMS)]
    action = (STREAMS.uniform("choice", 1, (episodes, horizon)) * 2).long()
    rewards = []
    for time in range(horizon):
        step = step_all(env, action[:, :, time])
        obs.append(step.obs)
        rewards.append(step.reward)
    seen = torch.stack(obs, 2)[0]
    assert torch.equal(seen.sum(-1), torch.ones(episodes, horizon + 1))
    assert set(torch.unique(seen).tolist()) == {0.0, 1.0}
    return seen.argmax(-1), action[0], torch.stack(rewards, 2)[0]


def test_every_episode_starts_in_state_zero() -> None:
    state, _, _ = walk(50, 3, torch.zeros(3, 2))
    assert (state[:, 0] == 0).all()


def test_transitions_follow_the_table() -> None:
    state, action, _ = walk(2000, 10, torch.zeros(3, 2))
    counts = torch.zeros(3, 2, 3, dtype=torch.float64)
    where = (state[:, :-1].flatten(), action.flatten(), state[:, 1:].flatten())
    counts.index_put_(where, torch.ones(20000, dtype=torch.float64), accumulate=True)
    expected = TRANSITION * counts.sum(-1, keepdim=True)
    assert counts.sum(-1).min() > 500
    assert (counts[TRANSITION == 0] == 0).all()
    possible = TRANSITION > 0
    chi_square = ((counts - expected) ** 2 / expected)[possible].sum()
    # 12 entries in 6 rows: 6 degrees of freedom; 35 is passed less than once in 10^5 times.
    assert int(possible.sum()) == 12
    assert chi_square < 35


def test_rewards_belong_to_the_state_before_the_step() -> None:
    mean = torch.tensor([[0.0, 10.0], [20.0, 30.0], [40.0, 50.0]])
    state, action, reward = walk(2000, 5, mean)
    noise = (reward - mean[state[:, :-1], action]).flatten()
    assert_mean(noise, torch.tensor(0.0), 1.0)
    assert_mean(noise**2, torch.tensor(1.0), 2.0**0.5)
    assert noise.abs().max() < 6


def test_random_mdps_have_the_published_moments() -> None:
    distribution, env = envs.build(MDP)
    parameter = distribution.sample(400, STREAMS).parameter
    transition, mean = parameter["transition"], parameter["reward_mean"]
    assert transition.shape == (400, 10, 5, 10)
    assert mean.shape == (400, 10, 5)
    assert (env.spec.observation_size, env.spec.action_size, env.spec.horizon) == (10, 5, 10)
    assert (transition >= 0).all()
    torch.testing.assert_close(transition.sum(-1), torch.ones(400, 10, 5), atol=1e-5, rtol=0)
    # Dirichlet(1) with 10 entries: mean 1/10, variance (1/10)(9/10)/11; one entry is Beta(1, 9).
    entry = transition.flatten(0, 2).T
    variance = 0.09 / 11
    assert_mean(entry, torch.full((10,), 0.1), variance**0.5)
    fourth = (entry - 0.1).double().pow(4).mean(-1)
    assert_mean((entry - 0.1) ** 2, torch.full((10,), variance), fourth.sqrt())
    assert_mean((entry > 0.5).float(), torch.full((10,), 0.5**9), (0.5**9) ** 0.5)
    assert_mean(mean.flatten(), torch.tensor(1.0), 1.0)
    assert_mean((mean.flatten() - 1) ** 2, torch.tensor(1.0), 2.0**0.5)


def test_episodes_of_a_task_walk_apart() -> None:
    state, action, _ = walk(200, 10, torch.zeros(3, 2))
    same_choice = action[:, 0] == 0
    assert len(torch.unique(state[same_choice][:, 1])) == 2
    assert len({tuple(row) for row in state.tolist()}) > 100
