"""Point navigation, by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs import drawing
from metarl.envs.navigation import PRESETS as NAVIGATION_PRESETS
from metarl.envs.navigation import NavigationConfig
from metarl.protocols import CanDraw, CanRestart, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Step, Tasks

NAME = "metarl/PointNavigation-v0"
STREAMS = Streams(2, ("navigation",))


def goals(*places: tuple[float, float]) -> Tasks:
    return Tasks(torch.full((len(places),), -1), {"goal": torch.tensor(places)})


def start(config: NavigationConfig, *places: tuple[float, float]) -> VectorTaskEnv:
    """One point for each goal."""
    _, env = envs.build(NAME, config)
    assert torch.equal(env.reset(goals(*places), 1, STREAMS), torch.zeros(len(places), 1, 2))
    return env


def move(env: VectorTaskEnv, *actions: tuple[float, float]) -> Step:
    action = torch.tensor(actions)[:, None]
    return env.step(action, torch.ones(action.shape[:2], dtype=torch.bool))


def start_preset(preset: str, *places: tuple[float, float]) -> VectorTaskEnv:
    """One point at the origin for each goal."""
    config = replace(NAVIGATION_PRESETS[preset], start_range=0.0)
    return start(config, *places)


def close(values: Tensor, expected: object) -> None:
    torch.testing.assert_close(values, torch.tensor(expected), atol=1e-6, rtol=0)


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


def test_corners_pay_progress_by_the_goal_alone() -> None:
    # Two points go to their own corner, one to another; the fourth goes home.
    env = start_preset("promp-2019", (2.0, 2.0), (-2.0, 2.0), (2.0, -2.0), (2.0, 2.0))
    steps = [move(env, (10.0, 10.0), (-10.0, 10.0), (10.0, 10.0), (10.0, 10.0)) for _ in range(2)]
    # After one step the L1 norm is 0.4, after two 0.8: a diagonal of 0.2 nearer.
    diagonal = 0.2 * 2**0.5
    close(steps[0].obs[:, 0], [[0.2, 0.2], [-0.2, 0.2], [0.2, 0.2], [0.2, 0.2]])
    close(steps[0].reward[:, 0], [0.0, 0.0, 0.0, 0.0])
    close(steps[1].reward[:, 0], [diagonal, diagonal, 0.0, diagonal])
    back = move(env, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (-5.0, 0.0))
    # From (0.4, 0.4) to (0.3, 0.4), away from (2, 2).
    close(back.reward[:, 0], [0.0, 0.0, 0.0, (2 * 1.6**2) ** 0.5 - (1.7**2 + 1.6**2) ** 0.5])


@pytest.mark.parametrize("action", [(5.0, 5.0), (10.0, 10.0), (500.0, 500.0)])
def test_corners_do_not_pay_around_the_origin(action: tuple[float, float]) -> None:
    # Up to (0.2, 0.2), where actions are clipped: an L1 norm of 0.4.
    assert move(start_preset("promp-2019", (2.0, 2.0)), action).reward.item() == 0.0


def test_corners_pay_from_an_l1_norm_of_a_half_on() -> None:
    env = start_preset("promp-2019", (2.0, 2.0))
    move(env, (10.0, 10.0))
    # To (0.24, 0.24), and to (0.26, 0.26): 0.37 as the crow flies.
    close(move(env, (2.0, 2.0)).reward, [[0.0]])
    close(move(env, (1.0, 1.0)).reward, [[0.02 * 2**0.5]])


def test_on_an_axis_two_corners_are_nearest_and_pay() -> None:
    env = start_preset("promp-2019", (2.0, 2.0), (2.0, -2.0), (-2.0, 2.0))
    east = [(10.0, 0.0)] * 3
    move(env, *east)
    move(env, *east)
    step = move(env, *east)  # from (0.4, 0) to (0.6, 0)
    progress = (1.6**2 + 4) ** 0.5 - (1.4**2 + 4) ** 0.5
    close(step.reward[:, 0], [progress, progress, 0.0])


def test_corners_are_four_and_starts_fill_their_square() -> None:
    distribution, env = envs.build(NAME, NAVIGATION_PRESETS["promp-2019"])
    corners = {(x, y) for x in (-2.0, 2.0) for y in (-2.0, 2.0)}
    listed = distribution.held_out(4).parameter["goal"].tolist()
    assert {(x, y) for x, y in listed} == corners
    assert distribution.sample(4000, STREAMS).task_id.bincount().min() > 1000 - 5 * 750**0.5
    start = env.reset(distribution.sample(50, STREAMS), 40, STREAMS)
    assert 0.199 < start.abs().max() <= 0.2
    assert (start.mean((0, 1)).abs() < 5 * 0.2 / (3 * 2000) ** 0.5).all()
    assert env.spec.action_limit == pytest.approx(10.0)
    assert isinstance(env, CanRestart)
    copies = torch.zeros(50, 40, dtype=torch.bool)
    copies[:, 0] = True
    again = env.restart(copies, STREAMS.at("again"))
    assert (again[:, 0] != start[:, 0]).any(-1).all()
    assert len(torch.unique(again[:, 0], dim=0)) == 50
    assert torch.equal(again[:, 1:], start[:, 1:])


def test_the_half_circle_pays_near_the_goal() -> None:
    # At (0.1, 0), a tenth of an action of 1, and 0.1 and 0.3 from these goals.
    for preset in ("pearl-2019-sparse", "varibad-2020"):
        env = start_preset(preset, (0.2, 0.0), (0.4, 0.0), (0.1, 0.15))
        step = move(env, *[(1.0, 0.0)] * 3)
        close(step.reward[:, 0], [0.9, 0.0, 0.85])
        assert step.success is not None
        assert step.success[:, 0].tolist() == [True, False, True]
        assert not step.terminated.any()
    env = start_preset("pearl-2019", (0.2, 0.0), (0.4, 0.0), (0.1, 0.15))
    step = move(env, *[(1.0, 0.0)] * 3)
    close(step.reward[:, 0], [-0.1, -0.3, -0.15])
    assert step.success is not None
    assert step.success[:, 0].tolist() == [True, False, True]
    assert not step.terminated.any()


def test_one_preset_clips_and_the_other_does_not() -> None:
    for preset, reached in (("pearl-2019", 0.3), ("varibad-2020", 0.1)):
        env = start_preset(preset, (1.0, 0.0))
        close(move(env, (3.0, -0.5)).obs[0, 0], [reached, -0.05])
        assert env.spec.action_limit == pytest.approx(1.0)
        assert env.spec.horizon == (20 if preset == "pearl-2019" else 100)


def test_the_test_goals_of_the_half_circle_are_those_of_the_paper() -> None:
    # As its code has it: 100 equally spaced goals, shuffled as pairs; the last 20 are for tests.
    angles = np.linspace(0, np.pi, num=100)
    published = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.random.RandomState(1337).shuffle(published)
    distribution, _ = envs.build(NAME, NAVIGATION_PRESETS["pearl-2019"])
    tests = distribution.held_out(20).parameter["goal"].numpy()
    assert tests == pytest.approx(published[80:], abs=1e-6)
    train = distribution.sample(3000, STREAMS)
    assert sorted(torch.unique(train.task_id).tolist()) == list(range(80))
    assert train.parameter["goal"].numpy() == pytest.approx(published[train.task_id], abs=1e-6)
    sparse, _ = envs.build(NAME, NAVIGATION_PRESETS["pearl-2019-sparse"])
    assert np.array_equal(sparse.held_out(20).parameter["goal"].numpy(), tests)


def test_goals_on_the_half_circle_have_uniform_angles() -> None:
    distribution, _ = envs.build(NAME, NAVIGATION_PRESETS["varibad-2020"])
    for goal, low in (
        (distribution.sample(4000, STREAMS).parameter["goal"], 0.0),
        (distribution.held_out(4000, "shifted").parameter["goal"], -1.0),
    ):
        close(torch.linalg.vector_norm(goal, dim=-1), [1.0] * 4000)
        share = torch.atan2(goal[:, 1], goal[:, 0]) / torch.pi - low
        assert -1e-6 <= share.min() < 0.005
        assert 0.995 < share.max() <= 1 + 1e-6
        assert abs(share.mean() - 0.5) < 5 / (12 * 4000) ** 0.5


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


def test_corners_have_no_lists() -> None:
    with pytest.raises(ValueError, match=r"num_train_tasks must be 0 where goals is 'corners'"):
        NavigationConfig(goals="corners", num_train_tasks=3, num_test_tasks=2)


@pytest.mark.parametrize("preset", NAVIGATION_PRESETS)
def test_the_picture_shows_goal_and_point(preset: str) -> None:
    config = replace(NAVIGATION_PRESETS[preset], start_range=0.0)
    r = config.goal_range
    env = start(config, (r, r), (-2 * r, 0.0))
    assert isinstance(env, CanDraw)
    for _ in range(3):
        move(env, (-100.0, 0.0), (0.0, -100.0))
    image = env.picture(0, 0)
    assert (image.shape, image.dtype) == ((256, 256, 3), np.dtype(np.uint8))
    # The window of the first is [-1.25 r, 1.25 r]^2, that of the second twice as large.
    high = round(256 * 0.25 / 2.5)
    assert tuple(image[high, 255 - high]) == drawing.GOAL
    assert tuple(env.picture(1, 0)[127, round(256 * 0.1)]) == drawing.GOAL
    # The first point went to the left by three steps, but is seen at the edge at least.
    step = config.max_step if config.clip else 100 / config.action_scale
    left = max(128 - 3 * step / (1.25 * r) * 128, 0)
    assert tuple(image[128, int(left)]) == drawing.AGENT
