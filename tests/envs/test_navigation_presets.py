"""Point navigation as other papers have it: corners and half circles, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs import drawing
from metarl.envs.navigation import PRESETS as NAVIGATION_PRESETS
from metarl.envs.navigation import NavigationConfig
from metarl.protocols import CanDraw, CanRestart
from tests.envs.points import NAME, STREAMS, close, move, start, start_preset


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
