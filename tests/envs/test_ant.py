"""Ant: rewards, falls and observations by hand for every published setting, lists of tasks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs.ant import AntConfig, AntDirConfig, AntGoalConfig
from metarl.envs.mujoco_env import MujocoEnv
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.envs.bodies import step_all

DIR, VEL, GOAL = "metarl/AntDir-v0", "metarl/AntVel-v0", "metarl/AntGoal-v0"
STREAMS = Streams(3, ("ant",))
CASES = [(name, preset) for name in (DIR, VEL, GOAL) for preset in envs.ENVS[name].presets]
every_case = pytest.mark.parametrize(("name", "preset"), CASES)

# Control cost, constant, allowed heights, x and y seen, horizon, action scale; as published.
PUBLISHED = {
    (DIR, "promp-2019"): (0.5, 1.0, (0.0, 1.0), False, 100, 10.0),
    (DIR, "promp-2019-plane"): (0.5, 1.0, (0.0, 1.0), False, 100, 10.0),
    (DIR, "maml-2017"): (0.005, 0.05, (0.2, 1.0), True, 200, 1.0),
    (DIR, "pearl-2019"): (0.5, 1.0, (0.2, 1.0), False, 200, 1.0),
    (DIR, "pearl-2019-fwd-back"): (0.5, 1.0, (0.2, 1.0), False, 200, 1.0),
    (VEL, "maml-2017"): (0.005, 1.05, (0.2, 1.0), True, 200, 1.0),
    (GOAL, "promp-2019"): (0.1, 0.0, None, True, 100, 10.0),
    (GOAL, "maml-2017"): (0.005, 4.05, (0.2, 1.0), True, 200, 1.0),
    (GOAL, "pearl-2019"): (0.1, 0.0, None, True, 200, 1.0),
}
TASKS: dict[str, tuple[str, list[float] | list[list[float]]]] = {
    DIR: ("heading", [[-1.0, 0.0], [0.6, 0.8]]),
    VEL: ("velocity", [0.5, 2.5]),
    GOAL: ("goal", [[1.0, -2.0], [-0.5, 0.25]]),
}


def build(name: str, config: Any) -> tuple[TaskDistribution, MujocoEnv]:
    distribution, env = envs.build(name, config, threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


def start(name: str, preset: str) -> MujocoEnv:
    """Two copies each of two tasks."""
    _, env = build(name, envs.preset(name, preset))
    key, values = TASKS[name]
    env.reset(Tasks(torch.full((2,), -1), {key: torch.tensor(values)}), 2, STREAMS)
    return env


def progress(name: str, before: np.ndarray, after: np.ndarray) -> list[float]:
    """What each copy is paid for its task."""
    paid = []
    goals = [value for value in TASKS[name][1] for _ in range(2)]
    for goal, (x0, y0), (x, y) in zip(goals, before, after, strict=True):
        vx, vy = (x - x0) / 0.05, (y - y0) / 0.05
        if isinstance(goal, float):
            paid.append(-abs(vx - goal))
        elif name == DIR:
            paid.append(goal[0] * vx + goal[1] * vy)
        else:
            paid.append(-abs(x - goal[0]) - abs(y - goal[1]))
    return paid


def test_every_preset_is_here() -> None:
    assert set(CASES) == set(PUBLISHED)


@every_case
def test_rewards_by_hand(name: str, preset: str) -> None:
    cost, constant, _, _, horizon, scale = PUBLISHED[name, preset]
    env = start(name, preset)
    assert (env.spec.horizon, env.spec.action_limit) == (horizon, scale)
    for time in range(10):
        action = 1.5 * scale * STREAMS.normal(f"action {time}", 2, (2, 8))
        assert (action.abs() > scale).any()
        before = env.physics.qpos[:, :2].copy()
        step = step_all(env, action)
        share = np.clip(action.double().reshape(4, 8).numpy() / scale, -1, 1)
        np.testing.assert_allclose(env.physics.ctrl, share, atol=1e-6)
        expected = np.array(progress(name, before, env.physics.qpos[:, :2]))
        expected += constant - cost * (share**2).sum(1)
        np.testing.assert_allclose(step.reward.flatten(), expected, atol=1e-5)


@every_case
def test_the_observation_is_the_state(name: str, preset: str) -> None:
    whole = PUBLISHED[name, preset][3]
    env = start(name, preset)
    for time in range(20):
        step = step_all(env, 10.0 * STREAMS.normal(f"action {time}", 2, (2, 8)))
    state = np.concatenate((env.physics.qpos, env.physics.qvel), 1)
    expected = state if whole else state[:, 2:]
    assert expected.shape == (4, 29 if whole else 27) == (4, env.spec.observation_size)
    np.testing.assert_array_equal(step.obs.flatten(0, 1), expected.astype(np.float32))


@every_case
def test_ends_where_the_torso_is_too_low_or_too_high(name: str, preset: str) -> None:
    """The torso is put at heights around the limits, at rest in the air; below 0 upwards."""
    healthy = PUBLISHED[name, preset][2]
    low, high = healthy or (0.2, 1.0)
    env = start(name, preset)
    heights = np.array([low - 0.03, low + 0.03, high - 0.03, high + 0.03])
    # Without the ground, the body falls by 12 mm in a step.
    physics = env.physics
    physics.expand("geom_conaffinity")[:] = 0
    qpos = np.tile(physics.model.qpos0, (4, 1))
    qpos[:, 2] = heights
    qpos[:, 7:] = [0, 1, 0, -1, 0, -1, 0, 1]
    physics.reset(qpos, np.zeros((4, 14)))
    step = step_all(env, torch.zeros(2, 2, 8))
    np.testing.assert_allclose(physics.qpos[:, 2], heights - 0.5 * 9.81 * 0.05**2, atol=2e-3)
    expected = [True, False, False, True] if healthy else [False] * 4
    assert step.terminated.flatten().tolist() == expected
    assert torch.isfinite(step.reward).all()


def test_a_height_on_the_limit_is_allowed() -> None:
    env = start(DIR, "pearl-2019")
    env.physics.qpos[:, 2] = [0.2, 1.0, np.nextafter(0.2, 0), np.nextafter(1.0, 2)]
    assert env.body.unhealthy is not None
    assert env.body.unhealthy(env.physics).tolist() == [False, False, True, True]


def test_forwards_and_backwards() -> None:
    for preset in ("promp-2019", "maml-2017", "pearl-2019-fwd-back"):
        distribution, _ = build(DIR, envs.preset(DIR, preset))
        held_out = distribution.held_out(3)
        assert held_out.task_id.tolist() == [0, 1, 0]
        assert held_out.parameter["heading"].tolist() == [[-1, 0], [1, 0], [-1, 0]]
        drawn = distribution.sample(2000, STREAMS)
        assert torch.unique(drawn.parameter["heading"], dim=0).tolist() == [[-1, 0], [1, 0]]
        assert torch.equal(drawn.task_id, (drawn.parameter["heading"][:, 0] == 1).long())
        assert abs(drawn.task_id.float().mean() - 0.5) < 5 * 0.5 / 2000**0.5


def test_headings_of_the_plane() -> None:
    for preset in ("promp-2019-plane", "pearl-2019"):
        drawn = build(DIR, envs.preset(DIR, preset))[0].sample(2000, STREAMS)
        heading = drawn.parameter["heading"].double()
        assert (drawn.task_id == -1).all()
        assert (heading.norm(dim=-1) - 1).abs().max() < 1e-6
        assert_uniform(torch.atan2(heading[:, 1], heading[:, 0]) / (2 * np.pi) + 0.5)


def assert_uniform(share: Tensor) -> None:
    """By the Kolmogorov-Smirnov statistic, whose value at 1e-6 is 2.7 / sqrt(n)."""
    ordered, n = share.double().sort().values, len(share)
    steps = torch.arange(1, n + 1) / n
    distance = torch.maximum((steps - ordered).abs(), (ordered - steps + 1 / n).abs()).max()
    assert distance < 2.7 / n**0.5


@pytest.mark.parametrize("preset", ["promp-2019", "pearl-2019"])
def test_goals_are_uniform_in_the_disc(preset: str) -> None:
    config: Any = envs.preset(GOAL, preset)
    distribution, _ = build(GOAL, replace(config, num_train_tasks=0, num_test_tasks=0))
    goal = distribution.sample(2000, STREAMS).parameter["goal"]
    distance = goal.double().norm(dim=-1)
    assert distance.max() <= 3.0
    assert_uniform((distance / 3.0) ** 2)
    assert_uniform(torch.atan2(goal[:, 1], goal[:, 0]) / (2 * np.pi) + 0.5)


def test_goals_are_uniform_in_the_square() -> None:
    goal = build(GOAL, envs.preset(GOAL, "maml-2017"))[0].sample(2000, STREAMS).parameter["goal"]
    assert_uniform((goal[:, 0] + 3.0) / 6.0)
    assert_uniform((goal[:, 1] + 3.0) / 6.0)
    assert abs(np.corrcoef(goal.T.numpy())[0, 1]) < 5 / 2000**0.5


@pytest.mark.parametrize("disc", [False, True])
def test_shifted_goals_lie_beyond_the_others(disc: bool) -> None:
    distribution, _ = build(GOAL, AntGoalConfig(disc=disc, radius=2.0))
    goal = distribution.held_out(2000, "shifted").parameter["goal"].double()
    distance = goal.norm(dim=-1) if disc else goal.abs().amax(-1)
    assert_uniform(distance - 2.0)
    assert (torch.atan2(goal[:, 1], goal[:, 0]).sin() > 0).float().mean() == pytest.approx(
        0.5, abs=5 * 0.5 / 2000**0.5
    )


def test_pearls_list_of_goals() -> None:
    distribution, _ = build(GOAL, envs.preset(GOAL, "pearl-2019"))
    drawn, held_out = distribution.sample(5000, STREAMS), distribution.held_out(30)
    assert torch.unique(drawn.task_id).tolist() == list(range(150))
    assert held_out.task_id.tolist() == list(range(150, 180))
    train = {tuple(goal) for goal in drawn.parameter["goal"].tolist()}
    test = {tuple(goal) for goal in held_out.parameter["goal"].tolist()}
    assert (len(train), len(test), len(train & test)) == (150, 30, 0)


def test_the_lower_limit_is_below_the_upper_one() -> None:
    for kind in (AntConfig, AntDirConfig, AntGoalConfig):
        with pytest.raises(ValueError, match=rf"{kind.__name__}.highest must be above lowest"):
            replace(kind(), lowest=1.0)
