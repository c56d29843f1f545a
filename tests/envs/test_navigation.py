"""Point navigation in its square, by hand."""

from typing import Any

import pytest
import torch

from metarl import envs
from metarl.envs.navigation import NavigationConfig
from tests.envs.points import NAME, STREAMS, close, goals, move, start


def test_a_step_is_a_tenth_of_the_action_and_a_tenth_at_most() -> None:
    env = start(NavigationConfig(), *[(0.5, 0.5)] * 4)
    step = move(env, (1.0, -1.0), (0.5, 0.25), (3.0, -0.2), (-100.0, 0.0))
    close(step.obs[:, 0], [[0.1, -0.1], [0.05, 0.025], [0.1, -0.02], [-0.1, 0.0]])
    step = move(env, (1.0, -1.0), (0.5, 0.25), (3.0, -0.2), (-100.0, 0.0))
    close(step.obs[:, 0], [[0.2, -0.2], [0.1, 0.05], [0.2, -0.04], [-0.2, 0.0]])


def test_action_scale_divides() -> None:
    env = start(NavigationConfig(action_scale=1.0), (0.5, 0.5), (0.5, 0.5))
    close(move(env, (0.07, -0.03), (1.0, -0.5)).obs[:, 0], [[0.07, -0.03], [0.1, -0.1]])


def test_the_reward_is_minus_the_distance_after_the_step() -> None:
    env = start(NavigationConfig(), (0.4, 0.4), (-0.3, 0.0), (0.1, 0.5))
    step = move(env, (1.0, 0.0), (-1.0, -1.0), (1.0, 1.0))
    # (0.1, 0) to (0.4, 0.4); (-0.1, -0.1) to (-0.3, 0); (0.1, 0.1) to (0.1, 0.5).
    close(step.reward[:, 0], [-0.5, -(0.05**0.5), -0.4])
    assert not step.terminated.any()
    step = move(env, (0.0, 1.0), (0.0, 0.0), (0.0, -1.0))
    close(step.reward[:, 0], [-(0.18**0.5), -(0.05**0.5), -0.5])


@pytest.mark.parametrize(
    ("offset", "ends"),
    [
        ((0.009, 0.009), True),  # further than 0.01 as the crow flies
        ((-0.009, 0.009), True),
        ((0.0, 0.0), True),
        ((0.011, 0.0), False),
        ((0.0, -0.011), False),
        ((0.011, 0.011), False),
    ],
)
def test_ends_where_both_coordinates_are_within_a_hundredth(
    offset: tuple[float, float], ends: bool
) -> None:
    env = start(NavigationConfig(), (0.1 + offset[0], -0.1 + offset[1]))
    step = move(env, (1.0, -1.0))
    assert step.terminated.tolist() == [[ends]]
    assert step.reward.item() == pytest.approx(
        -((offset[0] ** 2 + offset[1] ** 2) ** 0.5), abs=1e-6
    )


def test_the_origin_is_not_the_goal() -> None:
    env = start(NavigationConfig(), (0.3, 0.3), (0.005, -0.005))
    assert move(env, (0.0, 0.0), (0.0, 0.0)).terminated.tolist() == [[False], [True]]


def test_reaching_the_goal_on_foot() -> None:
    env = start(NavigationConfig(), (0.3, 0.2))
    ends = []
    for _ in range(3):
        step = move(env, (1.0, 2 / 3))
        ends.append(step.terminated.item())
    assert ends == [False, False, True]


def test_no_observation_depends_on_the_goal() -> None:
    _, env = envs.build(NAME)
    places = [(0.5, -0.5), (-0.2, 0.3), (0.1, 0.1)]
    env.reset(goals(*places), 2, STREAMS)
    position = torch.zeros(2, 2)
    for time in range(20):
        action = STREAMS.normal(f"action {time}", 1, (2, 2))
        obs = env.step(action.expand(3, 2, 2), torch.ones(3, 2, dtype=torch.bool)).obs
        position = position + (action[0] / 10).clamp(-0.1, 0.1)
        torch.testing.assert_close(obs, position.expand(3, 2, 2))
        assert torch.equal(obs, obs[:1].expand(3, 2, 2))


@pytest.mark.parametrize("goal_range", [0.5, 2.0])
def test_goals_fill_the_square(goal_range: float) -> None:
    distribution, env = envs.build(NAME, NavigationConfig(goal_range=goal_range))
    goal = distribution.sample(4000, STREAMS).parameter["goal"] / goal_range
    assert goal.shape == (4000, 2)
    assert 0.995 < goal.abs().max() <= 1
    assert (goal.mean(0).abs() < 5 / (3 * 4000) ** 0.5).all()
    assert ((goal**2).mean(0) - 1 / 3).abs().max() < 5 * (4 / 45 / 4000) ** 0.5
    assert abs(torch.corrcoef(goal.T)[0, 1]) < 5 / 4000**0.5
    assert (env.spec.observation_size, env.spec.action_size, env.spec.discrete) == (2, 2, False)
    assert env.spec.horizon == 100
    assert not env.spec.score_is_total


def test_standing_still_scores_minus_the_horizon_times_the_distance() -> None:
    env = start(NavigationConfig(), (0.3, 0.4))
    rewards = [move(env, (0.0, 0.0)).reward.item() for _ in range(100)]
    assert sum(rewards) == pytest.approx(-50, abs=1e-3)


def test_a_huge_whole_number_is_refused_like_any_other() -> None:
    with pytest.raises(ValueError, match=r"NavigationConfig\.horizon must be"):
        NavigationConfig(horizon=10**400)


def test_success_at_the_published_goal_is_its_end() -> None:
    env = start(NavigationConfig(), (0.105, 0.0), (0.12, 0.0))
    step = move(env, (1.0, 0.0), (1.0, 0.0))
    assert step.success is not None
    assert step.success.tolist() == step.terminated.tolist() == [[True], [False]]


def test_shifted_goals_fill_the_ring_around_the_square() -> None:
    distribution, _ = envs.build(NAME)
    goal = distribution.held_out(8000, "shifted").parameter["goal"] / 0.5
    out = goal.abs().max(-1).values
    assert 1.0 <= out.min() < 1.01
    assert 1.99 < out.max() <= 2.0
    # Its inner part, out to 1.5, has 1.25 / 3 of the area.
    assert abs((out < 1.5).float().mean() - 1.25 / 3) < 5 * (0.25 / 8000) ** 0.5
    # Of the 12 unit squares of the ring, each has its share.
    x, y = (goal.clamp(-1.9999, 1.9999) + 2).floor().long().unbind(-1)
    counts = (4 * x + y).bincount(minlength=16)
    inner = torch.tensor([5, 6, 9, 10])
    assert (counts[inner] == 0).all()
    expected = 8000 / 12
    outer = torch.tensor([place for place in range(16) if place not in inner])
    assert (counts[outer] - expected).abs().max() < 5 * expected**0.5


@pytest.mark.parametrize(
    ("field", "wrong", "nearest"),
    [("goals", "corner", "corners"), ("reward", "dense", "known"), ("goal_shape", "disk", "disc")],
)
def test_a_choice_is_answered_with_the_nearest(field: str, wrong: Any, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"NavigationConfig\.{field}: no '{wrong}'.*{nearest}"):
        NavigationConfig(**{field: wrong})
